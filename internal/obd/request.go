package obd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// query is one request to the car.
type query struct {
	text string // in hex, without a count digit
	to   channel
	// frames are those of the answer of the wanted ECU, where that can be told; 0
	// otherwise. others names what decides how many the other ECUs add.
	frames int
	others string
}

// lateness is how much longer than usual an answer may take to come: what a stalled
// line held back has no known time. It bounds the error of a reading's time.
const lateness = 150 * time.Millisecond

// exchange puts a request on the bus, as soon as the ceiling allows it, and returns
// its answer and when that arrived. Trouble on the way is counted; an adapter that
// restarted or cannot be brought back in step and a port that is gone are errors.
// got tells whether the answer holds what was wanted.
func (s *session) exchange(ctx context.Context, q query, got func(Answer) bool) (Answer, time.Duration, error) {
	if err := s.use(ctx, q.to); err != nil {
		return Answer{}, 0, err
	}
	if err := s.until(ctx, s.pace.free); err != nil {
		return Answer{}, 0, err
	}
	digit := s.count.digit(q)
	text := q.text
	if digit > 0 {
		text = fmt.Sprintf("%s%X", q.text, digit)
	}
	sent := s.now()
	s.pace.sent(sent)
	s.counters.request()
	r, err := s.ask(ctx, text, answerLimit)
	// An adapter that opens the bus first sends the request only then.
	s.pace.sent(max(sent, r.arrived-s.usual))
	if err != nil {
		if !errors.Is(err, errTimeout) {
			return Answer{}, 0, err
		}
		// Without its prompt an answer may be cut anywhere: nothing of it counts.
		s.counters.trouble(NoPrompt)
		return Answer{}, 0, s.recover(ctx)
	}
	a := parseAnswer(r.raw, text, s.bus())
	for _, t := range a.Trouble {
		s.counters.trouble(t.Cause)
	}
	if err := s.inOrder(ctx, a); err != nil {
		return Answer{}, 0, err
	}
	ok := got(a)
	s.count.judge(q, digit, a, ok)
	s.timing.judge(a, ok)
	if a.Has(BufferFull) {
		s.filtered = true
	}
	if len(a.Messages) > 0 && s.isLate(r.arrived-sent) {
		s.counters.trouble(Late)
		a.Messages = nil
	}
	return a, r.arrived, nil
}

// inOrder sees from an answer whether adapter and session still agree.
func (s *session) inOrder(ctx context.Context, a Answer) error {
	switch {
	case a.Has(Restarted):
		return errRestarted
	case len(a.Lines) == 0: // a prompt out of nowhere: the answer is still to come
		return s.recover(ctx)
	case a.Has(Garbage) && len(a.Messages) == 0:
		if s.garbled++; s.garbled >= toleratedGarbage {
			return errLostSettings
		}
	case len(a.Messages) > 0:
		s.garbled = 0
	}
	return nil
}

// isLate reports whether an answer took so much longer than usual that something on
// the way held it back, and learns what is usual.
func (s *session) isLate(took time.Duration) bool {
	if s.usual == 0 {
		s.usual = took
		return false
	}
	late := took-s.usual > lateness
	s.usual += min(took-s.usual, lateness) / 8
	return late
}

