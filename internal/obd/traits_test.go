package obd

import (
	"slices"
	"strings"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
	"telemetryd/sim"
)

// Cars and clones that lack something: values flow all the same, each true.
func TestTraits(t *testing.T) {
	own, err := Define(Definition{Name: "battery_soc_pct", Unit: "%", Request: "220105", Header: "7E4", Formula: "AF/2", Max: 100, Rate: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		obd  sim.OBDConfig
		also func(r *rig) bool
	}{
		{"MaxPIDs 3", sim.OBDConfig{Listen: "pty", ECUs: 2, MaxPIDs: 3}, nil},
		{"MaxPIDs 1", sim.OBDConfig{Listen: "pty", MaxPIDs: 1}, nil},
		{"refuses sets with 0C", sim.OBDConfig{Listen: "pty", Refuses: []byte{0x0C}}, nil},
		{"denies 5E", sim.OBDConfig{Listen: "pty", Denies: []byte{0x5E}}, func(r *rig) bool { return slices.Contains(r.conditions(), "pid_refused") }},
		{"no count digit", sim.OBDConfig{Listen: "pty", NoCountDigit: true, ECUs: 2}, nil},
		{"no count digit, not adaptive", sim.OBDConfig{Listen: "tcp://127.0.0.1:0", NoCountDigit: true, NoAdaptive: true}, nil},
		{"no filter", sim.OBDConfig{Listen: "pty", NoFilter: true}, nil},
		{"29 bits", sim.OBDConfig{Listen: "pty", Protocol: '7', ECUs: 2}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			signals := []OwnSignal{own}
			if test.obd.Protocol == '7' {
				signals = nil
			}
			r := drive(t, test.obd, nil, 0, signals...)
			r.await("values", 30*time.Second, func() bool {
				names := r.names()
				return len(names) >= 25 && (signals == nil || names["battery_soc_pct"] > 1) && names["engine_speed_rpm"] > 5 && (test.also == nil || test.also(r))
			})
			r.check()
		})
	}
}

// names counts the values by signal.
func (r *rig) names() map[string]int { return r.since(r.start) }

// What a workshop reads comes as events: codes of each kind, the freeze frame of the
// stored one, the lamp, and who the vehicle is; on CAN and on a K-line.
func TestVehicleEvents(t *testing.T) {
	for _, protocol := range []byte{'6', '5'} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			r := drive(t, sim.OBDConfig{Listen: "pty", Protocol: protocol, ECUs: 2}, nil, 0)
			event := func(kind string) (found []telemetry.Event) {
				r.mu.Lock()
				defer r.mu.Unlock()
				for _, e := range r.events {
					if e.Type == kind {
						found = append(found, e)
					}
				}
				return found
			}
			r.await("events", 60*time.Second, func() bool {
				return len(event("freeze_frame")) > 0 && len(event("vehicle_identity")) > 0 && len(event("mil_changed")) > 0 && len(event("dtc_appeared")) >= 4
			})
			var codes []string
			for _, e := range event("dtc_appeared") {
				d := e.Data.(CodeData)
				codes = append(codes, string(d.Kind)+" "+d.Code)
				if !d.FirstRead || d.ECU == "" {
					t.Errorf("%+v", d)
				}
			}
			slices.Sort(codes)
			if got := strings.Join(codes, ", "); got != "pending P0171, permanent P0301, stored P0301, stored P0420" {
				t.Errorf("codes: %s", got)
			}
			if d := event("vehicle_identity")[0].Data.(identity); d.VIN != "WVWZZZ1KZ8W123456" || d.ECUName != "ECM-EngineControl" || !slices.Equal(d.Calibrations, []string{"SIM20L-R05-A0001"}) {
				t.Errorf("identity %+v", d)
			}
			f := event("freeze_frame")[0].Data.(FreezeFrameData)
			if f.Code != "P0301" || f.Values["engine_speed_rpm"].String() != "2140" || f.Values["coolant_temperature_c"].String() != "88" {
				t.Errorf("freeze frame %+v", f)
			}
			if d := event("mil_changed")[0].Data.(LampData); !d.On || d.Count != 2 {
				t.Errorf("lamp %+v", d)
			}
		})
	}
}
