package drive

import (
	"time"

	"telemetryd/internal/telemetry"
)

// situation is what is known of the vehicle now: the newest value of each signal, as it was
// measured, and when. What is not to be told is in it, too.
type situation struct {
	now    time.Duration // since boot
	values map[string]value
	trip   string // id of the trip under way
	parked bool
	since  time.Duration // boot, that it was parked last
	unseen bool          // parked, but nobody saw it stand
	spoke  bool          // the car has told its engine's or its wheels' speed
	limit  float64       // km/h that the place allows; 0: it has none of its own
	limits string        // the name of that place
	motion motion
	events []telemetry.Event
	wanted []wanted // events that the readings around them are to follow

	privacy curtain
}

// value is the newest of a signal.
type value struct {
	telemetry.Value
	at time.Duration // since boot
}

// take notes the values of a reading.
func (s *situation) take(r telemetry.Reading) {
	s.now = max(s.now, r.Arrived)
	s.privacy.see(r)
	for _, f := range r.Fields {
		s.values[f.Name] = value{f.Value, r.Arrived}
		s.spoke = s.spoke || f.Name == "engine_speed_rpm" || f.Name == "vehicle_speed_kmh"
	}
	s.motion.take(r)
}

// number is the newest number of a signal when it is not older than limit.
func (s *situation) number(name string, limit time.Duration) (x float64, at time.Duration, ok bool) {
	v, ok := s.values[name]
	if !ok || s.now-v.at > limit {
		return 0, 0, false
	}
	x, ok = v.Float()
	return x, v.at, ok
}

// How old a value may be to tell what is so now.
const (
	wheelsLimit = 3 * time.Second // of the wheels' and the engine's speed
	fixLimit    = 5 * time.Second // of the receiver's
)

// speed is how fast the vehicle is, by its wheels where they are told, else by the receiver.
type speed struct {
	kmh      float64
	at       time.Duration
	receiver bool
}

// speed is what is known of it now.
func (s *situation) speed() (v speed, ok bool) {
	if kmh, at, ok := s.number("vehicle_speed_kmh", wheelsLimit); ok {
		return speed{kmh, at, false}, true
	}
	kmh, at, ok := s.number("gps_speed_kmh", fixLimit)
	return speed{kmh, at, true}, ok
}

// engine tells whether the engine turns; ok is false where the car does not say.
func (s *situation) engine() (turns, ok bool) {
	rpm, _, ok := s.number("engine_speed_rpm", wheelsLimit)
	return rpm > 0, ok
}

// report notes that something happened.
func (s *situation) report(e telemetry.Event) { s.events = append(s.events, e) }

// reportWithReadings notes that something happened, and that the readings around it are
// wanted, too.
func (s *situation) reportWithReadings(e telemetry.Event, id string) {
	if e.TripID == "" {
		e.TripID = s.trip
	}
	s.report(e)
	s.wanted = append(s.wanted, wanted{e, id})
}

// happened returns what was reported since it was last asked.
func (s *situation) happened() []telemetry.Event {
	e := s.events
	s.events = nil
	return e
}
