package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"telemetryd/sim"
)

// The whole daemon beside a car whose key is off for a while: it finds out, leaves the bus alone
// - also when its adapter is pulled out and when it is started again itself - says so, and
// has values within 10 s of when voltage or receiver can tell that the engine was started.
func TestParkedDaemon(t *testing.T) {
	const off = 45 * time.Second
	for _, test := range []struct {
		name     string
		sim      sim.Config
		settings string
		restarts bool
		tells    time.Duration // after the engine's start: it moves off four seconds later
		reason   string
	}{
		{"by voltage", sim.Config{}, "", true, 0, "voltage"},
		{"by the receiver", sim.Config{OBD: sim.OBDConfig{NoVoltage: true}, GPS: sim.GPSConfig{Listen: "tcp://127.0.0.1:0"}}, "probe: off", false, 4 * time.Second, "movement"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMosquitto(t)
			s := subscribe(t, m, "vehicles/van-1/#")
			c := test.sim
			c.OBD.Listen, c.KeyOff = "tcp://127.0.0.1:0", []sim.KeyOff{{For: off}}
			began := time.Now()
			v, err := sim.Start(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			started := began.Add(off + time.Second) // of the engine
			settings, state := filepath.Join(t.TempDir(), "telemetryd.yaml"), t.TempDir()
			if err := os.WriteFile(settings, []byte("parked: {after: 5s, idle: 5s, "+test.settings+"}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			gps := v.GPSAddress()
			if gps == "" {
				gps = "off"
			}
			run := func() *process {
				return startDaemon(t, m, vehicle{obd: v.OBDAddress(), gps: gps}, state, "--config", settings)
			}
			event := func(kind string) func([]message) bool {
				return func(ms []message) bool { _, there := find(ms, kind); return there }
			}
			daemon := run()
			s.await("parked", 25*time.Second, event("parked"))
			s.await("the status that says so", 5*time.Second, func(ms []message) bool { return lastState(ms) == "parked" })
			time.Sleep(time.Second) // what was under way on the bus may end
			before := v.BusTraffic()
			if test.restarts {
				if err := v.Inject("unplug", time.Second); err != nil {
					t.Fatal(err)
				}
				time.Sleep(4 * time.Second) // it is there again
				daemon.end(syscall.SIGTERM)
				daemon = run()
				s.await("parked from the start on", 10*time.Second, func(ms []message) bool { return lastState(ms) == "parked" })
			}
			time.Sleep(time.Until(started) - 2*time.Second)
			if now := v.BusTraffic(); now != before {
				t.Errorf("on the bus while parked: %+v, before %+v", now, before)
			}
			statuses := onTopic(s.messages(), "status")
			if last := statuses[len(statuses)-1]; last.State != "parked" || strings.Contains(last.Payload, "car_") {
				t.Errorf("the last status before the start: %s", last.Payload)
			}
			ms := s.await("the car's values", time.Until(started)+15*time.Second, func(ms []message) bool {
				for _, b := range onTopic(ms, "telemetry") {
					for _, sample := range b.Samples {
						if sample["vehicle_speed_kmh"] != nil {
							return true
						}
					}
				}
				return false
			})
			if took := time.Since(started); took > test.tells+10*time.Second {
				t.Errorf("the first values are at the broker %v after the engine's start", took)
			} else {
				t.Logf("the first values are at the broker %v after the engine's start", took)
			}
			woke, _ := find(ms, "unparked")
			if woke.Data["reason"] != test.reason {
				t.Errorf("woke: %v", woke.Data)
			}
			s.await("online", 5*time.Second, func(ms []message) bool { return lastState(ms) == "online" })
			daemon.end(syscall.SIGTERM)
		})
	}
}

// find is the first event of a type.
func find(ms []message, kind string) (message, bool) {
	for _, m := range onTopic(ms, "events") {
		if m.Type == kind {
			return m, true
		}
	}
	return message{}, false
}

// lastState is what the last status said.
func lastState(ms []message) string {
	state := ""
	for _, m := range onTopic(ms, "status") {
		state = m.State
	}
	return state
}
