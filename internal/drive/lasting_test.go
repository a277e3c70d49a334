package drive

import (
	"math"
	"slices"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
)

func TestOverspeed(t *testing.T) {
	w := newLastingWatch(t, 100)
	w.wheels(fifth, slices.Concat(held(95, 20), held(104, 20), held(95, 20), held(100, 100))...) // four seconds; then just at it
	w.want()
	begun := w.now
	w.wheels(fifth, slices.Concat(held(104, 30), held(112, 10))...)
	w.want("overspeed")
	d, ok := w.events[0].Data.(overspeedData)
	if !ok || d.Limit != 100 || d.Peak != 104 || d.Duration < 5 || d.Duration > 5.3 || d.RateHz != 5 || w.events[0].At-begun > 5500*time.Millisecond {
		t.Errorf("at %v: %+v", w.events[0].At-begun, d)
	}
	w.wheels(fifth, slices.Concat(held(98, 20), held(103, 20), held(98, 20), held(90, 5), held(104, 5))...) // around it is one
	w.want("overspeed")
	w.wheels(fifth, held(90, 20)...)
	w.want("overspeed", "overspeed_end")
	if end, _ := w.events[1].Data.(overspeedData); end.EventID != d.EventID || end.Peak != 112 || end.Duration < 21 || end.Duration > 23 {
		t.Errorf("end %+v", end)
	}
}

// The limit of the place goes before the one of the settings, and each has its event.
func TestOverspeedByPlace(t *testing.T) {
	w := newLastingWatch(t, 0)
	w.wheels(fifth, held(60, 50)...)
	w.want() // no limit at all
	w.drive.situation.limit = 30
	w.wheels(fifth, held(60, 30)...)
	w.want("overspeed")
	w.drive.situation.limit = 50
	w.wheels(fifth, held(60, 60)...)
	w.want("overspeed", "overspeed_end", "overspeed")
	if d, _ := w.events[2].Data.(overspeedData); d.Limit != 50 {
		t.Errorf("%+v", d)
	}
	w.drive.situation.limit = 0
	w.wheels(fifth, held(60, 60)...)
	w.want("overspeed", "overspeed_end", "overspeed", "overspeed_end")
}

// An end that nobody saw is when it was last seen.
func TestOverspeedIsLostFromSight(t *testing.T) {
	w := newLastingWatch(t, 100)
	w.wheels(fifth, held(120, 40)...)
	last := w.now
	w.pass(time.Minute)
	w.want("overspeed", "overspeed_end")
	if w.events[1].At != last {
		t.Errorf("ended at %v, last seen at %v", w.events[1].At, last)
	}
	w.wheels(20*time.Second, held(120, 5)...) // what is between is not known
	w.want("overspeed", "overspeed_end")
}

// idle says once a second that the engine turns at rpm and the wheels at kmh.
func (w *watch) idle(rpm, kmh float64, d time.Duration) {
	w.t.Helper()
	for end := w.now + d; w.now < end; {
		w.now += time.Second
		w.say("engine_speed_rpm", rpm, "vehicle_speed_kmh", kmh)
	}
}

func TestLongIdling(t *testing.T) {
	w := newLastingWatch(t, 0)
	w.idle(780, 0, 210*time.Second) // 0.7 of the limit
	w.idle(1500, 30, time.Minute)
	w.want()
	w.idle(780, 0, 200*time.Second)
	w.idle(900, 4, 5*time.Second) // somebody moved up
	w.idle(780, 0, 100*time.Second)
	w.want("long_idling")
	w.idle(780, 0, 100*time.Second)
	w.want("long_idling")
	w.idle(0, 0, time.Second)
	w.want("long_idling", "long_idling_end")
	begin, _ := w.events[0].Data.(idlingData)
	end, _ := w.events[1].Data.(idlingData)
	if begin.Duration != 300 || begin.Threshold != 300 || end.EventID != begin.EventID || math.Abs(end.Duration-404) > 2 {
		t.Errorf("%+v, %+v", begin, end)
	}

	w = newLastingWatch(t, 0)
	w.idle(0, 0, 10*time.Minute) // the ignition alone
	for range 600 {              // nobody says whether the engine turns
		w.now += time.Second
		w.say("vehicle_speed_kmh", 0.0)
	}
	w.want()
	for range 310 { // the receiver's speed is never quite nothing
		w.now += time.Second
		w.say("engine_speed_rpm", 800.0, "gps_speed_kmh", 0.9)
	}
	w.want("long_idling")
	last := w.now
	w.pass(time.Minute) // the adapter is pulled out
	w.want("long_idling", "long_idling_end")
	if off := w.events[1].At - last; off < 0 || off > idlingUnseen {
		t.Errorf("ended %v after it was seen last", off)
	}
}

