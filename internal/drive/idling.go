package drive

import (
	"time"

	"telemetryd/internal/telemetry"
)

// idling finds that the engine runs and the vehicle does not.
type idling struct {
	lasting
	eventID string
	began   time.Duration
	last    time.Duration // that it was seen to idle
}

// idlingData is the data of long_idling, and with how long it was in all of
// long_idling_end.
type idlingData struct {
	EventID   string  `json:"event_id"`
	Duration  float64 `json:"duration_s"`
	Threshold float64 `json:"threshold_s"`
}

const (
	idlingUnseen = 30 * time.Second // without the engine's or the vehicle's speed
	standsWheels = 1.0              // km/h at which a vehicle stands, by its wheels
	standsFix    = 3.0              // by the receiver, whose speed is never quite nothing
	rollsFrom    = 5.0              // km/h from which it no longer idles
)

func (i *idling) reading(s *situation, _ telemetry.Reading) { i.pass(s) }

func (i *idling) pass(s *situation) {
	rpm, _, engine := s.number("engine_speed_rpm", idlingUnseen)
	kmh, _, known := s.number("vehicle_speed_kmh", idlingUnseen)
	stands := kmh <= standsWheels
	if !known {
		kmh, _, known = s.number("gps_speed_kmh", idlingUnseen)
		stands = kmh <= standsFix
	}
	is := engine && rpm > 0 && known && stands
	isNot := !engine || rpm == 0 || !known || kmh > rollsFrom
	if is {
		i.last = s.now
	}
	if !i.told && !isNot && i.since > 0 {
		is = true // somebody moved up a little
	}
	begins, ends := i.take(s.now, is, isNot)
	switch {
	case begins:
		i.began, i.eventID = i.since, newEventID()
		s.report(telemetry.Event{Type: "long_idling", Severity: telemetry.Info, At: s.now, Data: i.data(s.now)})
	case ends:
		s.report(telemetry.Event{Type: "long_idling_end", Severity: telemetry.Info, At: i.last, Data: i.data(i.last)})
		i.reset()
	}
}

func (i *idling) data(at time.Duration) idlingData {
	return idlingData{i.eventID, seconds(at - i.began), seconds(i.hold)}
}