// until waits for the time since boot at.
func (s *session) until(ctx context.Context, at time.Duration) error {
	d := at - s.now()
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// channel is whom a request goes to and from whom answers are taken: the header
// (ATSH) and the receive filter (ATCRA) in hex; empty for the protocol's own.
type channel struct{ header, filter string }

// use sets the adapter to a channel.
func (s *session) use(ctx context.Context, c channel) error {
	if s.noFilter {
		c.filter = ""
	}
	if c == s.at {
		return nil
	}
	if c.header != s.at.header {
		header := c.header
		if header == "" {
			header = defaultHeaders[s.protocol]
		}
		priority := ""
		if len(header) == 8 { // 29 bits: the first byte has a command of its own
			priority, header = header[:2], header[2:]
		}
		if priority != "" {
			if _, err := s.set(ctx, "ATCP"+priority); err != nil {
				return err
			}
		}
		if taken, err := s.set(ctx, "ATSH"+header); err != nil || !taken {
			return errors.Join(err, s.notTaken("ATSH"+header, taken))
		}
	}
	if c.filter != s.at.filter {
		command := "ATCRA" + c.filter
		taken, err := s.set(ctx, command)
		if err != nil {
			return err
		}
		if !taken && c.filter == "" { // before version 1.4b of the ELM327
			taken, err = s.set(ctx, "ATAR")
		}
		if err != nil {
			return err
		}
		if !taken {
			s.noFilter, c.filter = true, ""
		}
	}
	s.at = c
	return nil
}

func (s *session) notTaken(command string, taken bool) error {
	if taken {
		return nil
	}
	return fmt.Errorf("%w: it refuses %s", errNotELM, command)
}

// defaultHeaders are those that an ELM327 begins with (data sheet, "Setting the
// Headers"): functional requests to all ECUs.
var defaultHeaders = map[byte]string{
	'1': "616AF1", '2': "686AF1", '3': "686AF1", '4': "C233F1", '5': "C233F1",
	'6': "7DF", '8': "7DF", '7': "18DB33F1", '9': "18DB33F1",
}

// polling is the channel of mode 01: all ECUs hear it.
func (s *session) polling() channel {
	if s.filtered && busOf(s.protocol).isCAN() {
		return channel{filter: s.speaker}
	}
	return channel{}
}

// counting learns with which count digit a request ends early: the number of frames
// of the answers of all ECUs (ELM327 data sheet, "Talking to the Vehicle").
type counting struct {
	refused bool // the adapter does not know it, or it cost answers
	strikes int  // in a row
	extra   map[string]extra
}

// extra is how many frames other ECUs add.
type extra struct{ frames, seen int }

const (
	toleratedStrikes = 3
	// believed is how often in a row a number of frames must have been seen.
	believed = 2
	// maxDigit is the largest count of one hex digit.
	maxDigit = 15
	// maxExtras bounds what is learned.
	maxExtras = 256
)

// alone is the key of requests that only one ECU answers.
const alone = ""

// digit is the count for q; 0 when none is safe.
func (c *counting) digit(q query) int {
	if c.refused {
		return 0
	}
	n := q.frames
	if q.others != alone {
		x := c.extra[q.others]
		if x.seen < believed {
			return 0
		}
		n += x.frames
	} else if q.frames == 0 {
		return 0
	}
	if n < 1 || n > maxDigit {
		return 0
	}
	return n
}

// judge learns from the answer to q, which was asked with the count digit.
func (c *counting) judge(q query, digit int, a Answer, got bool) {
	switch {
	case digit > 0 && a.Has(NotUnderstood):
		c.refused = true
	case digit > 0 && got:
		c.strikes = 0
	case digit > 0 && a.Frames > 0:
		// What was counted was not what was wanted: another ECU, a "still working".
		delete(c.extra, q.others)
		if c.strikes++; c.strikes >= toleratedStrikes {
			c.refused = true
		}
	case digit == 0 && got && q.others != alone:
		if len(c.extra) >= maxExtras {
			c.extra = nil
		}
		if c.extra == nil {
			c.extra = map[string]extra{}
		}
		x := extra{frames: a.Frames - q.frames, seen: 1}
		if known := c.extra[q.others]; known.frames == x.frames {
			x.seen += known.seen
		}
		c.extra[q.others] = x
	}
}

// timing is how long the adapter waits for further answers, where a count digit does
// not end that. It is shortened, and restored when that costs answers.
type timing struct {
	fast   bool // under trial or chosen
	done   bool // nothing is left to try
	misses int  // in a row under fast
}

const toleratedFastMisses = 2

func (t *timing) judge(a Answer, got bool) {
	switch {
	case got:
		t.misses = 0
	case t.fast && a.Has(NoData):
		t.misses++
	}
}

// tune shortens the adapter's wait once it is known that no count digit helps, by
// the faster adaptive timing (ATAT2), or by a fixed time (ATST) fitted to the car
// where the adapter does not adapt.
func (s *session) tune(ctx context.Context) error {
	if s.timing.done || !s.count.refused {
		return nil
	}
	fast, safe := "ATAT2", "ATAT1"
	if !s.adaptive {
		const unit = 4096 * time.Microsecond
		wait := 2*s.usual + 20*time.Millisecond
		fast, safe = fmt.Sprintf("ATST%02X", min(max(wait/unit, 8), 0xFF)), "ATST32"
	}
	switch {
	case !s.timing.fast:
		taken, err := s.set(ctx, fast)
		s.timing.fast, s.timing.done = taken, !taken
		return err
	case s.timing.misses >= toleratedFastMisses:
		_, err := s.set(ctx, safe)
		s.timing.fast, s.timing.done = false, true
		return err
	}
	return nil
}

// refuses reports whether the speaker said no.
func (s *session) refuses(a Answer) bool {
	return slices.ContainsFunc(a.Trouble, func(t Trouble) bool {
		return t.Cause == Negative && t.ECU == s.speaker && t.Code != busyRepeatRequest
	})
}

// busyRepeatRequest is the negative response code of an ECU that wants to be asked
// again (ISO 14229-1).
const busyRepeatRequest = 0x21
