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
	define := func(header, filter string) []OwnSignal {
		own, err := Define(Definition{Name: "battery_soc_pct", Unit: "%", Request: "220105", Header: header, Filter: filter, Formula: "AF/2", Max: 100, Rate: 2})
		if err != nil {
			t.Fatal(err)
		}
		return []OwnSignal{own}
	}
	near, far := define("7E4", ""), define("79B", "7BB")
	for _, test := range []struct {
		name string
		obd  sim.OBDConfig
		own  []OwnSignal
		also func(r *rig) bool
	}{
		{"MaxPIDs 3", sim.OBDConfig{Listen: "pty", ECUs: 2, MaxPIDs: 3}, near, nil},
		{"MaxPIDs 1", sim.OBDConfig{Listen: "pty", MaxPIDs: 1}, near, func(r *rig) bool { return r.rate(time.Second) > 40 }},
		{"refuses sets with 0C", sim.OBDConfig{Listen: "pty", Refuses: []byte{0x0C}}, near, nil},
		{"denies 5E", sim.OBDConfig{Listen: "pty", Denies: []byte{0x5E}}, near, func(r *rig) bool { return slices.Contains(r.conditions(), "pid_refused") }},
		{"no count digit", sim.OBDConfig{Listen: "pty", NoCountDigit: true, ECUs: 2}, near, nil},
		{"no count digit, not adaptive", sim.OBDConfig{Listen: "tcp://127.0.0.1:0", NoCountDigit: true, NoAdaptive: true}, near, nil},
		{"no filter", sim.OBDConfig{Listen: "pty", NoFilter: true}, near, nil},
		{"no ATSH", sim.OBDConfig{Listen: "pty", NoSetHeader: true}, nil, nil},
		{"no ATSH, own signal", sim.OBDConfig{Listen: "pty", NoSetHeader: true}, nil, nil},
		{"no headers", sim.OBDConfig{Listen: "pty", NoHeaders: true}, nil, nil},
		{"no headers, two ECUs", sim.OBDConfig{Listen: "pty", NoHeaders: true, ECUs: 2}, nil, func(r *rig) bool {
			return r.names()["engine_speed_rpm"] > 50 // the speed of both differs at times
		}},
		{"second ECU is slow", sim.OBDConfig{Listen: "pty", ECUs: 2, SlowSecond: 180 * time.Millisecond}, near, func(r *rig) bool { return r.names()["vehicle_speed_kmh"] > 30 }},
		{"29 bits", sim.OBDConfig{Listen: "pty", Protocol: '7', ECUs: 2}, define("18DAE4F1", ""), nil},
		{"battery asks for time", sim.OBDConfig{Listen: "pty", ECUs: 2, SlowBattery: 400 * time.Millisecond}, near, nil},
		{"battery of its own id", sim.OBDConfig{Listen: "pty", ECUs: 2, FarBattery: true}, far, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			signals := test.own
			if strings.HasSuffix(test.name, "own signal") {
				signals = near // which cannot be read: all others can
			}
			r := drive(t, test.obd, nil, 0, signals...)
			r.await("values", 30*time.Second, func() bool {
				names := r.names()
				return len(names) >= 25 && (test.own == nil || names["battery_soc_pct"] > 1) && names["engine_speed_rpm"] > 5 && (test.also == nil || test.also(r))
			})
			r.check()
		})
	}
}

// Values out of their range are refused and counted, and do not count as read.
func TestOutOfRange(t *testing.T) {
	own, err := Define(Definition{Name: "battery_soc_pct", Request: "220105", Header: "7E4", Formula: "AF/2", Max: 1, Rate: 5})
	if err != nil {
		t.Fatal(err)
	}
	r := drive(t, sim.OBDConfig{Listen: "pty"}, nil, 0, own)
	r.await("refused values", 20*time.Second, func() bool { return r.counters.Read().OutOfRange > 5 })
	if n := r.names()["battery_soc_pct"]; n > 0 {
		t.Errorf("%d values out of range", n)
	}
	r.check()
}

// rate is how many values came in the last span, per second.
func (r *rig) rate(span time.Duration) float64 {
	n := 0
	for _, count := range r.since(time.Now().Add(-span)) {
		n += count
	}
	return float64(n) / span.Seconds()
}

// Only the adapter's voltage is wanted: it is read, whatever the car does.
func TestVoltageAlone(t *testing.T) {
	r := drive(t, sim.OBDConfig{Listen: "pty"}, map[string]float64{"battery_voltage_v": 5}, 0)
	r.await("voltage", 20*time.Second, func() bool { return r.names()["battery_voltage_v"] > 10 })
	r.check()
}

// A car that is off at first, with signals of one's own, is read whole when it is
// switched on, and the adapter's memory is not written to meanwhile.
func TestOwnSignalsAndSilence(t *testing.T) {
	own, err := Define(Definition{Name: "battery_soc_pct", Unit: "%", Request: "220105", Header: "7E4", Formula: "AF/2", Max: 100, Rate: 2})
	if err != nil {
		t.Fatal(err)
	}
	r := driveFrom(t, 1, sim.OBDConfig{Listen: "pty", ECUs: 2}, []string{"ignition_off"}, 8*time.Second, nil, 0, own)
	r.await("the car is off", 20*time.Second, func() bool { return len(r.conditions()) > 0 })
	r.await("the fault has acted", 20*time.Second, func() bool { return len(r.vehicle.Pending()) == 0 })
	able := time.Now()
	r.await("values of both", 12*time.Second, func() bool {
		names := r.since(able)
		return names["battery_soc_pct"] > 1 && names["engine_speed_rpm"] > 5
	})
	r.check()
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
