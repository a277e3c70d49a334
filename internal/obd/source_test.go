package obd

import (
	"context"
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

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a virtual car and a reader on it.
type rig struct {
	t       *testing.T
	mu      sync.Mutex
	served  []sim.Truth
	health  []string
	got     chan telemetry.Reading
	vehicle *sim.Vehicle
}

func (r *rig) Set(_ string, c telemetry.Condition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.health = append(r.health, c.Code)
}

func (r *rig) Clear(string, string) {}

func drive(t *testing.T, o sim.OBDConfig, rates map[string]float64, ceiling float64) *rig {
	t.Helper()
	r := &rig{t: t, got: make(chan telemetry.Reading, 1000)}
	start := time.Now()
	uptime := func() time.Duration { return time.Since(start) }
	v, err := sim.Start(t.Context(), sim.Config{Seed: 1, Speedup: 10, OBD: o, OnTruth: func(x sim.Truth) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.served = append(r.served, x)
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.vehicle = v
	a, err := port.Parse(v.OBDAddress(), "serial", "tcp")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		Run(ctx, Config{Address: &a, Wanted: rates, MaxRequests: ceiling, Uptime: uptime, Health: r,
			Deliver: func(x telemetry.Reading) {
				select {
				case r.got <- x:
				default:
				}
			}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	})
	t.Cleanup(func() {
		stop()
		done.Wait()
		v.Close()
	})
	return r
}

// wasServed reports whether the car served exactly this value under this name.
func (r *rig) wasServed(f telemetry.Field) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.served {
		if v, ok := s.Values[f.Name]; ok && (telemetry.Value{}) != f.Value {
			if x, isNumber := f.Value.Float(); isNumber {
				switch v := v.(type) {
				case float64:
					if v == x {
						return true
					}
				case int:
					if float64(v) == x {
						return true
					}
				}
			} else if b, isBool := v.(bool); isBool && telemetry.Bool(b) == f.Value {
				return true
			}
		}
	}
	return false
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
			r := drive(t, test.obd, nil, 0)
			seen := map[string]bool{}
			timeout := time.After(30 * time.Second)
			for len(seen) < 20 {
				select {
				case x := <-r.got:
					for _, f := range x.Fields {
						seen[f.Name] = true
						if !r.wasServed(f) {
							t.Errorf("%s=%v was never served", f.Name, f.Value)
						}
					}
				case <-timeout:
					t.Fatalf("only %d signals: %v; health %v", len(seen), seen, r.health)
				}
			}
		})
	}
}
