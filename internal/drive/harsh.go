package drive

import (
	"time"

	"telemetryd/internal/telemetry"
)

// harsh finds that the speed changes faster than it should, one way.
type harsh struct {
	manoeuvre
	kind  string
	sign  float64 // of the change that is looked for
	most  float64 // m/s^2; more is not what it seems
	track *track  // by which it began
	began sample
	place *telemetry.Position
}

// harshData is the data of harsh_braking and harsh_acceleration.
type harshData struct {
	EventID      string  `json:"event_id"`
	PeakMS2      float64 `json:"peak_ms2"`
	ThresholdMS2 float64 `json:"threshold_ms2"`
	SpeedFrom    float64 `json:"speed_from_kmh"`
	SpeedTo      float64 `json:"speed_to_kmh"`
	DurationS    float64 `json:"duration_s"`
	Source       string  `json:"speed_source"` // wheels, receiver
	RateHz       float64 `json:"rate_hz"`
}

// least is how long a change of the limit has to last to be one of the speed at all: one
// value that is wrong leaves none behind.
const least = 700 * time.Millisecond

func (h *harsh) reading(s *situation, _ telemetry.Reading) {
	t, ok := s.motion.speaking(s.now)
	if !ok || !t.grew {
		return
	}
	if h.active && h.track != t {
		h.active = false // the other source says what it was, if it goes on
	}
	w := t.window()
	if w == nil {
		return
	}
	x := h.sign * slope(w, func(p sample) float64 { return p.kmh / 3.6 })
	begins, tell, over := h.take(s.now, x)
	if begins {
		h.began, h.track = h.turning(w, true), t
		h.place = s.position(h.began.at)
	}
	if tell {
		end := w[len(w)-1]
		if over {
			end = h.turning(w, false)
		}
		h.tell(s, t, end)
	}
}

func (h *harsh) pass(s *situation) {
	if h.lost(s.now) {
		h.tell(s, h.track, h.track.samples[len(h.track.samples)-1])
	}
}

// turning is where in a window the change begins, or ends: the last sample before the
// speed moves away, the first one from which it no longer does. So an event begins within
// the second in which the limit was reached, whatever was before it.
func (h *harsh) turning(w []sample, begin bool) sample {
	best := w[0]
	for _, p := range w {
		further := h.sign * (p.kmh - best.kmh)
		if begin && further <= 0 || !begin && further > 0 {
			best = p
		}
	}
	return best
}

func (h *harsh) tell(s *situation, t *track, end sample) {
	change := h.sign * (end.kmh - h.began.kmh) / 3.6
	if change < h.limit*least.Seconds() || h.peak > h.most || s.parked { // nobody drives: it is one fix that was wrong
		return
	}
	d := harshData{
		EventID: newEventID(), PeakMS2: rounded(h.peak, 2), ThresholdMS2: h.limit, SpeedFrom: h.began.kmh, SpeedTo: end.kmh,
		DurationS: seconds(end.axis - h.began.axis), Source: t.source, RateHz: rounded(t.rate(), 1),
	}
	s.reportWithReadings(telemetry.Event{Type: h.kind, Severity: telemetry.Warning, At: h.began.at, Position: h.place, Data: d}, d.EventID)
}
