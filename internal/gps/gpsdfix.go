package gps

import (
	"slices"
	"time"

	"telemetryd/internal/telemetry"
)

const (
	// holdFor is how long a TPV waits for more of its time: in its first cycles gpsd
	// sends one for each sentence, growing as it goes.
	holdFor = 200 * time.Millisecond
	// gpsdSilence is how long nothing may come of a receiver until it counts as lost:
	// gpsd does not tell. What a SKY said is forgotten after as long.
	gpsdSilence = 10 * time.Second
	// unsettled is how many times' speed, heading, hdop and satellites are left out after a receiver was
	// opened or came back: gpsd has missed the beginning of the cycle, and where the
	// receiver's own speed is missing it computes one from two positions without
	// telling so (measured with 3.22: 3.2 in place of 8.1 km/h).
	unsettled = 3
	// gpsdGap without a fix may mean that the receiver was opened anew.
	gpsdGap = 3 * time.Second
	// gpsdError is how late a report may come: behind the whole cycle of the receiver.
	// Where gpsd tells when the cycle began, it is nmeaError.
	gpsdError = time.Second
	// mostDevices bounds the receivers kept apart; gpsd has 4 to 6 at most.
	mostDevices = 16
)

// desk turns gpsd's reports into fixes. Of several receivers it takes the first that
// has a fix, and stays with it until it has given none for gpsdSilence. It is a pure
// structure: time is what it is told.
type desk struct {
	build   time.Time
	fix     func(telemetry.Reading)
	fixes   func() // counts times that became a fix
	dropped func(why Reason, text string)
	dated   func(utc time.Time, firstByte, err time.Duration) // may be nil

	lines     lines
	device    string        // chosen; empty for none yet
	fixedAt   time.Duration // when it last had a fix
	skies     map[string]sky
	held      *heldFix
	published *heldFix      // the last one
	hangs     bool          // its time was repeated for too long
	settled   int           // times since the receiver was opened or came back, up to unsettled
	told      time.Duration // when the last time of fix was reported first
	behind    time.Duration // the begin of its cycle
}

// sky is what the SKYs of a receiver said last.
type sky struct {
	hdop, satellites     value
	hdopAt, satellitesAt time.Duration
}

// heldFix is what the TPVs of one time said.
type heldFix struct {
	epoch
	fixTime time.Time
	began   time.Duration // when the first of them came
	reading telemetry.Reading
}

// feed takes bytes, and calls other for each report that tells of no fix.
func (d *desk) feed(data []byte, arrived time.Duration, other func(*report)) {
	d.quiet(arrived)
	d.lines.push(data, func(line []byte) {
		r, relevant, why := parseReport(line)
		switch {
		case why != "":
			d.dropped(why, shown(line))
		case !relevant:
		case r.Class == "SKY":
			d.addSky(&r, arrived)
		case r.Class == "TPV":
			d.addFix(&r, line, arrived)
			other(&r)
		default:
			other(&r)
		}
	}, func(line []byte) { d.dropped(TooLong, shown(line)) })
}

func (d *desk) addSky(r *report, arrived time.Duration) {
	if d.skies == nil {
		d.skies = map[string]sky{}
	}
	s, known := d.skies[r.Device]
	if !known && len(d.skies) >= mostDevices {
		clear(d.skies)
	}
	hdop, satellites := r.sky()
	if r.HDOP != nil { // 99.99 says that it is unknown now
		s.hdop, s.hdopAt = hdop, arrived
	}
	if satellites.ok {
		s.satellites, s.satellitesAt = satellites, arrived
	}
	d.skies[r.Device] = s
}

// at is what is known at a time; what is older than gpsdSilence is not.
func (s sky) at(now time.Duration) (hdop, satellites value) {
	hdop, satellites = s.hdop, s.satellites
	hdop.ok = hdop.ok && now-s.hdopAt < gpsdSilence
	satellites.ok = satellites.ok && now-s.satellitesAt < gpsdSilence
	return hdop, satellites
}

