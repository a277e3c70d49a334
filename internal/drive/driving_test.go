package drive

import (
	"math"
	"slices"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
)

// watch is a Drive with the usual limits, and what it has found.
type watch struct {
	t      *testing.T
	drive  *Drive
	now    time.Duration
	events []telemetry.Event
}

func newWatch(t *testing.T, change func(*Driving)) *watch {
	t.Helper()
	d := UsualDriving
	d.Readings = false
	if change != nil {
		change(&d)
	}
	return &watch{t: t, drive: New(Config{Driving: d, Parked: ParkedConfig{Off: true}}), now: time.Minute}
}

// newLastingWatch is one that does not ask how speeds change.
func newLastingWatch(t *testing.T, overspeed float64) *watch {
	t.Helper()
	return newWatch(t, func(d *Driving) {
		d.BrakingMS2, d.AccelerationMS2, d.CorneringMS2, d.CrashMS2, d.OverspeedKMH = 0, 0, 0, 0, overspeed
	})
}

// say lets a value be read now.
func (w *watch) say(fields ...any) {
	w.t.Helper()
	r := telemetry.Reading{Arrived: w.now}
	for i := 0; i < len(fields); i += 2 {
		name, x := fields[i].(string), fields[i+1].(float64)
		if !r.Add(name, x) {
			w.t.Fatalf("%s cannot be %v", name, x)
		}
	}
	_, events := w.drive.Observe(r)
	w.events = append(w.events, events...)
}

// pass lets time pass with nothing said.
func (w *watch) pass(d time.Duration) {
	for end := w.now + d; w.now < end; {
		w.now = min(w.now+time.Second, end)
		w.events = append(w.events, w.drive.Pass(w.now)...)
	}
}

// wheels says speeds, so far apart.
func (w *watch) wheels(every time.Duration, kmh ...float64) {
	w.t.Helper()
	for _, x := range kmh {
		w.now += every
		w.say("vehicle_speed_kmh", x)
	}
}

// kinds are the types of what was found.
func (w *watch) kinds() (all []string) {
	for _, e := range w.events {
		all = append(all, e.Type)
	}
	return all
}

func (w *watch) want(kinds ...string) {
	w.t.Helper()
	if got := w.kinds(); !slices.Equal(got, kinds) {
		w.t.Errorf("found %v, want %v", got, kinds)
	}
}

// change is speeds from a to b km/h at ms2, whole as cars tell them.
func change(a, b, ms2 float64, every time.Duration) (kmh []float64) {
	step := ms2 * 3.6 * every.Seconds()
	for x := a; math.Abs(x-b) > step/2; x += math.Copysign(step, b-a) {
		kmh = append(kmh, math.Floor(x))
	}
	return append(kmh, math.Floor(b))
}

func held(x float64, n int) []float64 { return slices.Repeat([]float64{x}, n) }

const fifth = 200 * time.Millisecond

func TestSlopeIsNotMovedByAWrongValue(t *testing.T) {
	for wrong := range 6 {
		var w []sample
		for i := range 6 {
			w = append(w, sample{axis: time.Duration(i) * fifth, kmh: 50 - 2*float64(i)})
		}
		w[wrong].kmh = 0
		if got := slope(w, func(p sample) float64 { return p.kmh }); math.Abs(got+10) > 4 {
			t.Errorf("value %d wrong: %.1f km/h a second, truly -10", wrong, got)
		}
	}
}

func TestBraking(t *testing.T) {
	for _, c := range []struct {
		name  string
		every time.Duration
		kmh   []float64
		want  int
	}{
		{"harsh", fifth, slices.Concat(held(60, 10), change(60, 20, 5, fifth), held(20, 20)), 1},
		{"at 0.7 of the limit", fifth, slices.Concat(held(60, 10), change(60, 0, 2.45, fifth), held(0, 20)), 0},
		{"the pedal is let go a little and pressed again", fifth,
			slices.Concat(held(80, 10), change(80, 60, 5, fifth), change(60, 56, 2.6, fifth), change(56, 30, 5, fifth), held(30, 20)), 1},
		{"twice", fifth, slices.Concat(held(80, 10), change(80, 50, 5, fifth), held(50, 15), change(50, 20, 5, fifth), held(20, 20)), 2},
		{"for longer than it takes to tell", fifth, slices.Concat(held(150, 10), change(150, 10, 6, fifth), held(10, 20)), 1},
		{"one wrong value at 5 Hz", fifth, slices.Concat(held(50, 10), held(0, 1), held(50, 20)), 0},
		{"one wrong value at 2 Hz", time.Second / 2, slices.Concat(held(50, 10), held(0, 1), held(50, 20)), 0},
		{"one wrong value at 1 Hz", time.Second, slices.Concat(held(50, 10), held(0, 1), held(50, 20)), 0},
		{"too seldom to judge", 2 * time.Second, slices.Concat(held(60, 10), change(60, 20, 5, fifth), held(20, 3)), 0},
		{"the first thing that is seen", fifth, slices.Concat(change(60, 20, 5, fifth), held(20, 20)), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWatch(t, nil)
			w.wheels(c.every, c.kmh...)
			w.pass(10 * time.Second)
			n := 0
			for _, e := range w.events {
				switch e.Type {
				case "harsh_braking":
					n++
				case "judgement_limited":
				default:
					t.Errorf("%s: %+v", e.Type, e.Data)
				}
			}
			if n != c.want {
				t.Errorf("found %v, want %d times harsh_braking", w.kinds(), c.want)
			}
		})
	}
}

