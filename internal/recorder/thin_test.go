package recorder

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"telemetryd/internal/telemetry"
)

// While values are to be few, each signal has one every 15 s, in batches of a minute, each
// in time to be live; events are as ever. Then all returns.
func TestFew(t *testing.T) {
	var few atomic.Bool
	recordingFew(t, few.Load, func(r *Recorder, s *store, stop func()) {
		drive := func(seconds int) (batches []string) {
			before := len(s.got)
			for i := range seconds * 5 {
				reading := telemetry.Reading{Arrived: r.Clock.Uptime()}
				reading.Add("vehicle_speed_kmh", 50)
				if i%50 == 0 { // every 10 s
					reading.Add("fuel_level_pct", 70)
				}
				r.Deliver(reading)
				if i%500 == 250 {
					r.Event(telemetry.Event{Type: "bell"})
				}
				time.Sleep(200 * time.Millisecond)
			}
			synctest.Wait()
			return s.got[before:]
		}
		count := func(batches []string, what string) int { return strings.Count(strings.Join(batches, "\n"), what) }
		drive(5) // what came before
		few.Store(true)
		drive(7)
		got := drive(600)
		if speeds, fuels, bells := count(got, "vehicle_speed_kmh"), count(got, "fuel_level_pct"), count(got, `"bell"`); speeds < 38 || speeds > 41 || fuels < 28 || fuels > 41 || bells != 6 {
			t.Errorf("%d speeds, %d fuel levels, %d events in 10 minutes", speeds, fuels, bells)
		}
		if n := count(got, `"samples"`); n < 9 || n > 10 {
			t.Errorf("%d batches in 10 minutes", n)
		}
		few.Store(false)
		drive(60) // the open batch
		got = drive(60)
		if speeds, batches := count(got, "vehicle_speed_kmh"), count(got, `"samples"`); speeds < 275 || batches < 11 {
			t.Errorf("%d speeds in %d batches in a minute after that", speeds, batches)
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
