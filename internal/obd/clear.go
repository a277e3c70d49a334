package obd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"telemetryd/internal/telemetry"
)

// This file is the only place from which anything but reading goes on the car's bus:
// mode 04, which clears the trouble codes. Whatever is written to an adapter passes
// conversation.send, which refuses all but what mayBeSent allows; only with the licence
// that ClearCodes takes out for its one request does that request pass.

// clearRequest is mode 04 (SAE J1979): clear codes, freeze frames and readiness.
const clearRequest = "04"

// reads are the services that only read (SAE J1979, ISO 14230-3, ISO 14229-1).
var reads = []string{"01", "02", "03", "07", "09", "0A", "21", "22"}

// mayBeSent reports whether a text asks something of the adapter itself, or only reads. It
// is one line: what stands behind its end would be a request of its own.
func mayBeSent(text string) bool {
	if strings.ContainsAny(strings.TrimSuffix(text, "\r"), "\r\n") {
		return false
	}
	return strings.HasPrefix(text, "AT") || text == " " || text == baudProbe || len(text) > 2 && slices.Contains(reads, text[:2])
}

var errWrites = errors.New("telemetryd only reads: this request was not sent to the car")

const (
	// freshEngine is how old the reading may be that says that the engine is off, when
	// the request to clear leaves.
	freshEngine = 2 * time.Second
	engineAsks  = 2 // times that speed and engine are asked
)

var errStale = errors.New("that the engine is off was told too long ago when the codes were to be cleared; ask again. With --obd-max-requests below 1 this cannot be done")

// ClearCodes clears the trouble codes of all ECUs (mode 04), with what else that takes
// along: freeze frames, and the readiness that an emission test wants. It does so only
// if the car, asked just before, says that its engine is off and that it stands; the
// error of an ECU that refuses is told. The codes are read again at once.
func (c *Control) ClearCodes(ctx context.Context) error {
	var sent atomic.Bool
	told, err := ask(ctx, c, func(session context.Context, d *reading, out *result[bool]) (func() bool, error) {
		out.value = true
		if out.err = d.modes(); out.err != nil {
			return nil, nil
		}
		at, refusal, lost := d.engineOff(session)
		if out.err = refusal; refusal != nil || lost != nil {
			return nil, lost
		}
		a, err := d.s.clear(session, func() error {
			switch {
			case ctx.Err() != nil: // nobody wants it any more
				out.err = context.Cause(ctx)
			case d.Uptime()-at > freshEngine:
				out.err = errStale
			}
			sent.Store(out.err == nil)
			return out.err
		})
		if out.err != nil || err != nil {
			return nil, err
		}
		out.err = cleared(a)
		for _, t := range d.codes {
			t.soon(d.Uptime())
		}
		return nil, nil
	})
	if err != nil && !told && sent.Load() {
		err = fmt.Errorf("whether codes were cleared is not known, read them to see: %w", err)
	}
	return err
}

// engineOff is when the car said that its engine is off, asked now; an error when it did
// not, or not that it stands. Every ECU that tells speed or engine speed has to say 0.
func (d *reading) engineOff(ctx context.Context) (at time.Duration, refusal, lost error) {
	for _, x := range []struct {
		pid     byte
		signal  string
		refusal string
	}{
		{0x0D, "vehicle_speed_kmh", "the vehicle moves (%v km/h): codes are cleared only while it stands with its engine off"},
		{0x0C, "engine_speed_rpm", "the engine runs (%v rpm): codes are cleared only with the engine off; switch it off, the ignition on, and ask again"},
	} {
		told, lost := d.askAll(ctx, x.pid)
		switch {
		case lost != nil:
			return 0, nil, lost
		case len(told.Fields) == 0:
			return 0, fmt.Errorf("the car does not tell %s now: codes are not cleared, since nobody knows whether the engine is off", x.signal), nil
		}
		for _, f := range told.Fields {
			if number, ok := f.Value.Float(); !ok || number != 0 {
				return 0, fmt.Errorf(x.refusal, f.Value), nil
			}
		}
		at = told.Arrived
	}
	return at, nil, nil
}

// askAll asks all ECUs for a parameter and returns what each says; nothing when the one
// that speaks for the car does not answer, or a part of the answer may be lost.
func (d *reading) askAll(ctx context.Context, pid byte) (told telemetry.Reading, lost error) {
	for range engineAsks {
		a, err := d.s.exchange(ctx, query{text: fmt.Sprintf("01%02X", pid)}, never)
		if err != nil {
			return told, err
		}
		told, spoken := telemetry.Reading{}, false
		for _, m := range a.Messages {
			items, err := split(m.Data, []byte{pid})
			if err != nil || measure(&told, items[0], nil) != nil {
				return telemetry.Reading{}, nil
			}
			spoken = spoken || m.ECU == d.s.speaker
			told.Arrived = max(told.Arrived, m.Arrived)
		}
		if spoken && !damaged(a) {
			return told, nil
		}
	}
	return telemetry.Reading{}, nil
}

// clear puts mode 04 on the bus, if last, asked when it could leave, has no objection.
func (s *session) clear(ctx context.Context, last func() error) (Answer, error) {
	var objection error
	q := query{text: clearRequest, undated: true, last: func() error {
		if objection = last(); objection == nil {
			s.licence = clearRequest + "\r"
		}
		return objection
	}}
	defer func() { s.licence = "" }()
	a, err := s.exchange(ctx, q, never)
	if objection != nil {
		return a, nil
	}
	return a, err
}

// cleared is the error of an answer to mode 04; nil when every ECU that answered has
// cleared its codes.
func cleared(a Answer) error {
	var done, refused []string
	for _, m := range a.Messages {
		if len(m.Data) == 1 && m.Data[0] == 0x44 {
			done = append(done, ecuName(m.ECU))
		}
	}
	for _, t := range a.Trouble {
		if t.Cause == Negative {
			refused = append(refused, fmt.Sprintf("%s refuses: %s", ecuName(t.ECU), negativeText(t.Code)))
		}
	}
	switch {
	case len(refused) > 0 && len(done) > 0:
		return fmt.Errorf("only some codes were cleared: %s has cleared its own, %s", strings.Join(done, ", "), strings.Join(refused, "; "))
	case len(refused) > 0:
		return fmt.Errorf("no codes were cleared: %s", strings.Join(refused, "; "))
	case len(done) > 0:
		return nil
	case a.Has(AsksForTime):
		return errors.New("the car still works on it: read the codes to see whether they were cleared")
	case a.Has(NoData):
		return errors.New("no control unit answered: read the codes to see whether they were cleared; is the ignition still on?")
	}
	return errors.New("what the car answered cannot be read: read the codes to see whether they were cleared")
}

func ecuName(ecu string) string {
	if ecu == "" {
		return "a control unit"
	}
	return "control unit " + ecu
}

// negativeText tells a negative response code in words (ISO 14229-1, ISO 14230-3).
func negativeText(code byte) string {
	words := map[byte]string{
		0x10: "it gives no reason", 0x11: "it does not know this service", 0x12: "it does not know this kind of request",
		0x21: "it is busy, ask again", 0x22: "conditions are not right: is the engine off, and the ignition on?",
		0x31: "there is nothing like that in it", 0x33: "it wants to be unlocked first: use the maker's tester",
		0x7F: "not in the state that it is in now",
	}[code]
	if words == "" {
		words = "its reason is in the maker's list"
	}
	return fmt.Sprintf("%s (code %02X)", words, code)
}