// What is in the event is what was done.
func TestBrakingIsMeasured(t *testing.T) {
	w := newWatch(t, nil)
	w.wheels(fifth, held(60, 25)...)
	begun := w.now
	w.wheels(fifth, change(60, 24, 5, fifth)...)
	w.wheels(fifth, held(24, 20)...)
	w.want("harsh_braking")
	d, ok := w.events[0].Data.(harshData)
	if !ok || d.SpeedFrom != 60 || d.SpeedTo != 24 || math.Abs(d.PeakMS2-5) > 0.4 || math.Abs(d.DurationS-2) > 0.3 ||
		d.ThresholdMS2 != 3.5 || d.Source != "wheels" || d.RateHz != 5 || d.EventID == "" {
		t.Errorf("braked at 5 m/s^2 from 60 to 24: %+v", d)
	}
	if off := w.events[0].At - begun; off.Abs() > 300*time.Millisecond {
		t.Errorf("told to have begun %v after it did", off)
	}
	if w.events[0].Severity != telemetry.Warning {
		t.Errorf("severity %s", w.events[0].Severity)
	}
}

// When the values end in the middle, what was seen is told; without that, nothing.
func TestBrakingIsLostFromSight(t *testing.T) {
	w := newWatch(t, nil)
	w.wheels(fifth, slices.Concat(held(60, 10), change(60, 30, 5, fifth))...)
	w.want()
	w.pass(5 * time.Second)
	w.want("harsh_braking")
	if d, _ := w.events[0].Data.(harshData); d.SpeedTo != 30 {
		t.Errorf("the last speed seen was 30: %+v", d)
	}

	w = newWatch(t, nil)
	w.wheels(fifth, slices.Concat(held(60, 10), change(60, 57, 5, fifth))...)
	w.pass(5 * time.Second)
	w.wheels(fifth, held(20, 10)...) // how it came to this was not seen
	w.pass(5 * time.Second)
	w.want()
}

func TestAccelerationHasItsLimits(t *testing.T) {
	w := newWatch(t, nil)
	w.wheels(fifth, slices.Concat(held(0, 10), change(0, 50, 4, fifth), held(50, 20))...)
	w.want("harsh_acceleration")

	w = newWatch(t, func(d *Driving) { d.AccelerationMS2 = 5 })
	w.wheels(fifth, slices.Concat(held(0, 10), change(0, 50, 4, fifth), held(50, 20))...)
	w.want()

	w = newWatch(t, func(d *Driving) { d.AccelerationMS2 = 0 })
	w.wheels(fifth, slices.Concat(held(0, 10), change(0, 90, 9, fifth), held(90, 20))...)
	w.want()
}

// turn says fixes in which the heading turns.
func (w *watch) turn(every time.Duration, kmh, from, degreesASecond float64, n int) (heading float64) {
	w.t.Helper()
	for range n {
		from = math.Mod(from+degreesASecond*every.Seconds()+360, 360)
		w.now += every
		w.say("gps_speed_kmh", kmh, "heading_deg", from)
	}
	return from
}

func TestCornering(t *testing.T) {
	side := func(ms2, kmh float64) float64 { return ms2 / (kmh / 3.6) * 180 / math.Pi } // degrees a second
	for _, c := range []struct {
		name  string
		every time.Duration
		kmh   float64
		ms2   float64
		want  int
	}{
		{"harsh, over north", time.Second, 40, 5, 1},
		{"to the left, at 5 Hz", fifth, 40, -5, 1},
		{"at 0.7 of the limit", time.Second, 40, 2.8, 0},
		{"too slow to have a heading", time.Second, 12, 5, 0},
		{"too seldom", 2 * time.Second, 40, 5, 0},
		{"a heading that jumps about", time.Second, 90, 40, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWatch(t, nil)
			h := w.turn(c.every, c.kmh, 340, 0, 10)
			h = w.turn(c.every, c.kmh, h, side(c.ms2, c.kmh), int(4*time.Second/c.every))
			w.turn(c.every, c.kmh, h, 0, 10)
			w.pass(5 * time.Second)
			n := 0
			for _, e := range w.events {
				if d, ok := e.Data.(corneringData); ok {
					if n++; math.Abs(d.PeakMS2-5) > 0.3 || d.TurnedDeg*c.ms2 < 0 || math.Abs(d.TurnedDeg) < 80 || math.Abs(d.TurnedDeg) > 110 {
						t.Errorf("4 s at %.0f degrees a second: %+v", side(c.ms2, c.kmh), d)
					}
				}
			}
			if n != c.want {
				t.Errorf("found %v, want %d", w.kinds(), c.want)
			}
		})
	}
	w := newWatch(t, nil)
	for range 20 {
		w.now += time.Second
		w.say("gps_speed_kmh", 50.0)
	}
	w.want()
}

// What cannot be judged is told once a trip.
func TestJudgementIsLimited(t *testing.T) {
	w := newWatch(t, nil)
	w.drive.situation.trip = "first"
	w.wheels(2*time.Second, held(50, 60)...)
	w.want("judgement_limited")
	d, ok := w.events[0].Data.(limitedData)
	if !ok || d.RateHz != 0.5 || d.NeededHz != leastRate || d.Source != "wheels" || !slices.Contains(d.Kinds, "harsh_braking") || !slices.Contains(d.Kinds, "crash_like_stop") {
		t.Errorf("%+v", d)
	}
	w.drive.situation.trip = "second"
	w.wheels(2*time.Second, held(50, 60)...)
	w.want("judgement_limited", "judgement_limited")

	w = newWatch(t, nil)
	w.wheels(2*time.Second, held(0, 120)...) // who stands needs no judgement
	w.wheels(time.Second, held(50, 120)...)  // once a second is enough
	w.want()

	w = newWatch(t, nil)
	for range 60 { // the wheels speak too seldom, the receiver speaks enough
		w.wheels(time.Second/2, 50)
		w.turn(750*time.Millisecond, 50, 10, 0, 2)
	}
	w.want()
}
