package obd

import (
	"bytes"
	"context"
	"flag"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"telemetryd/internal/port"
	"telemetryd/internal/telemetry"
	"telemetryd/sim"
)

func TestMain(m *testing.M) {
	if config := os.Getenv("OBD_BENCH_SIM"); config != "" {
		runSim(config)
		return
	}
	flag.Parse()
	// Scenarios wait for wires most of the time; fuzzing does not.
	if flag.Lookup("test.fuzz").Value.String() == "" {
		if err := flag.Set("test.parallel", "16"); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

// rig is a virtual car and a reader on it.
type rig struct {
	t        *testing.T
	vehicle  *sim.Vehicle
	counters *Counters
	rates    *Rates
	control  *Control
	start    time.Time

	mu        sync.Mutex
	served    []sim.Truth
	health    []string
	delivered []telemetry.Reading
	events    []telemetry.Event
}

func (r *rig) Set(_ string, c telemetry.Condition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.health = append(r.health, c.Code)
}

func (r *rig) Clear(string, string) {}

func drive(t *testing.T, o sim.OBDConfig, rates map[string]float64, ceiling float64, own ...OwnSignal) *rig {
	t.Helper()
	return driveFaster(t, 10, o, rates, ceiling, own...)
}

// driveFaster is drive with so many seconds of driving a second.
func driveFaster(t *testing.T, speedup float64, o sim.OBDConfig, rates map[string]float64, ceiling float64, own ...OwnSignal) *rig {
	t.Helper()
	return driveFrom(t, speedup, o, nil, 0, rates, ceiling, own...)
}

// driveFrom is driveFaster with faults that act from the start on for d.
func driveFrom(t *testing.T, speedup float64, o sim.OBDConfig, faults []string, d time.Duration, rates map[string]float64, ceiling float64, own ...OwnSignal) *rig {
	t.Helper()
	r := &rig{t: t, counters: new(Counters), rates: new(Rates), control: new(Control), start: time.Now()}
	v, err := sim.Start(t.Context(), sim.Config{Seed: 1, Speedup: speedup, OBD: o, OnTruth: func(x sim.Truth) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.served = append(r.served, x)
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.vehicle = v
	for _, name := range faults {
		r.injectFor(name, d)
	}
	a, err := port.Parse(v.OBDAddress(), "serial", "tcp")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	var log bytes.Buffer
	done.Go(func() {
		Run(ctx, Config{Address: &a, Wanted: rates, Own: own, MaxRequests: ceiling, Health: r, Counters: r.counters, Rates: r.rates, Control: r.control,
			Uptime: func() time.Duration { return time.Since(r.start) },
			Deliver: func(x telemetry.Reading) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.delivered = append(r.delivered, x)
			},
			Event: func(e telemetry.Event) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.events = append(r.events, e)
			},
			Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	})
	t.Cleanup(func() {
		stop()
		done.Wait()
		v.Close()
		if t.Failed() {
			t.Logf("counters %+v\nlog:\n%s", r.counters.Read(), log.String())
		}
	})
	return r
}

// Every bus, over pty and TCP: values flow, and each is one that the car served.
func TestEveryBus(t *testing.T) {
	for _, test := range []struct {
		name string
		obd  sim.OBDConfig
	}{
		{"CAN 11 bit", sim.OBDConfig{Listen: "pty", Protocol: '6', ECUs: 2}},
		{"CAN 29 bit", sim.OBDConfig{Listen: "tcp://127.0.0.1:0", Protocol: '7', ECUs: 2}},
		{"KWP", sim.OBDConfig{Listen: "pty", Protocol: '5'}},
		{"ISO 9141", sim.OBDConfig{Listen: "pty", Protocol: '3', ECUs: 2}},
		{"J1850 PWM", sim.OBDConfig{Listen: "pty", Protocol: '1', ECUs: 2}},
		{"J1850 VPW", sim.OBDConfig{Listen: "tcp://127.0.0.1:0", Protocol: '2'}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := drive(t, test.obd, nil, 0)
			r.await("20 signals", 30*time.Second, func() bool {
				r.mu.Lock()
				defer r.mu.Unlock()
				seen := map[string]bool{}
				for _, x := range r.delivered {
					for _, f := range x.Fields {
						seen[f.Name] = true
					}
				}
				return len(seen) >= 20
			})
			r.check()
		})
	}
}
