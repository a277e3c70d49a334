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
	// opens is how long the adapter may take to open the bus before it sends the
	// request, without a word; 0 where the bus is open.
	opens time.Duration
	// undated is an answer that tells of no moment: what a bus has, what a car is.
	undated bool
	// last is asked when the request could leave, and may hold it back; nil for never.
	last func() error
}

// mode is the request's service in hex.
func (q query) mode() string { return q.text[:2] }

// polls are the requests of mode 01, to which answers take about the same time.
const polls = "01"

// kind is what the time that an answer takes depends on.
func (q query) kind() string {
	if q.mode() == polls {
		return polls
	}
	return q.text
}

// exchange puts a request on the bus, as soon as the ceiling allows it, and returns
// its answer, each message with its arrival. Trouble on the way is counted; an adapter that
// restarted or cannot be brought back in step and a port that is gone are errors.
// got tells whether the answer holds what was wanted. While the vehicle is parked it returns
// errParked, and nothing goes on the bus.
func (s *session) exchange(ctx context.Context, q query, got func(Answer) bool) (Answer, error) {
	if taken, err := s.use(ctx, q.to); err != nil || !taken {
		s.counters.trouble(NotUnderstood)
		return Answer{Trouble: []Trouble{{Cause: NotUnderstood, Text: "ATSH" + q.to.header}}}, err
	}
	if err := s.waitLong(ctx, s.slow[q.text] != nil); err != nil {
		return Answer{}, err
	}
	if err := s.until(ctx, s.pace.free); err != nil {
		return Answer{}, err
	}
	if s.parked != nil && s.parked() { // by now: a search, a command or the ceiling takes its time
		return Answer{}, errParked
	}
	if q.last != nil {
		if err := q.last(); err != nil {
			return Answer{}, err
		}
	}
	text, digit := q.text, 0
	if s.slow[q.text] == nil {
		digit = s.count.digit(q, s.now())
	}
	if digit > 0 {
		text = fmt.Sprintf("%s%X", q.text, digit)
	}
	sent := s.now()
	s.pace.sent(sent) // also when this fails
	s.counters.request()
	s.asked = true
	r, err := s.ask(ctx, text, answerLimit)
	if errors.Is(err, errTimeout) && len(r.raw) == 0 && q.opens > answerLimit {
		// Some adapters keep SEARCHING... to themselves until they have an answer.
		r, err = s.collect(ctx, q.opens-answerLimit)
	}
	// An adapter that opens the bus first sends the request only then.
	s.pace.sent(max(sent, r.arrived-s.delays.usual(q.kind())))
	if err != nil {
		if !errors.Is(err, errTimeout) {
			return Answer{}, err
		}
		// Without its prompt an answer may be cut anywhere: nothing of it counts.
		s.counters.trouble(NoPrompt)
		return Answer{}, s.recover(ctx)
	}
	a := parse(r.raw, text, s.bus(), s.padded)
	for _, t := range a.Trouble {
		s.counters.trouble(t.Cause)
	}
	for _, c := range a.Noticed {
		s.counters.trouble(c)
	}
	if err := s.inOrder(ctx, a); err != nil {
		return Answer{}, err
	}
	ok := got(a)
	s.count.judge(q, digit, a, ok, sent)
	if len(q.text) == 4 && q.mode() == polls && !q.undated {
		s.timing.judge(a, ok)
	}
	if a.Has(BufferFull) {
		s.filtered = true
	}
	s.judgeSlow(q, a)
	if q.opens == 0 && len(a.Messages) > 0 {
		s.date(q, &a, r, sent)
	}
	return a, nil
}

// date stamps the messages of an answer, and takes out those that may have been held
// back on their way: when they were measured is not known. Each ECU has its own pace,
// and its own line in the answer.
func (s *session) date(q query, a *Answer, r reply, sent time.Duration) {
	s.delays.late(q.kind(), r.arrived-sent, sent)
	a.Messages = slices.DeleteFunc(a.Messages, func(m Message) bool {
		late := s.delays.late(q.kind()+" of "+m.ECU, r.at(m.end)-sent, sent)
		if late && !q.undated {
			s.counters.trouble(Late)
			a.late = true
			return true
		}
		return false
	})
	for i := range a.Messages {
		a.Messages[i].Arrived = r.at(a.Messages[i].end)
	}
}

