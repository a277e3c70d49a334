package drive

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"telemetryd/internal/telemetry"
)

// stretch is a piece of a day: what is told in it, once a second. NaN is nothing.
type stretch struct {
	long             time.Duration
	rpm, wheels, gps float64
	volts            bool // the adapter tells them
	moves            bool // the place changes as gps says
	parked           bool
}

var no = math.NaN()

// day runs stretches one after the other, and an hour of nothing behind them.
func day(d *Drive, stretches ...stretch) (events []telemetry.Event) {
	now, north := d.situation.now.Truncate(time.Second)+time.Second, 0.0
	for _, s := range stretches {
		d.situation.parked = s.parked
		for range int(s.long / time.Second) {
			r := telemetry.Reading{Arrived: now}
			if !math.IsNaN(s.rpm) {
				r.Add("engine_speed_rpm", s.rpm)
			}
			if !math.IsNaN(s.wheels) {
				r.Add("vehicle_speed_kmh", s.wheels)
			}
			if s.volts {
				r.Add("battery_voltage_v", 12.4)
			}
			fix := telemetry.Reading{Arrived: now}
			if !math.IsNaN(s.gps) {
				if s.moves {
					north += s.gps / 3.6
				}
				fix.Add("latitude", 48+north/111200)
				fix.Add("longitude", 11)
				fix.Add("gps_speed_kmh", s.gps)
			}
			for _, r := range []telemetry.Reading{r, fix} {
				_, more := d.Observe(r)
				events = append(events, more...)
			}
			now += time.Second
		}
	}
	d.situation.parked = false
	return append(events, d.Pass(now+time.Hour)...)
}