func TestEngineOverheated(t *testing.T) {
	w := newLastingWatch(t, 0)
	warm := func(c float64, n int) {
		for range n {
			w.now += 10 * time.Second
			w.say("coolant_temperature_c", c)
		}
	}
	warm(105, 6)
	warm(120, 1) // a single value that is wrong
	warm(105, 6)
	w.want()
	warm(116, 3)
	warm(121, 2)
	warm(112, 3) // not yet cool
	warm(118, 2)
	w.want("engine_overheated")
	warm(100, 5)
	w.want("engine_overheated", "engine_overheated_end")
	begin, _ := w.events[0].Data.(overheatData)
	end, _ := w.events[1].Data.(overheatData)
	if begin.Threshold != 115 || begin.Peak != 116 || end.Peak != 121 || end.EventID != begin.EventID || end.Duration != 100 {
		t.Errorf("%+v, %+v", begin, end)
	}
	warm(120, 3)
	w.pass(10 * time.Minute)
	w.want("engine_overheated", "engine_overheated_end", "engine_overheated", "engine_overheated_end")
}

// at says a fix so many metres north of a place.
func (w *watch) at(metresNorth, kmh float64) {
	w.t.Helper()
	w.now += time.Second
	w.say("latitude", 48.1+metresNorth/metresPerDegree, "longitude", 11.5, "gps_speed_kmh", kmh)
}

// park drives a little and parks, with some fixes there.
func (w *watch) park() {
	w.t.Helper()
	w.idle(900, 20, 5*time.Second)
	w.idle(0, 0, 5*time.Second)
	w.drive.situation.parked = true
	for range 12 {
		w.at(0, 0.3)
	}
}

func TestMovedWhileParked(t *testing.T) {
	tow := func(w *watch, until float64) {
		for m := 0.0; m <= until; m += 5 {
			w.at(m, 18)
		}
		for range 15 {
			w.at(until, 0.2)
		}
	}
	w := newLastingWatch(t, 0)
	w.park()
	tow(w, 70)
	w.want()
	w = newLastingWatch(t, 0)
	w.park()
	tow(w, 300)
	w.want("moved_while_parked")
	d, ok := w.events[0].Data.(movedData)
	if !ok || d.DistanceM < 100 || d.DistanceM > 170 || d.ThresholdM != 100 || d.SpeedKMH != 18 || w.events[0].Position == nil || w.events[0].Severity != telemetry.Warning {
		t.Errorf("%+v at %+v", d, w.events[0].Position)
	}
	tow(w, 600)
	w.want("moved_while_parked") // once

	w = newLastingWatch(t, 0) // its movement ends that it is taken as parked
	w.park()
	w.at(20, 18)
	w.drive.situation.parked = false
	tow(w, 300)
	w.want("moved_while_parked")

	w = newLastingWatch(t, 0) // somebody drives away
	w.park()
	w.at(40, 18)
	w.drive.situation.parked = false
	w.say("engine_speed_rpm", 900.0, "vehicle_speed_kmh", 18.0)
	tow(w, 300)
	w.want()

	w = newLastingWatch(t, 0) // fixes that wander have no speed
	w.park()
	for m := 0.0; m < 400; m += 5 {
		w.at(m, 1.5)
	}
	w.want()

	w = newLastingWatch(t, 0) // no car has ever said anything: somebody may drive
	w.drive.situation.parked = true
	w.at(0, 0)
	tow(w, 300)
	w.want()
}
