package sim

import (
	"testing"
	"time"
)

// The key is off from a standstill on for as long as told; then the engine is started, and the
// drive goes on where it ended.
func TestKeyOff(t *testing.T) {
	c := Config{Seed: 3, KeyOff: []KeyOff{{From: 2 * time.Minute, For: 8 * time.Hour, Ignition: time.Minute}}}
	d, plain := c.newDrive(), newDrive(3)
	stands := 2 * time.Minute
	for plain.at(stands).speed > 0 {
		stands += stepTime
	}
	before := plain.at(stands)
	for _, test := range []struct {
		at               time.Duration
		ignition, engine bool
		low, high        float64
	}{
		{stands - time.Second, true, true, 13.9, 14.2},
		{stands + 30*time.Second, true, false, 12.6, 13.2},
		{stands + time.Hour, false, false, 12.6, 12.6},
		{stands + 8*time.Hour + 500*time.Millisecond, true, false, 10.6, 10.6},
		{stands + 8*time.Hour + 3*time.Second, true, true, 13.9, 14.2},
	} {
		s := d.at(test.at)
		if s.ignition != test.ignition || s.engine != test.engine || s.volts < test.low-1e-9 || s.volts > test.high {
			t.Errorf("%v: ignition %v, engine %v, %v V", test.at, s.ignition, s.engine, s.volts)
		}
		if !test.engine && (s.speed != 0 || s.place != before.place) {
			t.Errorf("%v: it moves: %v m/s at %v, stood at %v", test.at, s.speed, s.place, before.place)
		}
	}
	after := stands + 8*time.Hour + cranking + idling
	for _, further := range []time.Duration{0, time.Minute, time.Hour} {
		s, want := d.at(after+further), plain.at(stands+further)
		if s.path != want.path || s.speed != want.speed || s.rpm != want.rpm {
			t.Errorf("%v after the start: %v m at %v m/s, want %v at %v", further, s.path, s.speed, want.path, want.speed)
		}
	}
	if s := d.at(after + 5*time.Second); s.runTime > 8 {
		t.Errorf("the engine runs for %v s, want since it was started", s.runTime)
	}
}

// 24 V, hybrids, electric cars.
func TestElectrics(t *testing.T) {
	truck := Config{KeyOff: []KeyOff{{For: time.Hour}}, Electrics: Electrics{System: 24, Drain: 0.1}}.newDrive()
	if off, on := truck.at(30*time.Minute).volts, truck.at(time.Hour+10*time.Second).volts; off < 25.09 || off > 25.11 || on < 28 || on > 28.4 {
		t.Errorf("a truck has %v V at rest and %v V running", off, on)
	}
	hybrid, electric := Config{Electrics: Electrics{Powertrain: "hybrid"}}.newDrive(), Config{Electrics: Electrics{Powertrain: "electric"}}.newDrive()
	stood, turned := 0, 0
	for at := time.Duration(0); at < 10*time.Minute; at += time.Second {
		h, e := hybrid.at(at), electric.at(at)
		if e.rpm != 0 || e.ignition && e.volts != voltsOn || h.ignition && h.volts < 13.9 {
			t.Fatalf("%v: electric %v rpm, %v V; hybrid %v V", at, e.rpm, e.volts, h.volts)
		}
		if h.ignition && h.rpm == 0 {
			stood++
		} else if h.rpm > 0 {
			turned++
		}
	}
	if stood == 0 || turned == 0 {
		t.Errorf("the hybrid's engine stood for %d s and turned for %d s", stood, turned)
	}
	car := newCar(electric, driveClock{start: time.Now(), speedup: 1}, OBDConfig{Protocol: '6', ECUs: 1})
	for _, pid := range car.ecus[0].pids {
		if pid == 0x0C {
			t.Error("an electric car tells its engine's speed")
		}
	}
}
