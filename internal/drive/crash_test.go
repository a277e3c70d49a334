package drive

import (
	"slices"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
)

// crashes counts those found; braking beside it is not asked about.
func (w *watch) crashes() (all []telemetry.Event) {
	for _, e := range w.events {
		if e.Type == "crash_like_stop" {
			all = append(all, e)
		}
	}
	return all
}

func TestCrashLikeStop(t *testing.T) {
	for _, c := range []struct {
		name  string
		every time.Duration
		kmh   []float64
		want  int
	}{
		{"into a wall at 5 Hz", fifth, slices.Concat(held(50, 20), held(12, 1), held(0, 30)), 1},
		{"into a wall at 1 Hz", time.Second, slices.Concat(held(50, 20), held(0, 10)), 1},
		{"too slow to tell at 1 Hz", time.Second, slices.Concat(held(40, 20), held(0, 10)), 0},
		{"the hardest that brakes do", fifth, slices.Concat(held(100, 20), change(100, 0, 10, fifth), held(0, 30)), 0},
		{"at 0.7 of the limit", fifth, slices.Concat(held(50, 20), change(50, 0, 8.4, fifth), held(0, 30)), 0},
		{"one wrong value", fifth, slices.Concat(held(50, 20), held(0, 1), held(50, 30)), 0},
		{"it goes on after two seconds", fifth, slices.Concat(held(50, 20), held(0, 10), held(20, 60)), 0},
		{"against a kerb", fifth, slices.Concat(held(15, 20), held(0, 30)), 0},
		{"silence afterwards: the cable is cut", fifth, slices.Concat(held(50, 20), held(0, 1)), 1},
		{"silence: the ignition is cut", fifth, held(50, 20), 0},
		{"one wrong value while it stands", fifth, slices.Concat(held(0, 20), held(80, 1), held(0, 30)), 0},
		{"two of them", fifth, slices.Concat(held(0, 20), held(80, 2), held(0, 30)), 0},
		{"one at 1 Hz", time.Second, slices.Concat(held(0, 20), held(80, 1), held(0, 10)), 0},
		{"the first value of all is wrong", fifth, slices.Concat(held(80, 1), held(0, 30)), 0},
		{"into a wall while it speeds up", fifth, slices.Concat(held(0, 5), change(0, 60, 4, fifth), held(0, 30)), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWatch(t, nil)
			w.wheels(c.every, c.kmh...)
			w.pass(20 * time.Second)
			if all := w.crashes(); len(all) != c.want {
				t.Errorf("found %v, want %d", w.kinds(), c.want)
			}
		})
	}
}

// An answer that is held back on its way is older than it looks: the fall behind it took as
// long as it was held.
func TestHeldBackAnswerIsNoFall(t *testing.T) {
	for _, late := range []time.Duration{time.Second, 1400 * time.Millisecond, 3 * time.Second} {
		w := newWatch(t, nil)
		w.wheels(fifth, held(50, 20)...)
		w.wheels(fifth, change(50, 25, 2.5, fifth)...)
		w.now += late
		w.wheels(0, 25) // so it was before it was held back
		left := max(0, 25-2.5*3.6*late.Seconds())
		w.wheels(fifth, change(left, 0, 2.5, fifth)...)
		w.wheels(fifth, held(0, 30)...)
		w.want()
	}
}

func TestCrashIsMeasured(t *testing.T) {
	w := newWatch(t, nil)
	w.say("latitude", 48.1, "longitude", 11.5)
	w.wheels(fifth, held(50, 20)...)
	hit := w.now
	w.wheels(fifth, slices.Concat(held(3, 1), held(0, 16))...)
	w.want("crash_like_stop") // and no harsh braking
	e := w.events[0]
	d, ok := e.Data.(crashData)
	if !ok || e.Severity != telemetry.Emergency || e.At != hit || e.Position == nil || e.Position.AgeMS != (20*fifth).Milliseconds() ||
		d.SpeedFrom != 50 || d.SpeedTo != 3 || d.WithinMS != 200 || d.DecelMS2 != 65.3 || d.ThresholdMS2 != 12 || d.StandingS < 3 || d.StandingS > 3.3 {
		t.Errorf("%+v %+v %+v", e, e.Position, d)
	}
}

// Wheels that are locked stand, and the vehicle slides: the receiver knows.
func TestLockedWheelsAreNoCrash(t *testing.T) {
	w := newWatch(t, nil)
	drive := func(seconds int, wheels, receiver float64) {
		for range seconds {
			w.wheels(fifth, held(wheels, 4)...)
			w.now += fifth
			w.say("vehicle_speed_kmh", wheels, "gps_speed_kmh", receiver)
		}
	}
	drive(5, 60, 60)
	drive(4, 0, 45)
	drive(6, 30, 30)
	drive(2, 15, 15)
	drive(10, 0, 0)
	if all := w.crashes(); len(all) != 0 {
		t.Errorf("found %+v", all[0].Data)
	}
	drive(5, 60, 60)
	drive(1, 0, 30) // a receiver is a second behind
	drive(5, 0, 0)
	if all := w.crashes(); len(all) != 1 {
		t.Errorf("found %v", w.kinds())
	}
}

// A receiver is a little behind, and then torn off.
func TestCrashThatSilencesTheReceiver(t *testing.T) {
	w := newWatch(t, nil)
	for range 20 {
		w.wheels(fifth, 50)
		w.say("gps_speed_kmh", 50.0)
	}
	w.wheels(fifth, 0)
	w.say("gps_speed_kmh", 50.0)
	w.wheels(fifth, held(0, 45)...)
	if all := w.crashes(); len(all) != 1 {
		t.Errorf("found %v", w.kinds())
	}
}
