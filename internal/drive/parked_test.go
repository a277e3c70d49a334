package drive

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
)

// parkedRide feeds a Drive second by second.
type parkedRide struct {
	t      *testing.T
	d      *Drive
	now    time.Duration
	events []telemetry.Event
	kept   map[string]int // values, by signal
}

// began is when the rides of these tests begin, since boot.
const began = 1000 * time.Second

func newRide(t *testing.T, c Config) *parkedRide {
	t.Helper()
	return &parkedRide{t: t, d: New(c), now: began, kept: map[string]int{}}
}

// values is a reading; numbers by signal.
type values map[string]float64

// give delivers a reading of one source.
func (r *parkedRide) give(v values) {
	reading := telemetry.Reading{Arrived: r.now}
	for name, x := range v {
		if !reading.Add(name, x) {
			r.t.Fatalf("%s %v is refused", name, x)
		}
	}
	kept, events := r.d.Observe(reading)
	r.events = append(r.events, events...)
	for _, f := range kept.Fields {
		r.kept[f.Name]++
	}
}

// run lets so much time pass. Each second it delivers what each source says, where it
// says something.
func (r *parkedRide) run(d time.Duration, sources ...func(since time.Duration) values) {
	r.t.Helper()
	for from := r.now; r.now-from < d; r.now += time.Second {
		r.events = append(r.events, r.d.Pass(r.now)...)
		for _, s := range sources {
			if v := s(r.now - from); len(v) > 0 {
				r.give(v)
			}
		}
	}
}

// always says the same at each time.
func always(v values) func(time.Duration) values { return func(time.Duration) values { return v } }

// volts are ATRV each two seconds.
func volts(level func(since time.Duration) float64) func(time.Duration) values {
	return func(since time.Duration) values {
		if since%(2*time.Second) != 0 {
			return nil
		}
		return values{"battery_voltage_v": level(since)}
	}
}

func steady(x float64) func(time.Duration) values {
	return volts(func(time.Duration) float64 { return x })
}

func (r *parkedRide) parked() bool {
	p, _ := r.d.Mode().Parked()
	return p
}

// happened lists the events of the types, and when since the parkedRide began.
func (r *parkedRide) happened(types ...string) (at []time.Duration, data []any) {
	for _, e := range r.events {
		if slices.Contains(types, e.Type) {
			at, data = append(at, e.At-began), append(data, e.Data)
		}
	}
	return at, data
}

// within fails the test unless got is from low to high.
func (r *parkedRide) within(what string, got, low, high time.Duration) {
	r.t.Helper()
	if got < low || got > high {
		r.t.Errorf("%s after %v, want %v to %v", what, got, low, high)
	}
}

// The everyday: driven, switched off, started again; by cars of every kind. Nothing is
// known of the car while it is parked but its voltage.
func TestParkedAndWoken(t *testing.T) {
	for _, test := range []struct {
		name     string
		config   ParkedConfig
		running  values // of the car; none: it answers no question
		on, rest float64
		reason   string
	}{
		{"12 V", ParkedConfig{}, values{"engine_speed_rpm": 800, "vehicle_speed_kmh": 0}, 14.1, 12.6, "voltage"},
		{"24 V, found", ParkedConfig{}, values{"engine_speed_rpm": 600, "vehicle_speed_kmh": 0}, 28.2, 25.2, "voltage"},
		{"24 V, told", ParkedConfig{System: 24}, values{"engine_speed_rpm": 600, "vehicle_speed_kmh": 0}, 28.2, 25.2, "voltage"},
		{"smart alternator that charges at the start", ParkedConfig{}, values{"engine_speed_rpm": 800}, 12.8, 12.2, "voltage"},
		{"hybrid", ParkedConfig{Powertrain: Hybrid}, values{"engine_speed_rpm": 0, "vehicle_speed_kmh": 0}, 14.4, 12.6, "voltage"},
		{"electric, no engine speed", ParkedConfig{Powertrain: Electric}, values{"vehicle_speed_kmh": 0}, 14.4, 12.8, "converter"},
		{"electric that answers nothing", ParkedConfig{Powertrain: Electric}, nil, 14.4, 12.8, "converter"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRide(t, Config{Parked: test.config})
			r.run(20*time.Minute, always(test.running), steady(test.on))
			if r.parked() {
				t.Fatal("parked while it is in use")
			}
			off := r.now - began
			r.run(24*time.Hour, steady(test.rest))
			at, data := r.happened("parked", "unparked")
			if len(at) != 1 {
				t.Fatalf("%d changes in a day at rest: %v %v", len(at), at, data)
			}
			r.within("parked", at[0]-off, time.Minute, 64*time.Second)
			started := r.now - began
			r.run(30*time.Second, steady(test.on))
			at, data = r.happened("unparked")
			if len(at) != 1 {
				t.Fatalf("woke %d times", len(at))
			}
			r.within("woken", at[0]-started, 0, 4*time.Second)
			if w := data[0].(Woke); w.Reason != test.reason || w.Voltage != test.on || w.Resting != test.rest {
				t.Errorf("%+v", w)
			}
		})
	}
}