// What is a trip and what is none, and how long it is.
func TestWhatIsATrip(t *testing.T) {
	const s, m = time.Second, time.Minute
	drives := stretch{long: 5 * m, rpm: 2000, wheels: 60, gps: no}
	type want struct {
		duration time.Duration
		km       float64
		idle     float64
	}
	for name, c := range map[string]struct {
		stretches []stretch
		want      []want
	}{
		"nothing":                            {[]stretch{{long: m, rpm: no, wheels: no, gps: no}}, nil},
		"a drive":                            {[]stretch{drives}, []want{{299 * s, 4.983, 0}}},
		"the key, and no start":              {[]stretch{{long: 10 * m, rpm: 0, wheels: 0, gps: no}}, nil},
		"an engine that idles, and no drive": {[]stretch{{long: 5 * m, rpm: 800, wheels: 0, gps: no}}, []want{{299 * s, 0, 299}}},
		"start-stop at lights":               {[]stretch{drives, {long: 2 * m, rpm: 0, wheels: 0, gps: no}, drives}, []want{{719 * s, 10, 0}}},
		"a stop for fuel":                    {[]stretch{drives, {long: 170 * s, rpm: no, wheels: no, gps: no}, drives}, []want{{769 * s, 9.967, 0}}},
		"a stop for lunch":                   {[]stretch{drives, {long: 30 * m, rpm: no, wheels: no, gps: no}, drives}, []want{{299 * s, 4.983, 0}, {299 * s, 4.983, 0}}},
		"a plug that falls out, the receiver goes on": {[]stretch{
			{long: 5 * m, rpm: 2000, wheels: 60, gps: 60, moves: true}, {long: 5 * m, rpm: no, wheels: no, gps: 60, moves: true}, {long: m, rpm: no, wheels: no, gps: 1},
		}, []want{{599 * s, 9.983, 0}}},
		"a plug that falls out, nothing goes on, then it stands": {[]stretch{drives, {long: 5 * m, rpm: no, wheels: no, gps: no}, {long: m, rpm: 0, wheels: 0, gps: no}},
			[]want{{299 * s, 4.983, 0}}},
		"a tunnel, by receiver alone": {[]stretch{
			{long: 5 * m, rpm: no, wheels: no, gps: 72, moves: true}, {long: 4 * m, rpm: no, wheels: no, gps: no}, {long: 5 * m, rpm: no, wheels: no, gps: 72, moves: true}, {long: m, rpm: no, wheels: no, gps: 0},
		}, []want{{838 * s, 11.96, 0}}},
		"a receiver that wanders":                     {[]stretch{{long: 20 * m, rpm: no, wheels: no, gps: 3}, {long: 2 * s, rpm: no, wheels: no, gps: 40}, {long: 20 * m, rpm: no, wheels: no, gps: 4.8}}, nil},
		"a receiver that claims a speed, on the spot": {[]stretch{{long: m, rpm: no, wheels: no, gps: 12}}, nil},
		"a walk with a receiver":                      {[]stretch{{long: 5 * m, rpm: no, wheels: no, gps: 4.5, moves: true}}, nil},
		"a ferry, the key in":                         {[]stretch{drives, {long: 20 * m, rpm: 0, wheels: 0, gps: 30, moves: true}, drives}, []want{{299 * s, 4.983, 0}, {299 * s, 4.983, 0}}},
		"a ferry, the key out":                        {[]stretch{drives, {long: 30 * m, rpm: no, wheels: no, gps: 30, volts: true, moves: true}}, []want{{299 * s, 4.983, 0}}},
		"an electric car":                             {[]stretch{{long: 5 * m, rpm: no, wheels: 60, gps: no}, {long: m, rpm: no, wheels: 0, gps: no}, {long: 5 * m, rpm: no, wheels: 60, gps: no}}, []want{{659 * s, 9.983, 0}}},
		"a hybrid":                                    {[]stretch{{long: 5 * m, rpm: 0, wheels: 30, gps: no}, {long: 5 * m, rpm: 1500, wheels: 60, gps: no}}, []want{{599 * s, 7.487, 0}}},
		"pushed a little":                             {[]stretch{{long: 20 * s, rpm: 0, wheels: 4, gps: no}, {long: m, rpm: 0, wheels: 0, gps: no}}, nil},
		"a stop for fuel, parked meanwhile":           {[]stretch{drives, {long: m, rpm: no, wheels: no, gps: no, parked: true}, drives}, []want{{659 * s, 9.967, 0}}},
		"parked for good":                             {[]stretch{drives, {long: 4 * m, rpm: no, wheels: no, gps: no, parked: true}, drives}, []want{{299 * s, 4.983, 0}, {299 * s, 4.983, 0}}},
		"towed while parked":                          {[]stretch{{long: 5 * m, rpm: no, wheels: no, gps: 50, moves: true, parked: true}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			all := tripsOf(t, day(withTrips(Trips{}), c.stretches...))
			if len(all) != len(c.want) {
				t.Fatalf("%d trips, want %d: %+v", len(all), len(c.want), all)
			}
			for i, w := range c.want {
				e := all[i]
				near(t, 0, "duration_s", float(t, e.DurationS), w.duration.Seconds(), 1.1)
				near(t, 0, "distance_km", float(t, e.DistanceKM), w.km, 0.04)
				if e.IdleS.Present() {
					near(t, 0, "idle_s", float(t, e.IdleS), w.idle, 0.1)
				}
				if e.end-e.began != time.Duration(float(t, e.DurationS)*1e9) {
					t.Errorf("from %v to %v, duration_s %v", e.began, e.end, e.DurationS)
				}
			}
		})
	}
}

// A trip that nobody saw end says so, and what nobody told is absent.
func TestTripSaysWhatItKnows(t *testing.T) {
	lost := tripsOf(t, day(withTrips(Trips{}), stretch{long: time.Minute, rpm: 2000, wheels: 60, gps: no}))
	if len(lost) != 1 || !lost[0].CutOff {
		t.Errorf("lost at 60 km/h: %+v", lost)
	}
	later := tripsOf(t, day(withTrips(Trips{}), stretch{long: time.Minute, rpm: 2000, wheels: 60, gps: no},
		stretch{long: 5 * time.Minute, rpm: no, wheels: no, gps: no}, stretch{long: time.Minute, rpm: 0, wheels: 0, gps: no}))
	if len(later) != 1 || !later[0].CutOff {
		t.Errorf("lost at 60 km/h, found at rest: %+v", later)
	}
	arrived := tripsOf(t, day(withTrips(Trips{}), stretch{long: time.Minute, rpm: 2000, wheels: 60, gps: no}, stretch{long: 20 * time.Second, rpm: 800, wheels: 0, gps: no}))
	if len(arrived) != 1 || arrived[0].CutOff {
		t.Errorf("arrived: %+v", arrived)
	}
	engine := tripsOf(t, day(withTrips(Trips{}), stretch{long: time.Minute, rpm: 2000, wheels: no, gps: no}))
	b, err := json.Marshal(engine[0].TripEnd)
	if want := `{"duration_s":59,"unmeasured_s":59}`; err != nil || string(b) != want {
		t.Errorf("by the engine's speed alone: %s, want %s", b, want)
	}
	b, err = json.Marshal(arrived[0].TripEnd)
	if err != nil || strings.Contains(string(b), "fuel") || strings.Contains(string(b), "position") || !strings.Contains(string(b), `"max_speed_kmh":60,"max_speed_source":"wheels"`) {
		t.Errorf("without fuel and receiver: %s", b)
	}
}

