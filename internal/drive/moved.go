package drive

import (
	"time"

	"telemetryd/internal/telemetry"
)

// moved finds that a parked vehicle is somewhere else though nobody started it: towed,
// or rolled away.
type moved struct {
	limit   float64 // m
	parked  bool
	left    time.Duration // when it was no longer taken as parked
	anchor  *anchor       // where it was parked; nil when nothing is looked for
	away    time.Duration // since it is too far from there
	rolling time.Duration // when it last had a speed
}

// anchor is the mean of the first fixes of a parked vehicle.
type anchor struct {
	place
	fixes float64
}

// movedData is the data of moved_while_parked.
type movedData struct {
	EventID    string  `json:"event_id"`
	DistanceM  float64 `json:"distance_m"`
	ThresholdM float64 `json:"threshold_m"`
	SpeedKMH   float64 `json:"speed_kmh"`
	ParkedS    float64 `json:"parked_for_s"`
}

const (
	anchorFixes  = 10
	anchorWithin = 30.0 // m that fixes of a vehicle at rest differ by
	movedFor     = 10 * time.Second
	movedFrom    = 5.0 // km/h: a fix that wanders in a garage has no such speed
	rollsWithin  = time.Minute
	// armedFor is how long after it was taken as parked a vehicle is still looked after: its
	// movement is what ends that, too.
	armedFor = 10 * time.Minute
)

func (m *moved) reading(s *situation, r telemetry.Reading) {
	rpm, _ := r.Number("engine_speed_rpm")
	if wheels, _ := r.Number("vehicle_speed_kmh"); rpm > 0 || wheels > 0 {
		m.anchor = nil // somebody drives
	}
	kmh, _ := r.Number("gps_speed_kmh")
	if here := placeOf(r); here.known && m.anchor != nil {
		m.fix(s, here, kmh)
	}
}

func (m *moved) pass(s *situation) {
	switch {
	case s.parked && !m.parked:
		m.away, m.rolling, m.left = 0, 0, 0
		if m.anchor = nil; s.spoke { // without, nobody knows whether somebody drives
			m.anchor = new(anchor)
		}
	case !s.parked && m.parked:
		m.left = s.now
	case !s.parked && m.anchor != nil && s.now-m.left > armedFor:
		m.anchor = nil
	}
	m.parked = s.parked
}

// fix takes where the vehicle is.
func (m *moved) fix(s *situation, here place, kmh float64) {
	a := m.anchor
	far := metres(here, a.place)
	if kmh >= movedFrom {
		m.rolling = s.now
	}
	switch {
	case far < anchorWithin && a.fixes < anchorFixes && kmh < movedFrom || a.fixes == 0:
		a.fixes++
		a.latitude += (here.latitude - a.latitude) / a.fixes
		a.longitude += (here.longitude - a.longitude) / a.fixes
	case far < m.limit:
		m.away = 0
	case m.away == 0:
		m.away = s.now
	case s.now-m.away >= movedFor && m.rolling > 0 && s.now-m.rolling <= rollsWithin:
		d := movedData{newEventID(), rounded(far, 0), m.limit, kmh, seconds(s.now - s.since)}
		s.reportWithReadings(telemetry.Event{Type: "moved_while_parked", Severity: telemetry.Warning, At: s.now, Position: s.position(s.now), Data: d}, d.EventID)
		m.anchor = nil // told once
	}
}