// What looks like parking and is none, or the other way round.
func TestParkedDoubts(t *testing.T) {
	idle := values{"engine_speed_rpm": 0, "vehicle_speed_kmh": 0}
	for _, test := range []struct {
		name    string
		config  ParkedConfig
		sources []func(time.Duration) values
		lasts   time.Duration
		parked  bool
	}{
		{"start-stop at a light", ParkedConfig{}, []func(time.Duration) values{always(idle), steady(12.4)}, 4 * time.Minute, false},
		{"ignition on, engine off", ParkedConfig{}, []func(time.Duration) values{always(idle), steady(12.4)}, 6 * time.Minute, true},
		{"smart alternator that does not charge", ParkedConfig{}, []func(time.Duration) values{always(values{"engine_speed_rpm": 750}), steady(12.6)}, 3 * time.Hour, false},
		{"hybrid in a jam", ParkedConfig{Powertrain: Hybrid}, []func(time.Duration) values{always(idle), steady(14.3)}, 3 * time.Hour, false},
		{"hybrid left with the ignition on", ParkedConfig{Powertrain: Hybrid}, []func(time.Duration) values{always(idle), steady(12.3)}, 6 * time.Minute, true},
		{"a glitch of the adapter while driven", ParkedConfig{}, []func(time.Duration) values{steady(14.1)}, 4 * time.Minute, false},
		{"a charger", ParkedConfig{}, []func(time.Duration) values{steady(13.6)}, 6 * time.Minute, true},
		{"no receiver, no adapter, a minute", ParkedConfig{}, nil, 29 * time.Minute, false},
		{"nothing known for an hour", ParkedConfig{}, nil, time.Hour, true},
		{"switched off in the settings", ParkedConfig{Off: true}, []func(time.Duration) values{steady(12.4)}, time.Hour, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRide(t, Config{Parked: test.config})
			r.run(time.Minute, always(values{"engine_speed_rpm": 1500, "vehicle_speed_kmh": 50}), steady(14.1))
			r.run(test.lasts, test.sources...)
			if r.parked() != test.parked {
				at, data := r.happened("parked", "unparked")
				t.Errorf("parked: %v; %v %+v", r.parked(), at, data)
			}
		})
	}
}

// A daemon that hears nothing at all does not know that anything is parked.
func TestParkedNeedsKnowledge(t *testing.T) {
	r := newRide(t, Config{})
	r.run(24 * time.Hour)
	if r.parked() {
		t.Error("parked out of nothing")
	}
}

// A charger that is put on wakes the car once, and its removal and the sun on a panel never;
// beside it the engine's start is found by a probe.
func TestParkedCharger(t *testing.T) {
	r := newRide(t, Config{})
	r.run(time.Hour, steady(12.4))
	if _, probe := r.d.Mode().Rest(); probe != 0 {
		t.Errorf("probes every %v though the voltage tells", probe)
	}
	r.run(12*time.Hour, steady(13.6))
	at, data := r.happened("unparked")
	if len(at) != 1 {
		t.Fatalf("woke %v %v", at, data)
	}
	if voltage, probe := r.d.Mode().Rest(); !r.parked() || probe != defaultProbe || voltage != defaultLook {
		t.Errorf("beside a charger: parked %v, probe %v, voltage %v", r.parked(), probe, voltage)
	}
	r.run(time.Hour, steady(12.8))
	r.run(6*time.Hour, volts(func(since time.Duration) float64 { return 12.8 + since.Hours()*0.2 })) // a panel, to 14 V
	if again, _ := r.happened("unparked"); len(again) != 1 {
		t.Errorf("woke %v", again)
	}
}

