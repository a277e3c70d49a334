package drive

import (
	"time"

	"telemetryd/internal/telemetry"
)

// limited finds that something cannot be judged, because what it follows from comes too
// seldom. It says so once a trip: silence would look like good driving.
type limited struct {
	speed                 []string // kinds that follow from the speed
	heading               bool     // one follows from the heading
	speedSince, headSince time.Duration
	speedTold, headTold   bool
	trip                  string
}

// limitedData is the data of judgement_limited.
type limitedData struct {
	Kinds    []string `json:"kinds"` // of events that are not looked for
	Source   string   `json:"speed_source"`
	RateHz   float64  `json:"rate_hz"`
	NeededHz float64  `json:"needed_hz"`
}

const (
	limitedAfter = 30 * time.Second // of driving
	limitedFrom  = 10.0             // km/h
)

func (l *limited) reading(*situation, telemetry.Reading) {}

func (l *limited) pass(s *situation) {
	if s.trip != l.trip {
		l.trip, l.speedTold, l.headTold = s.trip, false, false
	}
	v, ok := s.speed()
	drives := ok && v.kmh > limitedFrom
	t, speaks := s.motion.speaking(s.now)
	l.look(s, t, l.speed, drives && speaks && len(l.speed) > 0, &l.speedSince, &l.speedTold)
	fixes := &s.motion.receiver
	_, fresh := fixes.newest(s.now, fixLimit)
	l.look(s, fixes, []string{"harsh_cornering"}, drives && fresh && l.heading, &l.headSince, &l.headTold)
}

// look tells once when a track has been too slow for some time.
func (l *limited) look(s *situation, t *track, kinds []string, wanted bool, since *time.Duration, told *bool) {
	switch {
	case *told || !wanted || t.rate() >= leastRate:
		*since = 0
	case *since == 0:
		*since = max(s.now, 1)
	case s.now-*since >= limitedAfter:
		*told = true
		d := limitedData{kinds, t.source, rounded(t.rate(), 2), leastRate}
		s.report(telemetry.Event{Type: "judgement_limited", Severity: telemetry.Info, At: s.now, Data: d})
	}
}
