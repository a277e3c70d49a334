package gps

import (
	"time"

	"telemetryd/internal/telemetry"
)

// epoch is what the sentences of one time of day said.
type epoch struct {
	time    time.Duration // since 0:00 UTC
	began   time.Duration // when the first byte of its cycle came
	arrived time.Duration // when the last sentence did

	rmcDay, zdaDay time.Time
	rmc            bool // a valid RMC came

	position            bool
	latitude, longitude float64
	line                string // that the position came with

	// coasted is a position from fewer than three satellites. It counts only next
	// to a valid RMC; receivers without one go on computing it for minutes.
	coasted *sentence

	speed, course, altitude, hdop, gsaHDOP, satellites value
	allSystems                                         bool
	mode                                               int
	modeless                                           bool // a mode that is not told is not known

	seen map[string]int // sentences by address
	last mark           // the last sentence

	published *telemetry.Reading // what has been delivered of it
	refused   bool               // counted as no fix
}

// mark names a place in a receiver's cycle: the nth sentence of this address.
type mark struct {
	address string
	nth     int
}

// add takes what s says: of each value the last one sent.
func (e *epoch) add(s *sentence, arrived time.Duration) {
	e.arrived = arrived
	e.seen[s.address]++
	e.last = mark{s.address, e.seen[s.address]}
	if !s.day.IsZero() {
		if s.rmc {
			e.rmcDay = s.day
		} else {
			e.zdaDay = s.day
		}
	}
	e.rmc = e.rmc || s.rmc
	if s.coasting {
		e.coasted = s
		return
	}
	e.addPosition(s)
	e.addQuality(s)
	e.speed, e.course = s.speed.or(e.speed), s.course.or(e.course)
	e.gsaHDOP = s.gsaHDOP.or(e.gsaHDOP)
	e.mode = max(e.mode, s.mode)
}

func (e *epoch) addPosition(s *sentence) {
	if s.position {
		e.position, e.latitude, e.longitude, e.line = true, s.latitude, s.longitude, s.line
	}
}

// addQuality takes what GGA and GNS say beside the position.
func (e *epoch) addQuality(s *sentence) {
	e.altitude = s.altitude.or(e.altitude)
	e.hdop = s.hdop.or(e.hdop)
	// GNS counts the satellites of every system, a GGA beside it often only GPS.
	if s.satellites.ok && (s.allSystems || !e.allSystems) {
		e.satellites, e.allSystems = s.satellites, s.allSystems
	}
}

// settle decides on a coasted position: only the whole epoch can tell.
func (e *epoch) settle() Reason {
	if e.coasted == nil {
		return ""
	}
	if !e.rmc {
		if e.position {
			return ""
		}
		return Coasting
	}
	if !e.position { // else the RMC's own stands
		e.addPosition(e.coasted)
	}
	e.addQuality(e.coasted)
	e.coasted = nil
	return ""
}

// day is the epoch's own date: an RMC's, else a ZDA's next to a position.
func (e *epoch) day() time.Time {
	if !e.rmcDay.IsZero() || !e.position {
		return e.rmcDay
	}
	return e.zdaDay
}

// reading is the fix; fixTime is the receiver's time in full.
func (e *epoch) reading(fixTime time.Time) telemetry.Reading {
	r := telemetry.Reading{Arrived: e.arrived, FixTime: fixTime}
	r.Fields = make([]telemetry.Field, 0, 8)
	r.Add("latitude", e.latitude)
	r.Add("longitude", e.longitude)
	for _, v := range []struct {
		name string
		value
	}{
		{"altitude_m", e.altitude},
		{"gps_speed_kmh", e.speed},
		{"heading_deg", e.course},
		{"satellites", e.satellites},
		{"hdop", e.hdop.or(e.gsaHDOP)},
	} {
		if v.ok {
			r.Add(v.name, v.x)
		}
	}
	r.AddText("fix", e.fix())
	return r
}

// tellsMode reports whether there is a GSA, or what GGA and GNS say, to know the mode by.
func (e *epoch) tellsMode() bool { return e.mode != 0 || e.altitude.ok || e.satellites.ok }

// fix is the mode, "2d" or "3d": the best GSA's (receivers of several systems send one for
// each), else three dimensions when there is an altitude and nothing against it. It is empty
// where what would tell it has not come.
func (e *epoch) fix() string {
	switch {
	case e.mode == 2:
		return "2d"
	case e.mode == 3, e.altitude.ok && (!e.satellites.ok || e.satellites.x >= 4):
		return "3d"
	case e.modeless && !e.tellsMode():
		return ""
	default:
		return "2d"
	}
}
