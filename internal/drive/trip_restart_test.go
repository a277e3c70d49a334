package drive

import (
	"strings"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
)

// machine is a Pi in a car, over restarts of the program and of itself.
type machine struct {
	t     *testing.T
	kept  []byte
	boot  string
	zero  time.Duration // of the boot, since the world began
	knows bool          // the UTC
	n     int
	all   []telemetry.Event
}

// world is when the world began.
var world = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// minutes lets the program run from one time of the world to another, with a car that tells
// something once a second, and then kills it. What it kept last is what is left.
func (m *machine) minutes(from, to float64, tell func(now time.Duration) map[string]float64) {
	m.t.Helper()
	now := time.Duration(from * float64(time.Minute))
	d := withTrips(Trips{
		NewID: func() string { m.n++; return strings.Repeat("t", m.n) }, BootID: m.boot,
		Kept: m.kept, Keep: func(b []byte) { m.kept = b },
		UTC: func() (time.Time, bool) { return world.Add(now), m.knows },
	})
	for ; now < time.Duration(to*float64(time.Minute)); now += time.Second {
		r := telemetry.Reading{Arrived: now - m.zero}
		for name, x := range tell(now) {
			r.Add(name, x)
		}
		for _, e := range d.Pass(r.Arrived) {
			m.happened(e)
		}
		_, events := d.Observe(r)
		for _, e := range events {
			m.happened(e)
		}
	}
}

// happened notes an event at its time of the world.
func (m *machine) happened(e telemetry.Event) {
	e.At += m.zero
	m.all = append(m.all, e)
}

func (m *machine) reboot(atMinute float64, boot string) {
	m.boot, m.zero = boot, time.Duration(atMinute*float64(time.Minute))
}

// driving tells of a car at 60 km/h, a kilometre a minute, since the world began.
func driving(now time.Duration) map[string]float64 {
	v := map[string]float64{"engine_speed_rpm": 2000, "vehicle_speed_kmh": 60}
	if int(now.Seconds())%10 == 0 {
		v["odometer_km"], v["run_time_s"] = 50000+float64(int(now.Minutes()*10))/10, now.Seconds()
	}
	return v
}

// until is one that drives until a minute, and stands then with its engine off.
func until(minute float64) func(now time.Duration) map[string]float64 {
	return func(now time.Duration) map[string]float64 {
		if now.Minutes() < minute {
			return driving(now)
		}
		return map[string]float64{"engine_speed_rpm": 0, "vehicle_speed_kmh": 0, "odometer_km": 50000 + minute, "run_time_s": 0}
	}
}

func nothing(time.Duration) map[string]float64 { return nil }

