package drive

import (
	"math"

	"telemetryd/internal/telemetry"
)

// cornering finds harsh_cornering: the receiver's speed times how fast its heading turns
// is the acceleration to the side.
type cornering struct {
	manoeuvre
	began    sample
	place    *telemetry.Position
	turned   float64 // degrees since it began, clockwise
	previous sample
	fastest  float64 // km/h
}

// corneringData is the data of harsh_cornering.
type corneringData struct {
	EventID      string  `json:"event_id"`
	PeakMS2      float64 `json:"peak_ms2"`
	ThresholdMS2 float64 `json:"threshold_ms2"`
	SpeedKMH     float64 `json:"speed_kmh"` // the highest
	TurnedDeg    float64 `json:"turned_deg"`
	DurationS    float64 `json:"duration_s"`
	Source       string  `json:"speed_source"`
	RateHz       float64 `json:"rate_hz"`
}

const (
	// headingFrom is the speed below which a receiver's heading is mostly noise.
	headingFrom = 15.0
	// cornersMost is more than tyres hold: a heading that jumped.
	cornersMost = 12
)

func (c *cornering) reading(s *situation, _ telemetry.Reading) {
	t := &s.motion.receiver
	if !t.grew {
		return
	}
	w := t.window()
	if w == nil {
		return
	}
	var lateral float64
	if turn, kmh, ok := turning(w); ok {
		lateral = math.Abs(turn) * math.Pi / 180 * kmh / 3.6
	}
	begins, tell, _ := c.take(s.now, lateral)
	if begins {
		c.began, c.place, c.turned, c.fastest, c.previous = w[0], s.position(w[0].at), 0, 0, w[0]
	}
	if c.active || tell {
		for _, p := range w {
			if p.axis > c.previous.axis && !math.IsNaN(p.heading) {
				c.turned += math.Remainder(p.heading-c.previous.heading, 360)
				c.fastest, c.previous = max(c.fastest, p.kmh), p
			}
		}
	}
	if tell {
		c.tell(s, t, c.previous)
	}
}

func (c *cornering) pass(s *situation) {
	if c.lost(s.now) {
		c.tell(s, &s.motion.receiver, c.previous)
	}
}

// turning is the degrees a second by which the heading turns in a window, and the mean
// speed. ok is false where a heading is missing or the vehicle is too slow to have one.
func turning(w []sample) (turn, kmh float64, ok bool) {
	unwound := make([]sample, len(w))
	for i, p := range w {
		if math.IsNaN(p.heading) || p.kmh < headingFrom {
			return 0, 0, false
		}
		unwound[i] = p
		if i > 0 {
			unwound[i].heading = unwound[i-1].heading + math.Remainder(p.heading-w[i-1].heading, 360)
		}
		kmh += p.kmh / float64(len(w))
	}
	return slope(unwound, func(p sample) float64 { return p.heading }), kmh, true
}

func (c *cornering) tell(s *situation, t *track, end sample) {
	if c.peak > max(cornersMost, c.limit) || s.parked {
		return
	}
	d := corneringData{
		EventID: newEventID(), PeakMS2: rounded(c.peak, 2), ThresholdMS2: c.limit, SpeedKMH: rounded(c.fastest, 1), TurnedDeg: rounded(c.turned, 0),
		DurationS: seconds(end.axis - c.began.axis), Source: t.source, RateHz: rounded(t.rate(), 1),
	}
	s.reportWithReadings(telemetry.Event{Type: "harsh_cornering", Severity: telemetry.Warning, At: c.began.at, Position: c.place, Data: d}, d.EventID)
}