// fixes are those of a receiver that stands and wanders, as in a street of high houses: by
// some 15 m, with km/h now and then.
func fixes(random *rand.Rand) func(time.Duration) values {
	var north, east float64
	return func(time.Duration) values {
		north += -north*0.02 + 2.5*random.NormFloat64()
		east += -east*0.02 + 2.5*random.NormFloat64()
		kmh := max(0, 1.5+1.5*random.NormFloat64())
		if random.IntN(200) == 0 {
			kmh = 9
		}
		return values{"latitude": 48.1 + north/metresPerDegree, "longitude": 11.5 + east/75000, "gps_speed_kmh": kmh, "hdop": 1.2}
	}
}

// With a receiver alone: parked by standing, however its fixes wander; woken by movement, fast
// or slow.
func TestParkedByReceiver(t *testing.T) {
	for seed := range uint64(10) {
		random := rand.New(rand.NewPCG(seed, 7))
		r := newRide(t, Config{})
		r.run(24*time.Hour, fixes(random))
		at, data := r.happened("parked", "unparked")
		if len(at) != 1 {
			t.Fatalf("seed %d: %v %+v", seed, at, data)
		}
		r.within("parked", at[0], 5*time.Minute, 6*time.Minute)
		left := r.now - began
		r.run(time.Minute, func(since time.Duration) values { // at 8 m/s
			return values{"latitude": 48.1 + since.Seconds()*8/metresPerDegree, "longitude": 11.5, "gps_speed_kmh": 28.8, "hdop": 1.2}
		})
		woke, data := r.happened("unparked")
		if len(woke) != 1 {
			t.Fatalf("seed %d: woke %v", seed, woke)
		}
		r.within("woken", woke[0]-left, 0, 5*time.Second)
		if w := data[0].(Woke); w.Reason != "movement" {
			t.Errorf("%+v", w)
		}
	}
	r := newRide(t, Config{})
	r.run(time.Hour, fixes(rand.New(rand.NewPCG(1, 2))))
	r.run(2*time.Minute, func(since time.Duration) values { // towed at 1 m/s
		return values{"latitude": 48.1 + since.Seconds()/metresPerDegree, "longitude": 11.5, "gps_speed_kmh": 3.6, "hdop": 1.2}
	})
	if woke, _ := r.happened("unparked"); len(woke) != 1 {
		t.Errorf("towed slowly: woke %v", woke)
	}
}

// A red light of two minutes, seen by the receiver alone, is no parking.
func TestParkedNotAtALight(t *testing.T) {
	r := newRide(t, Config{})
	for range 10 {
		r.run(time.Minute, func(since time.Duration) values {
			return values{"latitude": 48.1 + since.Seconds()*10/metresPerDegree, "longitude": 11.5, "gps_speed_kmh": 36}
		})
		r.run(2*time.Minute, always(values{"latitude": 48.1 + 600/metresPerDegree, "longitude": 11.5, "gps_speed_kmh": 0.4}))
	}
	if at, _ := r.happened("parked"); len(at) != 0 {
		t.Errorf("parked %v", at)
	}
}

// A battery that runs down is told once for each level; below the floor even the voltage is
// looked at seldom, and the car never asked.
func TestLowBattery(t *testing.T) {
	for _, scale := range []float64{1, 2} {
		r := newRide(t, Config{})
		r.run(time.Minute, always(values{"engine_speed_rpm": 800}), steady(14*scale))
		r.run(30*time.Second, steady(10.2*scale)) // the starter
		r.run(10*time.Hour, volts(func(since time.Duration) float64 { return (12.6 - 0.12*since.Hours()) * scale }))
		at, data := r.happened("low_battery")
		if len(at) != 2 || data[0].(LowBattery).Level != Low || data[1].(LowBattery).Level != Floor {
			t.Fatalf("%v V: %v %+v", 12*scale, at, data)
		}
		if voltage, probe := r.d.Mode().Rest(); voltage != defaultFloored || probe != 0 {
			t.Errorf("below the floor: voltage every %v, probe every %v", voltage, probe)
		}
		r.run(time.Hour, steady(11.6*scale)) // it recovers a little, and again: told already
		r.run(time.Hour, steady(11.4*scale))
		if at, data := r.happened("low_battery"); len(at) != 2 {
			t.Errorf("told again: %v %+v", at, data)
		}
		r.run(time.Hour, steady(13.0*scale))
		if voltage, _ := r.d.Mode().Rest(); voltage != defaultLook {
			t.Errorf("after it recovered the voltage is looked at every %v", voltage)
		}
		r.run(5*time.Minute, steady(11.8*scale))
		if at, _ := r.happened("low_battery"); len(at) != 3 {
			t.Errorf("the next time it is not told: %v", at)
		}
	}
}

