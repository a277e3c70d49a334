package recorder

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	meaning "telemetryd/internal/drive"
	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// stalling is a store whose disk stands still once.
type stalling struct {
	*store
	from, stall time.Duration
}

func (s *stalling) AppendAll(entries []spool.Entry) ([]spool.Record, error) {
	if s.stall > 0 && time.Since(s.began) >= s.from {
		time.Sleep(s.stall)
		s.stall = 0
	}
	return s.store.AppendAll(entries)
}

// A disk that stands still for two minutes is no vehicle that does: what was read meanwhile
// is judged before the time that has passed.
func TestStalledDiskIsNoParking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stalling{&store{began: time.Now()}, time.Minute, 2 * time.Minute}
		vehicle := meaning.New(meaning.Config{Trips: meaning.Trips{NewID: func() string { return "trip" }, EndAfter: time.Minute}, Driving: meaning.Driving{OverspeedKMH: 40, OverspeedFor: 5 * time.Second}})
		r := New(Config{VehicleID: "van-1", Clock: ofTest(s.store), Store: s, Meaning: vehicle, Interval: 5 * time.Second, Health: s, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.Run(ctx) })
		for range 300 {
			x := telemetry.Reading{Arrived: time.Since(s.began)}
			x.Add("vehicle_speed_kmh", 50)
			r.Deliver(x)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		cancel()
		running.Wait()
		for _, kind := range []string{"parked", "trip_end", "overspeed_end"} {
			if told := strings.Count(strings.Join(s.got, "\n"), `"type":"`+kind+`"`); told != 0 {
				t.Errorf("%s is told %d times of a vehicle that drives on", kind, told)
			}
		}
		if told := strings.Count(strings.Join(s.got, "\n"), `"vehicle_speed_kmh":50`); told != 300 {
			t.Errorf("%d of 300 values are recorded", told)
		}
	})
}
