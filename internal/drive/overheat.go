package drive

import (
	"time"

	"telemetryd/internal/telemetry"
)

// overheat finds that the engine's coolant is too hot.
type overheat struct {
	lasting
	limit   float64 // degrees Celsius
	eventID string
	began   time.Duration
	judged  time.Duration
	peak    float64
}

// overheatData is the data of engine_overheated and engine_overheated_end.
type overheatData struct {
	EventID   string  `json:"event_id"`
	Peak      float64 `json:"peak_c"`
	Threshold float64 `json:"threshold_c"`
	Duration  float64 `json:"duration_s"`
}

const (
	hotFor     = 10 * time.Second // so long, and it is no single value that was wrong
	coolFor    = 30 * time.Second
	coolBelow  = 5.0             // degrees below the limit
	heatUnseen = 2 * time.Minute // values come every ten seconds where the car has little time
)

func (o *overheat) reading(s *situation, _ telemetry.Reading) {
	c, at, ok := s.number("coolant_temperature_c", heatUnseen)
	if !ok || at == o.judged {
		return
	}
	if at-o.judged > heatUnseen && !o.told {
		o.reset()
	}
	o.judged = at
	if o.since == 0 {
		o.peak = c
	}
	o.peak = max(o.peak, c)
	begins, ends := o.take(at, c >= o.limit, c < o.limit-coolBelow)
	switch {
	case begins:
		o.began, o.eventID = o.since, newEventID()
		s.report(telemetry.Event{Type: "engine_overheated", Severity: telemetry.Warning, At: at, Data: o.data(at)})
	case ends:
		o.end(s, o.until)
	}
}

func (o *overheat) pass(s *situation) {
	if o.told && s.now-o.judged > heatUnseen {
		o.end(s, o.judged)
	}
}

// end tells that it was over at a time.
func (o *overheat) end(s *situation, at time.Duration) {
	s.report(telemetry.Event{Type: "engine_overheated_end", Severity: telemetry.Info, At: at, Data: o.data(at)})
	o.reset()
}

func (o *overheat) data(at time.Duration) overheatData {
	return overheatData{o.eventID, o.peak, o.limit, seconds(at - o.began)}
}
