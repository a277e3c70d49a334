package gps

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"telemetryd/internal/port"
	"telemetryd/internal/telemetry"
	"telemetryd/sim"
)

// A live fix is delivered soon after its last byte, by the truth log of a virtual
// receiver on a real pty; and what is learned of the time is right.
func TestLatencyBehindTruth(t *testing.T) {
	for _, test := range []struct {
		name string
		gps  sim.GPSConfig
		n    int
	}{
		{"1 Hz at 9600 baud", sim.GPSConfig{Listen: "pty", Rate: 1, Baud: 9600}, 25}, // the first five teach the cadence
		{"5 Hz at 38400 baud", sim.GPSConfig{Listen: "pty", Rate: 5, Baud: 38400}, 50},
		{"10 Hz at 115200 baud", sim.GPSConfig{Listen: "pty", Rate: 10, Baud: 115200}, 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			sent := map[string]time.Time{} // last byte, by time of fix
			v, err := sim.Start(t.Context(), sim.Config{Seed: 1, GPS: test.gps, OnTruth: func(x sim.Truth) {
				mu.Lock()
				defer mu.Unlock()
				sent[x.FixTime] = x.T
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			a, err := port.Parse(v.GPSAddress(), "serial")
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			uptime := func() time.Duration { return time.Since(start) }
			clock := telemetry.NewClock(telemetry.ClockConfig{BootID: "boot", Uptime: uptime, System: func() telemetry.SystemTime { return telemetry.SystemTime{} }})
			got := map[string]time.Time{}
			ctx, stop := context.WithCancel(t.Context())
			var running sync.WaitGroup
			enough := make(chan struct{})
			running.Go(func() {
				_ = Run(ctx, Config{Address: &a, Uptime: uptime, Time: clock.Fix, Deliver: func(r telemetry.Reading) {
					mu.Lock()
					defer mu.Unlock()
					key := telemetry.FormatTime(r.FixTime)
					if _, twice := got[key]; !twice {
						got[key] = time.Now()
					}
					if len(got) == test.n {
						close(enough)
					}
				}})
			})
			select {
			case <-enough:
			case <-time.After(40 * time.Second):
				t.Error("too few fixes")
			}
			stop()
			running.Wait()
			mu.Lock()
			defer mu.Unlock()
			var late []time.Duration
			for key, at := range got {
				if last, ok := sent[key]; ok {
					late = append(late, at.Sub(last))
				}
			}
			if len(late) < test.n/2 {
				t.Fatalf("%d of %d fixes are in the truth log", len(late), len(got))
			}
			slices.Sort(late)
			t.Logf("behind the last byte: median %v, largest %v", late[len(late)/2].Round(time.Millisecond), late[len(late)-1].Round(time.Millisecond))
			if late[len(late)/2] > 200*time.Millisecond {
				t.Errorf("median %v", late[len(late)/2])
			}
			if zero, q := clock.Zero(); q != telemetry.GPS || zero.Sub(start).Abs() > 500*time.Millisecond {
				t.Errorf("the receiver's time is off by %v, clock %s", zero.Sub(start), q)
			} else {
				t.Logf("the receiver's time is off by %v", zero.Sub(start).Round(time.Millisecond))
			}
		})
	}
}
