package obd

import (
	"context"
	"errors"
	"slices"
	"time"
)

// session is one adapter from its wake-up to its loss.
type session struct {
	conversation
	now  func() time.Duration // time since boot
	pace *pacer

	headers  bool // ATH1 was taken
	adaptive bool // ATAT1 was taken
	car
	at       channel // as the adapter is set
	flow     string  // the header of its flow control; empty for its own
	priority string  // the first byte of its 29-bit ids
	bare     int     // times that answers came without the headers that it took
	noFilter bool    // the adapter knows no receive filter
	filtered bool    // its buffer is too small for what all ECUs say
	count    counting
	timing   timing
	delays   delays
	slow     map[string]*slowness // by request
	padded   map[string]bool      // ECUs that fill their frames
	noHeader bool                 // the adapter does not know ATSH
	garbled  int                  // answers in a row that held nothing but garbage
	asked    bool                 // a request was sent, so that a bus may be open
	parked   func() bool          // nothing may go on the bus now; nil: it always may
}

func newSession(w wire, c *Counters, now func() time.Duration, pace *pacer) *session {
	return &session{conversation: conversation{wire: w, counters: c}, now: now, pace: pace, delays: delays{}, slow: map[string]*slowness{}, padded: map[string]bool{}, priority: usualPriority}
}

// What a session can fail of; each is a state of its own to the user.
var (
	errSilent        = errors.New("nothing answers")
	errNotELM        = errors.New("what answers is no ELM327")
	errCarOff        = errors.New("the car's bus is not reached")
	errCarSilent     = errors.New("the car does not answer")
	errCarGarbled    = errors.New("what comes from the car cannot be read")
	errNothingWanted = errors.New("the car has none of the wanted signals")
	errLookAgain     = errors.New("the car is asked again what it has")
	errRestarted     = errors.New("the adapter restarted")
	errLostSettings  = errors.New("the adapter lost its settings")
	errOutOfStep     = errors.New("the adapter cannot be brought back in step")
	errLostPrompt    = errors.New("the adapter gave no prompt")
)

const (
	resetLimit   = 3 * time.Second
	commandLimit = time.Second
	probeLimit   = 250 * time.Millisecond
	// answerLimit is above the longest time an adapter waits for a car (ATST FF).
	answerLimit = 1500 * time.Millisecond
	// initLimit is above what the slow initialisation of a K-line takes (ISO 9141-2,
	// at 5 baud).
	initLimit = 6 * time.Second
	// toleratedBare times without headers right after ATH1: the clone has none.
	toleratedBare = 2
	// toleratedGarbage in a row mean that the adapter lost its settings.
	toleratedGarbage = 3
)

// bauds are tried in the order of how common they are.
var bauds = []int{38400, 115200, 500000, 230400, 9600, 57600}

// baudProbe is sent to see whether a prompt comes: nonsense to flush what noise may have
// left in the adapter's line, and a command behind it. CR alone would repeat the last
// request, whatever that was, if an adapter that just wakes lost what stands before.
const baudProbe = "\x7F\x7FATI\r"

// findBaud tries the rates until a prompt comes, that of the last time first.
func (s *session) findBaud(ctx context.Context, last int) (int, error) {
	rates := bauds
	if last != 0 {
		rates = append([]int{last}, bauds...)
	}
	for _, baud := range rates {
		if err := s.wire.SetBaud(baud); err != nil {
			return 0, err
		}
		// The first answer may still carry noise of the wrong rate; some emulators know
		// no DEL.
		for _, text := range []string{baudProbe, "ATI\r"} {
			if err := s.send(ctx, text); err != nil {
				return 0, err
			}
			_, err := s.collect(ctx, probeLimit)
			if err == nil {
				return baud, s.drain(ctx)
			}
			if !errors.Is(err, errTimeout) {
				return 0, err
			}
		}
	}
	return 0, errSilent
}

// wake resets the adapter and sets it up; it returns what the adapter calls itself.
func (s *session) wake(ctx context.Context) (string, error) {
	name, err := s.identify(ctx)
	if err != nil {
		return "", err
	}
	return name, s.setUp(ctx)
}

// setUp sets a fresh adapter up. What it does not know is no error: it is done without.
func (s *session) setUp(ctx context.Context) error {
	s.at, s.flow, s.priority, s.garbled = channel{}, "", usualPriority, 0
	s.timing = timing{}
	for _, command := range []struct {
		text  string
		taken *bool
	}{{"ATE0", nil}, {"ATL0", nil}, {"ATS0", nil}, {"ATH1", &s.headers}, {"ATAT1", &s.adaptive}, {"ATCAF1", nil}, {"ATAL", nil}} {
		taken, err := s.set(ctx, command.text)
		if err != nil {
			return err
		}
		if command.taken != nil {
			*command.taken = taken
		}
	}
	s.headers = s.headers && s.bare < toleratedBare
	return nil
}

// set changes a setting of the adapter and reports whether it took it. What was not
// taken may have been garbled on its way: it is tried a second time.
func (s *session) set(ctx context.Context, text string) (bool, error) {
	for range 2 {
		a, err := s.command(ctx, text)
		if err != nil || slices.Contains(a.Lines, "OK") {
			return err == nil, err
		}
	}
	return false, nil
}

// identify asks for the banner, by a reset if possible.
func (s *session) identify(ctx context.Context) (string, error) {
	heard := false
	for _, try := range []struct {
		command string
		limit   time.Duration
	}{{"ATZ", resetLimit}, {"ATI", commandLimit}, {"ATZ", resetLimit}} {
		r, err := s.ask(ctx, try.command, try.limit)
		heard = heard || len(r.raw) > 0
		if err != nil && !errors.Is(err, errTimeout) {
			return "", err
		}
		if name := banner(r.raw); name != "" {
			if err != nil { // some clones print the banner without a prompt
				err = s.recover(ctx)
			}
			return name, err
		}
	}
	if heard {
		return "", errNotELM
	}
	return "", errSilent
}

// speaks reports whether an ECU answers mode 01, and not own signals alone.
func (s *session) speaks() bool { return s.speaker != "" || !s.headers }

// command asks the adapter itself. A command that it does not know is no error.
func (s *session) command(ctx context.Context, text string) (Answer, error) {
	r, err := s.ask(ctx, text, commandLimit)
	if errors.Is(err, errTimeout) {
		s.counters.trouble(NoPrompt)
		if err = s.recover(ctx); err == nil {
			r, err = s.ask(ctx, text, commandLimit)
		}
	}
	if errors.Is(err, errTimeout) {
		return Answer{}, errLostPrompt
	}
	if err != nil {
		return Answer{}, err
	}
	a := parseAnswer(r.raw, text, UnknownBus)
	if a.Has(Restarted) && text != "ATI" {
		return a, errRestarted
	}
	return a, nil
}

// recover brings the adapter back in step, or says that it cannot be.
func (s *session) recover(ctx context.Context) error {
	for range 3 {
		err := s.resync(ctx)
		if err == nil || !errors.Is(err, errTimeout) {
			return err
		}
	}
	return errOutOfStep
}

// bus is the shape of answers that this session expects. Without headers, and
// before the protocol is known, each line is judged by its looks.
func (s *session) bus() Bus {
	if !s.headers {
		return UnknownBus
	}
	return busOf(s.protocol)
}
