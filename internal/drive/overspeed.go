package drive

import (
	"time"

	"telemetryd/internal/telemetry"
)

// overspeed finds that the vehicle is faster than it may be, here or anywhere.
type overspeed struct {
	lasting
	limit  float64 // km/h where no place has one; 0: none
	judged time.Duration
	begun  overspeedData
	began  time.Duration
	peak   float64
}

// overspeedData is the data of overspeed, and with Duration of overspeed_end.
type overspeedData struct {
	EventID  string  `json:"event_id"`
	Limit    float64 `json:"limit_kmh"`
	Fence    string  `json:"geofence,omitempty"` // whose limit it is
	Peak     float64 `json:"peak_kmh"`
	Duration float64 `json:"duration_s"`
	Source   string  `json:"speed_source"`
	RateHz   float64 `json:"rate_hz"`
}

const (
	overspeedOver   = 3 * time.Second // below the limit, and it is over
	overspeedBelow  = 3.0             // km/h below the limit that count as below
	overspeedUnseen = 10 * time.Second
)

func (o *overspeed) reading(s *situation, _ telemetry.Reading) {
	v, ok := s.speed()
	if !ok || v.at == o.judged {
		return
	}
	if v.at-o.judged > overspeedUnseen && !o.told {
		o.reset()
	}
	o.judged = v.at
	limit := o.limit
	if s.limit > 0 {
		limit = s.limit
	}
	if o.told { // what began under one limit is judged by it, as long as that holds
		isNot := v.kmh < o.begun.Limit-overspeedBelow || limit != o.begun.Limit
		if !isNot {
			o.peak = max(o.peak, v.kmh)
		}
		if _, ends := o.take(v.at, !isNot, isNot); ends {
			o.end(s, o.until)
		}
		return
	}
	if limit != o.begun.Limit {
		o.reset()
		o.begun.Limit = limit
	}
	is := limit > 0 && v.kmh > limit
	if !is || o.since == 0 {
		o.peak = 0
	}
	o.peak = max(o.peak, v.kmh)
	begins, _ := o.take(v.at, is, !is)
	if begins {
		t := &s.motion.wheels
		if v.receiver {
			t = &s.motion.receiver
		}
		o.began = o.since
		o.begun = overspeedData{newEventID(), limit, s.limits, o.peak, seconds(v.at - o.began), t.source, rounded(t.rate(), 1)}
		s.report(telemetry.Event{Type: "overspeed", Severity: telemetry.Warning, At: v.at, Data: o.begun})
	}
}

func (o *overspeed) pass(s *situation) {
	if o.told && s.now-o.judged > overspeedUnseen {
		o.end(s, o.judged)
	}
}

// end tells that it was over at a time.
func (o *overspeed) end(s *situation, at time.Duration) {
	d := o.begun
	d.Peak, d.Duration = o.peak, seconds(at-o.began)
	s.report(telemetry.Event{Type: "overspeed_end", Severity: telemetry.Info, At: at, Data: d})
	o.reset()
}