// A rise that is seen once in ten minutes is looked at again at once.
func TestWakeBelowFloor(t *testing.T) {
	r := newRide(t, Config{})
	r.run(time.Minute, always(values{"engine_speed_rpm": 800}), steady(14))
	r.run(10*time.Minute, steady(11.2))
	look := func(since time.Duration) values {
		every, _ := r.d.Mode().Rest()
		if since%every != 0 {
			return nil
		}
		return values{"battery_voltage_v": 13.9}
	}
	r.run(time.Minute, look)
	at, _ := r.happened("unparked")
	if len(at) != 1 {
		t.Fatalf("woke %v", at)
	}
}

// A daemon that is started again while the vehicle is parked leaves the car alone, until it
// sees a reason.
func TestParkedAlready(t *testing.T) {
	r := newRide(t, Config{Parked: ParkedConfig{Already: true}})
	r.run(time.Hour, steady(12.5))
	if at, data := r.happened("parked", "unparked"); !r.parked() || len(at) != 0 {
		t.Errorf("parked %v; %v %v", r.parked(), at, data)
	}
	r = newRide(t, Config{Parked: ParkedConfig{Already: true}})
	r.run(time.Minute, steady(14)) // the engine runs by now
	if at, _ := r.happened("unparked"); len(at) != 1 {
		t.Errorf("woke %v", at)
	}
}

// While parked a voltage is kept every five minutes and a fix every ten; the first ones tell
// where it stands, and where it leaves.
func TestThinWhileParked(t *testing.T) {
	r := newRide(t, Config{})
	r.run(time.Hour, always(values{"latitude": 48.1, "longitude": 11.5, "gps_speed_kmh": 0}), steady(12.6))
	if !r.parked() {
		t.Fatal("not parked")
	}
	r.kept = map[string]int{}
	r.run(24*time.Hour, always(values{"latitude": 48.1, "longitude": 11.5, "gps_speed_kmh": 0}), steady(12.6))
	if f, v := r.kept["latitude"], r.kept["battery_voltage_v"]; f != 6*24 || v != 12*24 {
		t.Errorf("%d fixes and %d voltages in a day, want 144 and 288", f, v)
	}
	r = newRide(t, Config{FixEvery: 30 * time.Second, Unkept: map[string]bool{"engine_speed_rpm": true}})
	r.run(10*time.Minute, always(values{"latitude": 48.1, "longitude": 11.5}), always(values{"engine_speed_rpm": 900, "fuel_level_pct": 50}))
	if r.kept["latitude"] != 20 || r.kept["engine_speed_rpm"] != 0 || r.kept["fuel_level_pct"] != 600 {
		t.Errorf("kept %v", r.kept)
	}
}

// A wrong voltage, or 24 V that a lorry lends a car to start, make no system of 24 V of it.
func TestLent24Volts(t *testing.T) {
	for _, lasts := range []time.Duration{2 * time.Second, 5 * time.Minute} {
		r := newRide(t, Config{})
		r.run(10*time.Minute, always(values{"engine_speed_rpm": 800, "vehicle_speed_kmh": 0}), steady(14.1))
		r.run(10*time.Minute, steady(12.6))
		r.run(lasts, steady(24.6))
		r.run(time.Hour, steady(12.6))
		if at, data := r.happened("low_battery"); len(at) > 0 {
			t.Errorf("%v: %v %+v", lasts, at, data)
		}
		if !r.parked() {
			t.Errorf("%v: not parked", lasts)
		}
		if voltage, _ := r.d.Mode().Rest(); voltage != defaultLook {
			t.Errorf("%v: the voltage is looked at every %v", lasts, voltage)
		}
		started := r.now
		r.run(30*time.Second, steady(14.1))
		at, _ := r.happened("unparked")
		r.within("woken", at[len(at)-1]+began-started, 0, 4*time.Second)
	}
}
