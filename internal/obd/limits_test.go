package obd

import (
	"math"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"telemetryd/sim"
)

// How long TestCeiling runs: OBD_CEILING_FOR=5m for the long form.
func ceilingFor(t *testing.T) time.Duration {
	if s := os.Getenv("OBD_CEILING_FOR"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	return 20 * time.Second
}

// With the default ceiling: no second sees more than 20 requests of any kind on the
// bus; on CAN every wanted rate is reached within 2 %, and where the budget is
// too small each signal gets the same part of what was wanted.
func TestCeiling(t *testing.T) {
	const ceiling = 20
	span := ceilingFor(t)
	for _, test := range []struct {
		name   string
		obd    sim.OBDConfig
		wanted map[string]float64
		enough bool
	}{
		{"CAN", sim.OBDConfig{Listen: "pty", Protocol: '6', ECUs: 2, Baud: 115200}, map[string]float64{
			"vehicle_speed_kmh": 10, "engine_speed_rpm": 10, "engine_load_pct": 5, "throttle_position_pct": 5, "maf_g_s": 2,
			"coolant_temperature_c": 1, "fuel_level_pct": 0.5, "odometer_km": 0.5}, true},
		{"K-line", sim.OBDConfig{Listen: "pty", Protocol: '5', Baud: 115200}, map[string]float64{
			"vehicle_speed_kmh": 20, "engine_speed_rpm": 20, "engine_load_pct": 10, "throttle_position_pct": 10, "maf_g_s": 5,
			"coolant_temperature_c": 5}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var requests []time.Time // all that went over the bus, whoever answered
			test.obd.OnRequest = func(at time.Time, _ string) {
				mu.Lock()
				defer mu.Unlock()
				requests = append(requests, at)
			}
			r := driveFaster(t, 1, test.obd, test.wanted, ceiling) // in ten minutes it parks
			r.await("first values", 20*time.Second, r.after(r.start, 40))
			began := time.Now()
			time.Sleep(span)
			r.check()
			r.mu.Lock()
			defer r.mu.Unlock()
			mu.Lock()
			defer mu.Unlock()

			most := 0
			for i, at := range requests {
				j, _ := slices.BinarySearchFunc(requests, at.Add(time.Second), time.Time.Compare)
				most = max(most, j-i)
			}
			if most > ceiling {
				t.Errorf("%d requests within a second", most)
			}
			count, total := map[string]float64{}, 0.0
			for _, got := range r.delivered {
				if at := r.start.Add(got.Arrived); at.After(began) && at.Before(began.Add(span)) {
					for _, f := range got.Fields {
						count[f.Name]++
						total++
					}
				}
			}
			wanted := 0.0
			for _, rate := range test.wanted {
				wanted += rate
			}
			share := min(1, total/span.Seconds()/wanted)
			if test.enough {
				share = 1
			}
			for name, rate := range test.wanted {
				got := count[name] / span.Seconds()
				// One reading more or less at the ends of the span is no deviation.
				if want := rate * share; math.Abs(got-want) > 0.02*want+1/span.Seconds() {
					t.Errorf("%s: %.3f Hz, want %.3f", name, got, want)
				}
			}
			t.Logf("%v: %d requests, at most %d in any second, %.1f of %.1f values a second", span, len(requests), most, total/span.Seconds(), wanted)
		})
	}
}