// slowness is a request at which an ECU asked for time.
type slowness struct {
	quick int // answers in a row since it last did
}

const (
	// maxSlow bounds the requests known to be slow.
	maxSlow = 64
	// quickAgain answers in a row without asking for time end a request's slowness: an
	// ECU may have asked once, while it woke up.
	quickAgain = 3
)

func (s *session) judgeSlow(q query, a Answer) {
	known := s.slow[q.text]
	switch {
	case a.Has(AsksForTime) && known != nil:
		known.quick = 0
	case a.Has(AsksForTime) && len(a.Messages) == 0 && len(s.slow) < maxSlow:
		s.slow[q.text] = &slowness{}
	case known != nil:
		if known.quick++; known.quick >= quickAgain {
			delete(s.slow, q.text)
		}
	}
}

// inOrder sees from an answer whether adapter and session still agree.
func (s *session) inOrder(ctx context.Context, a Answer) error {
	switch {
	case a.Has(Restarted):
		return errRestarted
	case len(a.Lines) == 0: // a prompt out of nowhere: the answer is still to come
		s.counters.trouble(SparePrompt)
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

// until waits for the time since boot at. A port that goes meanwhile, and an adapter
// that says that it restarted, are errors.
func (s *session) until(ctx context.Context, at time.Duration) error {
	var said []byte
	for {
		d := at - s.now()
		if d <= 0 {
			return ctx.Err()
		}
		chunk, err := s.receive(ctx, d)
		if err != nil {
			return err
		}
		s.counters.stray(len(chunk.Data))
		if said = append(said, chunk.Data...); len(said) > mayExplain {
			said = said[len(said)-mayExplain:]
		}
		if len(chunk.Data) > 0 && parseAnswer(said, "", UnknownBus).Has(Restarted) {
			s.counters.trouble(Restarted)
			return errRestarted
		}
	}
}

// counting learns with which count digit a request ends early: the number of frames
// of the answers of all ECUs (ELM327 data sheet, "Talking to the Vehicle").
type counting struct {
	refused bool // the adapter does not know it, or it cost answers
	since   time.Duration
	strikes int // in a row
	extra   map[string]extra
}

// extra is how many frames other ECUs add.
type extra struct{ frames, seen int }

const (
	// toleratedStrikes in a row end the use of digits, for countAgain: a wire that
	// spoiled them may be better by then.
	toleratedStrikes = 3
	countAgain       = 5 * time.Minute
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
func (c *counting) digit(q query, now time.Duration) int {
	if c.refused && now-c.since < countAgain {
		return 0
	}
	c.refused = false
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
func (c *counting) judge(q query, digit int, a Answer, got bool, now time.Duration) {
	switch {
	case digit > 0 && got:
		c.strikes = 0
		if a.Frames < digit { // an ECU fell silent: the digit costs a wait each time
			delete(c.extra, q.others)
		}
	case digit > 0 && (a.Has(NotUnderstood) || a.Frames >= digit && !a.Has(Negative)):
		// The adapter does not know it; or what was counted was not what was wanted:
		// another ECU, a "still working".
		delete(c.extra, q.others)
		if c.strikes++; c.strikes >= toleratedStrikes {
			c.refused, c.since, c.strikes = true, now, 0
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

// refuses reports whether the speaker said no.
func (s *session) refuses(a Answer) bool {
	return slices.ContainsFunc(a.Trouble, func(t Trouble) bool {
		return t.Cause == Negative && t.ECU == s.speaker && t.Code != busyRepeatRequest
	})
}

// busyRepeatRequest is the negative response code of an ECU that wants to be asked
// again (ISO 14229-1).
const busyRepeatRequest = 0x21
