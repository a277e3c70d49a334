package recorder

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"telemetryd/internal/telemetry"
)

// drive delivers so many seconds of a speed at 5 Hz and a fuel level at 0.1 Hz, and an event
// every 100 s.
func drive(r *Recorder, seconds int) {
	for i := range seconds * 5 {
		reading := telemetry.Reading{Arrived: r.Clock.Uptime()}
		reading.Add("vehicle_speed_kmh", 50)
		if i%50 == 0 {
			reading.Add("fuel_level_pct", 70)
		}
		r.Deliver(reading)
		if i%500 == 250 {
			r.Event(telemetry.Event{Type: "bell"})
		}
		time.Sleep(200 * time.Millisecond)
	}
	synctest.Wait()
}

func count(records []string, what string) int {
	return strings.Count(strings.Join(records, "\n"), what)
}

// While values are to be few, each signal has one every 15 s or at its next reading, in
// batches of a minute; events are as ever.
func TestFew(t *testing.T) {
	recordingFew(t, func() bool { return true }, func(r *Recorder, s *store, stop func()) {
		drive(r, 600)
		stop()
		if speeds, fuels, bells := count(s.got, "vehicle_speed_kmh"), count(s.got, "fuel_level_pct"), count(s.got, `"bell"`); speeds != 40 || fuels != 30 || bells != 6 {
			t.Errorf("%d speeds, %d fuel levels, %d events in 10 minutes", speeds, fuels, bells)
		}
		if n := count(s.got, `"samples"`); n < 10 || n > 11 { // the reading at its end is of either
			t.Errorf("%d batches in 10 minutes", n)
		}
	})
}

// It begins and ends while readings come.
func TestFewForAWhile(t *testing.T) {
	var few atomic.Bool
	recordingFew(t, few.Load, func(r *Recorder, s *store, stop func()) {
		for _, now := range []bool{false, true, false} {
			few.Store(now)
			drive(r, 65) // the open batch is closed
			before := len(s.got)
			drive(r, 120)
			speeds, batches := count(s.got[before:], "vehicle_speed_kmh"), count(s.got[before:], `"samples"`)
			if now != (speeds < 20) || now != (batches < 4) || !now && (speeds < 570 || batches < 23) {
				t.Errorf("few %v: %d speeds in %d batches", now, speeds, batches)
			}
		}
	})
}

// A batch whose newest reading becomes old is closed before it can no longer be live.
func TestQuiet(t *testing.T) {
	recordingFew(t, func() bool { return true }, func(r *Recorder, s *store, stop func()) {
		time.Sleep(100 * time.Second)
		for range 2 {
			reading := telemetry.Reading{Arrived: r.Clock.Uptime()}
			reading.Add("vehicle_speed_kmh", 50)
			r.Deliver(reading)
			time.Sleep(14 * time.Second) // the second is one too many
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if len(s.got) != 1 || s.at[0] < 120*time.Second || s.at[0] > 121*time.Second {
			t.Errorf("%d batches at %v", len(s.got), s.at)
		}
	})
}