func TestTripOverRestarts(t *testing.T) {
	type want struct {
		km, minutes float64
		cutOff      bool
	}
	for name, c := range map[string]struct {
		knows bool
		does  func(m *machine)
		want  []want
		ids   string // of starts and ends
	}{
		"the program is killed for ten seconds": {false, func(m *machine) {
			m.minutes(1, 10, driving)
			m.minutes(10.2, 30, until(20))
		}, []want{{18.8, 19, false}}, "+t -t"},
		"the program is killed and comes back when the car stands": {false, func(m *machine) {
			m.minutes(1, 10, driving)
			m.minutes(11, 20, until(10))
		}, []want{{8.8, 9, true}}, "+t -t"},
		"the program is stopped while the car stands, its end was seen": {false, func(m *machine) {
			m.minutes(1, 11, until(10))
			m.minutes(40, 41, until(10))
		}, []want{{9, 9, false}}, "+t -t"},
		"killed for long, the car drove on": {false, func(m *machine) {
			m.minutes(1, 10, driving)
			m.minutes(20, 40, until(30))
		}, []want{{29, 29, false}}, "+t -t"},
		"killed for long, the car stood": {false, func(m *machine) {
			m.minutes(1, 10, driving)
			m.minutes(20, 40, func(now time.Duration) map[string]float64 { return until(20)(now - 10*time.Minute) })
		}, []want{{8.8, 9, true}, {10, 10, false}}, "+t -t +tt -tt"},
		"killed overnight": {false, func(m *machine) {
			m.minutes(1, 10, driving)
			m.minutes(600, 620, until(610))
		}, []want{{8.8, 9, true}, {10, 10, false}}, "+t -t +tt -tt"},
		"a power cut for a minute, the time is known": {true, func(m *machine) {
			m.minutes(1, 10, driving)
			m.reboot(10.5, "b2")
			m.minutes(11, 30, until(20))
		}, []want{{19, 19, false}}, "+t -t"},
		"a power cut for a minute, the time is not known, the engine's is": {false, func(m *machine) {
			m.minutes(1, 10, driving)
			m.reboot(10.5, "b2")
			m.minutes(11, 30, until(20))
		}, []want{{19, 19, false}}, "+t -t"},
		"a power cut, nothing tells how long": {false, func(m *machine) {
			m.minutes(1, 10, driving)
			m.reboot(600, "b2")
			m.minutes(600.5, 620, func(now time.Duration) map[string]float64 {
				v := until(610)(now)
				delete(v, "run_time_s")
				return v
			})
		}, []want{{8.8, 9, true}, {9.5, 9.5, false}}, "+t -t +tt -tt"},
		"power by the ignition: each trip ends with it": {true, func(m *machine) {
			m.minutes(1, 10, driving)
			m.reboot(60, "b2")
			m.minutes(60.5, 70, driving)
			m.reboot(120, "b3")
			m.minutes(121, 130, nothing)
		}, []want{{8.8, 9, true}, {9.3, 9.5, true}}, "+t -t +tt -tt"},
		"nothing was under way": {true, func(m *machine) {
			m.minutes(1, 10, until(5))
			m.reboot(60, "b2")
			m.minutes(60.5, 70, until(5))
		}, []want{{4, 4, false}}, "+t -t"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{t: t, boot: "b1", knows: c.knows}
			c.does(m)
			var ids []string
			for _, e := range m.all {
				ids = append(ids, map[string]string{"trip_start": "+", "trip_end": "-"}[e.Type]+e.TripID)
			}
			if got := strings.Join(ids, " "); got != c.ids {
				t.Fatalf("%s, want %s", got, c.ids)
			}
			all := tripsOf(t, m.all)
			for i, w := range c.want {
				e := all[i]
				// What was measured within 20 s of a kill may be lost.
				near(t, 0, "distance_km", float(t, e.DistanceKM), w.km, 0.35)
				near(t, 0, "minutes", float(t, e.DurationS)/60, w.minutes, 0.35)
				if c.knows || m.boot == "b1" || !w.cutOff { // else the end is told when it was found
					near(t, 0, "minutes between both events", (e.end - e.began).Minutes(), w.minutes, 0.35)
				}
				if e.CutOff != w.cutOff {
					t.Errorf("trip %d: cut_off is %v", i, e.CutOff)
				}
			}
		})
	}
}

// A trip goes on with the batches at once after a restart, not when it was decided anew.
func TestTripGoesOnAtOnce(t *testing.T) {
	var kept []byte
	keep := Trips{BootID: "b", Keep: func(b []byte) { kept = b }}
	d := withTrips(keep)
	day := func(d *Drive, from, to int) {
		for i := from; i < to; i++ {
			r := telemetry.Reading{Arrived: time.Duration(i) * time.Second}
			r.Add("engine_speed_rpm", 800)
			d.Observe(r)
		}
	}
	day(d, 0, 30)
	d.Close()
	keep.Kept = kept
	again := withTrips(keep)
	again.Pass(33 * time.Second)
	if id := again.TripID(); id != "t-1" {
		t.Errorf("under way is %q", id)
	}
}

// No place that may not be told is kept on the disk.
func TestKeptHasNoPlaces(t *testing.T) {
	var kept []byte
	d := withTrips(Trips{Keep: func(b []byte) { kept = b }})
	f := newFeed(1)
	f.run(d, 0, 2*time.Minute)
	d.trips.trip.begin, d.trips.trip.end = nil, nil // as where nothing may be told
	d.Close()
	if len(kept) == 0 || strings.Contains(string(kept), "48.1") || strings.Contains(string(kept), "11.5") || strings.Contains(string(kept), "titude") {
		t.Errorf("kept: %s", kept)
	}
}
