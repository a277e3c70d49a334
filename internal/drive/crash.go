package drive

import (
	"time"

	"telemetryd/internal/telemetry"
)

// crash finds a stop that brakes cannot make: the speed falls faster than tyres hold, and
// the vehicle stands afterwards.
type crash struct {
	limit  float64 // m/s^2
	hit    hit
	stands time.Duration // since; 0: it does not
}

// hit is a fall that brakes cannot do; the zero hit is none.
type hit struct {
	at       time.Duration // of the last speed before
	track    *track
	from, to float64       // km/h
	within   time.Duration // it fell so much in less than this
	ms2      float64       // so at least by this
	place    *telemetry.Position
}

// crashData is the data of crash_like_stop.
type crashData struct {
	EventID      string  `json:"event_id"`
	DecelMS2     float64 `json:"deceleration_ms2"` // at least: what is between two speeds is not seen
	ThresholdMS2 float64 `json:"threshold_ms2"`
	SpeedFrom    float64 `json:"speed_from_kmh"`
	SpeedTo      float64 `json:"speed_to_kmh"`
	WithinMS     int64   `json:"within_ms"`
	StandingS    float64 `json:"standing_s"`
	Source       string  `json:"speed_source"`
	RateHz       float64 `json:"rate_hz"`
}

const (
	crashFall   = 20.0            // km/h: less is a kerb, or a value of slow wheels
	crashWithin = windowLast      // between the two speeds
	crashStands = 3 * time.Second // afterwards
	crashOver   = 10 * time.Second
	standsStill = 3.0 // km/h
	// crashFrom is for how long before a fall the speed must have been one that the vehicle
	// can have had, and speedStep what two whole km/h may differ by beside that.
	crashFrom = 2500 * time.Millisecond
	speedStep = 2.0
	// closest are two answers of a car: what comes closer was held back on its way.
	closest = 100 * time.Millisecond
)

func (c *crash) reading(s *situation, _ telemetry.Reading) {
	for _, t := range []*track{&s.motion.wheels, &s.motion.receiver} {
		if t.grew {
			c.look(s, t)
		}
	}
	c.pass(s)
}

// look asks whether the newest speed of a track is a fall that brakes cannot do.
func (c *crash) look(s *situation, t *track) {
	last := t.samples[len(t.samples)-1]
	for i := len(t.samples) - 2; i >= 0 && last.axis-t.samples[i].axis <= crashWithin; i-- {
		before := t.samples[i]
		within := max(last.axis-before.axis+before.slack, closest)
		ms2 := (before.kmh - last.kmh) / 3.6 / within.Seconds()
		if before.kmh-last.kmh < crashFall || ms2 < c.limit || ms2 <= c.hit.ms2 || !borneOut(t.samples[:i], before) {
			continue
		}
		if c.hit.track == nil {
			c.hit.place, c.stands = s.position(before.at), 0
		}
		c.hit = hit{before.at, t, before.kmh, last.kmh, within, ms2, c.hit.place}
	}
}

// borneOut reports whether a vehicle can have come to a speed from those before it: a value
// that is wrong in a vehicle that stands falls back as in a crash.
func borneOut(earlier []sample, x sample) bool {
	seen := false
	for _, e := range earlier {
		d := x.axis - e.axis
		if d > crashFrom {
			continue
		}
		if x.kmh-e.kmh > drivesMost*3.6*d.Seconds()+speedStep {
			return false
		}
		seen = true
	}
	return seen
}

func (c *crash) pass(s *situation) {
	if c.hit.track == nil {
		return
	}
	switch {
	case !c.still(s):
		c.stands = 0
	case c.stands == 0:
		c.stands = s.now
	case s.now-c.stands >= crashStands:
		c.tell(s)
		c.hit = hit{}
	}
	if s.now-c.hit.at > crashOver { // the wheels were locked, or a value was wrong
		c.hit = hit{}
	}
}

// still reports that whoever has told a speed since the hit says that the vehicle stands.
// A crash may cut the cable: who saw the hit and has fallen silent has said his last word,
// and another one's is forgotten.
func (c *crash) still(s *situation) bool {
	for _, t := range []*track{&s.motion.wheels, &s.motion.receiver} {
		last, fresh := t.newest(s.now, fixLimit)
		if (fresh || t == c.hit.track) && last.at > c.hit.at && last.kmh > standsStill {
			return false
		}
	}
	return true
}

func (c *crash) tell(s *situation) {
	h := c.hit
	d := crashData{
		EventID: newEventID(), DecelMS2: rounded(h.ms2, 1), ThresholdMS2: c.limit, SpeedFrom: h.from, SpeedTo: h.to, WithinMS: h.within.Milliseconds(),
		StandingS: seconds(s.now - c.stands), Source: h.track.source, RateHz: rounded(h.track.rate(), 1),
	}
	s.reportWithReadings(telemetry.Event{Type: "crash_like_stop", Severity: telemetry.Emergency, At: h.at, Position: h.place, Data: d}, d.EventID)
}
