package obd

import (
	"context"
	"fmt"
	"time"
)

// delays are how long the last answers took, from the request to the last byte, by
// mode, and beyond mode 01 by request: an ECU may be slow at one thing.
type delays map[string]*recent

// recent is the quickest answer of the last seconds, in two spans that take turns.
type recent struct {
	since      time.Duration
	this, last time.Duration
}

// recentSpan is how long each span is: what was slow for longer than two is usual.
const recentSpan = 2500 * time.Millisecond

// usual is how long an answer takes that nothing holds back; 0 when that is not known.
func (d delays) usual(kind string) time.Duration {
	r := d[kind]
	if r == nil {
		return 0
	}
	return min(r.this, r.last)
}

// lateness is how much longer than usual an answer may take to come: what a stalled
// line held back has no known time. It bounds the error of a reading's time.
const lateness = 150 * time.Millisecond

// late reports whether an answer took so much longer than the quickest of the last
// that something on the way may have held it back. Before anything is known, what
// takes long is late: the next one will tell whether it always does.
func (d delays) late(kind string, took, now time.Duration) bool {
	usual := d.usual(kind)
	r := d[kind]
	switch {
	case r != nil && now-r.since < recentSpan:
		r.this = min(r.this, took)
	case r != nil:
		*r = recent{since: now, this: took, last: r.this}
	case len(d) < maxDelays:
		d[kind] = &recent{since: now, this: took, last: took}
	}
	return took-usual > lateness
}

// maxDelays bounds what is learned: more requests than anybody plans.
const maxDelays = 512

// timing is how long the adapter waits for further answers, where a count digit does
// not end that. It is shortened, and restored when that costs answers; for an ECU that
// asks for time it is stretched.
type timing struct {
	short  string // the command that shortened it; empty while it is the adapter's own
	done   bool   // nothing is left to try
	misses int    // in a row under short
	long   bool   // stretched
}

const toleratedShortMisses = 2

func (t *timing) judge(a Answer, got bool) {
	switch {
	case got:
		t.misses = 0
	case t.short != "" && !t.long && a.Has(NoData):
		t.misses++
	}
}

// tune shortens the adapter's wait once it is known that no count digit helps, by
// the faster adaptive timing (ATAT2), or by a fixed time (ATST) fitted to the car
// where the adapter does not adapt.
func (s *session) tune(ctx context.Context) error {
	if s.timing.done || !s.count.refused || s.timing.long {
		return nil
	}
	switch {
	case s.timing.short == "":
		short := "ATAT2"
		if !s.adaptive {
			const unit = 4096 * time.Microsecond
			wait := 2*s.delays.usual(polls) + 20*time.Millisecond
			short = fmt.Sprintf("ATST%02X", min(max(wait/unit, 8), 0xFF))
		}
		taken, err := s.set(ctx, short)
		if s.timing.done = !taken; taken {
			s.timing.short = short
		}
		return err
	case s.timing.misses >= toleratedShortMisses:
		s.timing.short, s.timing.done = "", true
		return s.ownTiming(ctx)
	}
	return nil
}

// ownTiming sets the adapter's own timing (ELM327 data sheet, ATST and ATAT).
func (s *session) ownTiming(ctx context.Context) error {
	if _, err := s.set(ctx, "ATST32"); err != nil || !s.adaptive {
		return err
	}
	_, err := s.set(ctx, "ATAT1")
	return err
}

// waitLong stretches the adapter's wait to the longest there is, a second after each
// frame, or ends that: an ECU that says that it works on it (7F xx 78) may take longer
// than the adapter waits for any other.
func (s *session) waitLong(ctx context.Context, long bool) error {
	if long == s.timing.long {
		return nil
	}
	s.timing.long = long
	if !long {
		if err := s.ownTiming(ctx); err != nil || s.timing.short == "" {
			return err
		}
		_, err := s.set(ctx, s.timing.short)
		return err
	}
	if s.adaptive {
		if _, err := s.set(ctx, "ATAT0"); err != nil {
			return err
		}
	}
	_, err := s.set(ctx, "ATSTFF")
	return err
}
