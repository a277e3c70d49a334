package gps

import (
	"slices"
	"time"

	"telemetryd/internal/telemetry"
)

// assembler gathers sentences into epochs. An epoch is one time of day: a new one
// ends it. A live assembler also ends it after a silence, and publishes it before
// its end when it knows the receiver's cadence. It is a pure structure: time is
// what it is told.
type assembler struct {
	calendar calendar
	cadence  *cadence // nil unless live
	fix      func(telemetry.Reading)
	fixes    func() // counts epochs that became a fix
	dropped  func(why Reason, line string)

	open    *epoch        // nil before the first time and after a silence
	closed  *epoch        // the one that a silence ended
	waiting []sentence    // without a time, after a silence
	began   time.Duration // when the first of them came
	waited  time.Duration // when the last did
	heard   time.Duration // when bytes last came
	burst   time.Duration // when bytes last came after a pause
	line    time.Duration // when the first byte of this line did
	told    bool          // an epoch said by what the mode is known
	epochs  int           // that have ended
	taken   time.Duration // when the last sentence of an epoch did

	dated func(utc time.Time, firstByte, err time.Duration) // a fix that tells its own date; may be nil
}

const (
	// nmeaError is how late the first byte of a cycle may come: receivers compute for 50
	// to 300 ms (gpsd, "Time service HOWTO").
	nmeaError = 500 * time.Millisecond
	// waitingKept is how long sentences without a time wait for one with.
	waitingKept = time.Second
	// waitingMost is how many do.
	waitingMost = 16
	// longestPause is how long a receiver may pause before the last sentences of a cycle.
	longestPause = 500 * time.Millisecond
)

// add takes the next sentence.
func (a *assembler) add(s *sentence, arrived time.Duration) {
	switch {
	case !s.timed && s.position:
		a.dropped(NoTime, s.line)
		return
	case s.timed && (a.open == nil || s.time != a.open.time):
		a.begin(s, arrived)
	case !s.timed && a.open == nil:
		a.wait(s, arrived)
		return
	}
	a.take(s, arrived)
}

// take adds s to the open epoch.
func (a *assembler) take(s *sentence, arrived time.Duration) {
	a.open.add(s, arrived)
	a.taken = arrived
	if s.position && stuck(arrived-a.open.began) {
		a.dropped(Frozen, s.line)
	}
	switch {
	case a.cadence == nil:
	case a.open.published != nil:
		a.cadence.cameLate()
	case a.cadence.ends(a.open.last):
		a.publish()
	}
}

// wait keeps a sentence until the next time tells whose it is. Before the first epoch it
// belongs to one whose time was missed.
func (a *assembler) wait(s *sentence, arrived time.Duration) {
	if a.closed == nil || len(a.waiting) == waitingMost {
		return
	}
	if len(a.waiting) == 0 {
		a.began = arrived
	}
	a.waiting, a.waited = append(a.waiting, *s), arrived
}

// begin opens the epoch of s.
func (a *assembler) begin(s *sentence, arrived time.Duration) {
	a.end()
	a.open = &epoch{time: s.time, began: a.line, seen: map[string]int{}}
	// A live epoch may be published before its end, or begin in its middle, and what is
	// missing then says nothing of the mode. A receiver that never tells it sends RMC alone.
	a.open.modeless = a.cadence != nil && (a.told || a.epochs == 0)
	if a.burst > a.taken { // sentences of other types may have come before
		a.open.began = a.burst
	}
	if a.closed != nil && a.closed.time == s.time { // the silence was a pause
		a.open = a.closed
		a.cadence.paused()
	}
	waiting, closed := a.waiting, a.closed
	a.closed, a.waiting = nil, nil
	switch {
	case len(waiting) == 0:
	case a.open != closed && a.trailed(closed):
		a.cadence.paused()
		for i := range waiting {
			closed.add(&waiting[i], a.waited)
		}
		if closed.published != nil {
			a.complete(closed)
		}
	case arrived-a.waited < waitingKept:
		for i := range waiting {
			a.take(&waiting[i], a.waited)
		}
	}
}

// trailed reports whether what waits is the end of the closed epoch's cycle and not the
// head of the one that begins: of which it came nearer.
func (a *assembler) trailed(closed *epoch) bool {
	pause := a.began - closed.arrived
	return pause <= longestPause && pause < a.line-a.waited
}

// quiet tells that nothing has come until now. A live assembler ends the epoch
// when that is long enough.
func (a *assembler) quiet(now time.Duration) {
	if a.cadence != nil && a.open != nil && now-a.heard >= a.cadence.silence {
		closed := a.open
		a.end()
		a.closed = closed
	}
}

// end ends the open epoch.
func (a *assembler) end() {
	if a.open == nil {
		return
	}
	if a.cadence != nil && a.open.position { // without a fix cycles may be shorter
		a.cadence.ended(a.open.last)
	}
	a.publish()
	a.told = a.told || a.open.tellsMode()
	a.epochs++
	if e := a.open; e.published == nil {
		a.calendar.claim(e.zdaDay, e.time, e.arrived)
	}
	a.open = nil
}

// publish makes a fix of the open epoch, if it is one.
func (a *assembler) publish() {
	e := a.open
	if e.published != nil {
		a.complete(e)
		return
	}
	if why := e.settle(); why != "" {
		a.refuse(e, why, e.coasted.line)
		return
	}
	if !e.position {
		return
	}
	day, why := a.calendar.date(e.day(), e.time, e.arrived)
	if why != "" {
		a.refuse(e, why, e.line)
		return
	}
	r := e.reading(day.Add(e.time))
	e.published = &r
	a.fixes()
	if a.dated != nil && !e.day().IsZero() {
		a.dated(r.FixTime, e.began, nmeaError)
	}
	a.fix(r)
}

// complete delivers what came of an epoch after it was published and was not known
// then.
func (a *assembler) complete(e *epoch) {
	e.settle()
	r := e.reading(e.published.FixTime)
	r.Fields = slices.DeleteFunc(r.Fields, func(f telemetry.Field) bool {
		return slices.ContainsFunc(e.published.Fields, func(p telemetry.Field) bool { return p.Name == f.Name })
	})
	if len(r.Fields) > 0 {
		e.published.Fields = slices.Concat(e.published.Fields, r.Fields)
		a.fix(r)
	}
}

// refuse counts an epoch that is no fix, once.
func (a *assembler) refuse(e *epoch, why Reason, line string) {
	if !e.refused {
		e.refused = true
		a.dropped(why, line)
	}
}

// stuck reports whether the receiver has repeated one time of fix for so long that it
// hangs, and still does.
func (a *assembler) stuck(now time.Duration) bool {
	e := a.open
	if e == nil {
		e = a.closed
	}
	return e != nil && e.position && stuck(e.arrived-e.began) && now-e.arrived < frozenTime
}