func (d *desk) addFix(r *report, line []byte, arrived time.Duration) {
	e, why := r.epoch()
	var at time.Time
	if e.position {
		at, why = r.fixTime(d.build)
	}
	switch {
	case why != "":
		d.dropped(why, shown(line))
		return
	case !d.chosen(r.Device, e.position, arrived):
		return
	case !e.position:
		d.release()
		return
	}
	if arrived-d.fixedAt >= gpsdGap {
		d.opened()
	}
	d.fixedAt = arrived
	if d.held != nil && !d.held.fixTime.Equal(at) {
		d.release()
	}
	switch {
	case d.held != nil:
	case d.published != nil && d.published.fixTime.Equal(at):
		d.held = d.published // more of it, or again the same
		if stuck(arrived - d.held.began) {
			d.held, d.hangs = nil, true
			d.dropped(Frozen, shown(line))
			return
		}
	default:
		d.hangs = false
		d.settled = min(d.settled+1, unsettled+1)
		d.held = &heldFix{fixTime: at, began: arrived}
		d.date(r, at, arrived)
	}
	if d.settled <= unsettled {
		e.speed, e.course = value{}, value{}
	}
	d.held.join(&e, arrived)
}

// date tells the time by a fix that is reported for the first time. gpsd measures how
// far behind the begin of the receiver's cycle it reports with a clock that may be set
// in between; so what it says counts as far as the report before said the same, and as
// the cycle began behind that.
func (d *desk) date(r *report, at time.Time, arrived time.Duration) {
	firstByte, err := arrived, gpsdError
	behind := r.behind()
	if shortest := min(behind, d.behind); shortest > 0 && arrived-shortest > d.told {
		firstByte, err = arrived-shortest, nmeaError
	}
	d.told, d.behind = arrived, behind
	if d.dated != nil {
		d.dated(at, firstByte, err)
	}
}

// opened tells that gpsd has opened a receiver, or may have.
func (d *desk) opened() {
	d.settled = 0
	delete(d.skies, d.device)
}

// join adds what another TPV of the same time says.
func (h *heldFix) join(e *epoch, arrived time.Duration) {
	h.position, h.latitude, h.longitude, h.mode, h.arrived = true, e.latitude, e.longitude, e.mode, arrived
	h.altitude, h.speed, h.course = e.altitude.or(h.altitude), e.speed.or(h.speed), e.course.or(h.course)
}

// chosen reports whether the receiver is the one to listen to; one that has a fix is
// chosen when none is, or when the chosen one has had none for long.
func (d *desk) chosen(device string, fixed bool, now time.Duration) bool {
	if d.device == device {
		return true
	}
	if !fixed || d.device != "" && now-d.fixedAt < gpsdSilence {
		return d.device == ""
	}
	d.release()
	d.opened()
	d.device = device
	return true
}

// quiet tells that it is now.
func (d *desk) quiet(now time.Duration) {
	if d.held != nil && now-d.held.arrived >= holdFor {
		d.release()
	}
}

// wait is how long until quiet has something to do; 0 when it has not.
func (d *desk) wait(now time.Duration) time.Duration {
	if d.held == nil {
		return 0
	}
	return max(d.held.arrived+holdFor-now, time.Millisecond)
}

// release delivers what is held, or what is new of it when it was delivered before.
func (d *desk) release() {
	h := d.held
	if h == nil {
		return
	}
	d.held = nil
	if d.settled > unsettled { // until then it may tell of half a cycle
		h.hdop, h.satellites = d.skies[d.device].at(h.arrived)
	}
	r := h.epoch.reading(h.fixTime)
	if h == d.published {
		known := h.reading.Fields
		r.Fields = slices.DeleteFunc(r.Fields, func(f telemetry.Field) bool {
			return slices.ContainsFunc(known, func(k telemetry.Field) bool { return k.Name == f.Name })
		})
		if len(r.Fields) > 0 {
			h.reading.Fields = slices.Concat(known, r.Fields)
			d.fix(r)
		}
		return
	}
	h.reading, d.published = r, h
	d.fixes()
	d.fix(r)
}

// stuck reports whether the chosen receiver hangs, and still reports.
func (d *desk) stuck(now time.Duration) bool { return d.hangs && now-d.fixedAt < frozenTime }