// An odometer of another car, or one that runs backwards, counts nothing.
func TestOdometerInDoubt(t *testing.T) {
	for name, last := range map[string]float64{"backwards": 99000, "of another car": 250000} {
		d := withTrips(Trips{})
		var events []telemetry.Event
		for i := range 3600 {
			r := telemetry.Reading{Arrived: time.Duration(i) * time.Second}
			r.Add("vehicle_speed_kmh", 60)
			r.Add("engine_speed_rpm", 2000)
			if i%10 == 0 {
				r.Add("odometer_km", 100000+float64(i)/60)
			}
			if i == 3590 {
				r.Add("odometer_km", last)
			}
			_, more := d.Observe(r)
			events = append(events, more...)
		}
		all := tripsOf(t, append(events, d.Pass(3*time.Hour)...))
		if len(all) != 1 || all[0].DistanceSource != "wheels" {
			t.Fatalf("%s: %+v", name, all)
		}
		near(t, 0, "distance_km", float(t, all[0].DistanceKM), 60, 0.1)
	}
}

// Whatever is told, in whatever order: distances and times are never negative, a trip ends
// after it began, every trip_end but that of an earlier run has its trip_start, and one trip is under way at a time.
func TestTripsOfAnything(t *testing.T) {
	names := []string{"engine_speed_rpm", "vehicle_speed_kmh", "gps_speed_kmh", "battery_voltage_v", "odometer_km", "fuel_rate_l_h", "maf_g_s", "fuel_level_pct", "run_time_s", "commanded_lambda"}
	rapid.Check(t, func(rt *rapid.T) {
		var kept []byte
		d := withTrips(Trips{EndAfter: 20 * time.Second, TankL: 50, Keep: func(b []byte) { kept = b }})
		now, began, under := time.Minute, map[string]time.Duration{}, ""
		for range rapid.IntRange(1, 200).Draw(rt, "readings") {
			now = max(0, now+time.Duration(rapid.IntRange(-3000, 30000).Draw(rt, "ms"))*time.Millisecond)
			r := telemetry.Reading{Arrived: now}
			for range rapid.IntRange(0, 3).Draw(rt, "values") {
				r.Add(rapid.SampledFrom(names).Draw(rt, "name"), rapid.Float64Range(-10, 300).Draw(rt, "x"))
			}
			if rapid.Bool().Draw(rt, "place") {
				r.Add("latitude", rapid.Float64Range(-90, 90).Draw(rt, "latitude"))
				r.Add("longitude", rapid.Float64Range(-180, 180).Draw(rt, "longitude"))
			}
			d.situation.parked = rapid.IntRange(0, 20).Draw(rt, "parked") == 0
			_, events := d.Observe(r)
			for _, e := range events {
				switch data := e.Data.(type) {
				case TripStart:
					if under != "" {
						rt.Fatalf("%s begins, %s is under way", e.TripID, under)
					}
					under, began[e.TripID] = e.TripID, e.At
				case TripEnd:
					if begin, ok := began[e.TripID]; !ok || e.At < begin || e.TripID != under {
						rt.Fatalf("%s from %v to %v, under way is %q", e.TripID, begin, e.At, under)
					}
					under = ""
					b, err := json.Marshal(data)
					if err != nil || strings.Contains(string(b), ":-") && data.StartPosition == nil && data.EndPosition == nil {
						rt.Fatalf("%s, %v", b, err)
					}
				}
			}
			if d.TripID() != under {
				rt.Fatalf("under way is %q, told was %q", d.TripID(), under)
			}
		}
		if CheckKept(kept) != nil {
			rt.Fatalf("kept %s", kept)
		}
	})
}
