package obd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"telemetryd/internal/telemetry"
)

// session is one adapter from its wake-up to its loss.
type session struct {
	conversation
	protocol byte // digit of ATDPN; 0 until the bus was found
	headers  bool // ATH1 was taken
	speaker  string
	silences int // questions to the bus of the last session since it answered
}

// What a session can fail of; each is a state of its own to the user.
var (
	errSilent        = errors.New("nothing answers")
	errNotELM        = errors.New("what answers is no ELM327")
	errCarSilent     = errors.New("the car does not answer")
	errNothingWanted = errors.New("the car has none of the wanted signals")
	errRestarted     = errors.New("the adapter restarted")
	errOutOfStep     = errors.New("the adapter cannot be brought back in step")
	errLostPrompt    = errors.New("the adapter gave no prompt")
)

const (
	resetLimit   = 3 * time.Second
	commandLimit = time.Second
	// searchLimit is for the first request, under which the adapter tries every bus.
	searchLimit  = 15 * time.Second
	requestLimit = 5 * time.Second
	probeLimit   = time.Second
)

// bauds are tried in the order of how common they are.
var bauds = []int{38400, 115200, 500000, 230400, 9600, 57600}

// findBaud tries the rates until a prompt comes. DEL is ignored by the adapter and
// flushes what noise may have left in its line.
func (s *session) findBaud(ctx context.Context) (int, error) {
	for _, baud := range bauds {
		if err := s.wire.SetBaud(baud); err != nil {
			return 0, err
		}
		for range 2 { // the first answer may still carry noise of the wrong rate
			if err := s.send(ctx, "\x7F\x7F\r"); err != nil {
				return 0, err
			}
			_, err := s.collect(ctx, probeLimit/4)
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
	s.headers = false
	for _, command := range []string{"ATE0", "ATL0", "ATS0", "ATH1", "ATAT1", "ATCAF1"} {
		a, err := s.command(ctx, command)
		if err != nil {
			return "", err
		}
		if command == "ATH1" && slices.Contains(a.Lines, "OK") {
			s.headers = true
		}
	}
	return name, nil
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
		// Some clones print the banner without a prompt.
		for line := range lines(r.raw) {
			if strings.Contains(line, "ELM") || strings.Contains(line, "STN") || strings.Contains(line, "OBD") {
				if err != nil {
					err = s.resync(ctx)
				}
				return line, err
			}
		}
	}
	if heard {
		return "", errNotELM
	}
	return "", errSilent
}

// command asks the adapter itself. A command that it does not know is no error.
func (s *session) command(ctx context.Context, text string) (Answer, error) {
	r, err := s.ask(ctx, text, commandLimit)
	if errors.Is(err, errTimeout) {
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

// request puts a request on the bus. Trouble on the way is counted; a restart of
// the adapter and a port that is gone are errors.
func (s *session) request(ctx context.Context, text string, limit time.Duration) (Answer, time.Duration, error) {
	s.counters.request()
	r, err := s.ask(ctx, text, limit)
	timeout := errors.Is(err, errTimeout)
	if err != nil && !timeout {
		return Answer{}, 0, err
	}
	if timeout {
		// Without its prompt an answer may be cut anywhere: nothing of it counts.
		return Answer{}, 0, s.recover(ctx)
	}
	a := parseAnswer(r.raw, text, s.bus())
	for _, t := range a.Trouble {
		s.counters.trouble(t.Cause)
	}
	if a.Has(Restarted) {
		return Answer{}, 0, errRestarted
	}
	return a, r.arrived, nil
}

// searchEvery is how many questions to a silent car stay on the bus it was last seen
// on before every bus is searched again: the adapter may be in another car by then.
const searchEvery = 10

// findBus finds the car on the bus of the last session, or lets the adapter search.
// ATTP does not write to the adapter's EEPROM; ATSP does, and is used only where it
// changes something.
func (s *session) findBus(ctx context.Context, last byte) error {
	if last != 0 {
		if _, err := s.command(ctx, "ATTP"+string(last)); err != nil {
			return err
		}
		s.silences++
		if err := s.hello(ctx); !errors.Is(err, errCarSilent) || s.silences%searchEvery != 0 {
			return err
		}
		if _, err := s.command(ctx, "ATTP0"); err != nil {
			return err
		}
	}
	a, err := s.command(ctx, "ATDPN")
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(a.Lines, func(l string) bool { return l == "0" || len(l) == 2 && l[0] == 'A' }) {
		if _, err := s.command(ctx, "ATSP0"); err != nil {
			return err
		}
	}
	return s.hello(ctx)
}

// hello asks for the first bitmap of PIDs, notes who answers and on which bus.
func (s *session) hello(ctx context.Context) error {
	s.protocol = 0
	a, _, err := s.request(ctx, "0100", searchLimit)
	if err != nil {
		return err
	}
	var ecus []string
	for _, m := range a.Messages {
		if _, err := split(m.Data, []byte{0x00}); err == nil {
			ecus = append(ecus, m.ECU)
		}
	}
	if len(ecus) == 0 {
		return errCarSilent
	}
	s.speaker, s.silences = speaker(ecus), 0
	d, err := s.command(ctx, "ATDPN")
	if err != nil {
		return err
	}
	for _, line := range d.Lines {
		if digit := strings.TrimPrefix(line, "A"); len(digit) == 1 && digit != "0" {
			s.protocol = digit[0]
		}
	}
	return nil
}

// engines are the ids under which the engine's ECU answers: CAN with 11 and 29
// bits (ISO 15765-4), and the older buses (SAE J2178).
var engines = []string{"7E8", "18DAF110", "10"}

// speaker chooses the ECU whose values count: the engine's, else the first id.
func speaker(ecus []string) string {
	for _, e := range engines {
		if slices.Contains(ecus, e) {
			return e
		}
	}
	return slices.Min(ecus)
}

// discover asks which PIDs the car has: the next bitmap only while the last one
// says that there is more.
func (s *session) discover(ctx context.Context) ([]byte, error) {
	var pids []byte
	for base := 0; base <= 0xC0; base += 0x20 {
		bitmap, err := s.bitmap(ctx, byte(base))
		if err != nil {
			return nil, err
		}
		for i := range 32 {
			if bitmap&(1<<(31-i)) != 0 {
				pids = append(pids, byte(base+i+1))
			}
		}
		if bitmap&1 == 0 {
			break
		}
	}
	return slices.DeleteFunc(pids, isBitmap), nil
}

// bitmap asks one bitmap; a car that promised one and does not give it, twice, has
// none.
func (s *session) bitmap(ctx context.Context, base byte) (uint32, error) {
	for range 2 {
		a, _, err := s.request(ctx, fmt.Sprintf("01%02X", base), requestLimit)
		if err != nil {
			return 0, err
		}
		for _, m := range a.Messages {
			items, err := split(m.Data, []byte{base})
			if err == nil && m.ECU == s.speaker {
				d := items[0].data
				return uint32(d[0])<<24 | uint32(d[1])<<16 | uint32(d[2])<<8 | uint32(d[3]), nil
			}
		}
	}
	if base == 0 {
		return 0, errCarSilent
	}
	return 0, nil
}

// poll asks for pids in one request and appends what the wanted ECU answered to r.
// It returns which PIDs were measured.
func (s *session) poll(ctx context.Context, pids []byte, wanted func(name string) bool) (r telemetry.Reading, measured []byte, err error) {
	a, arrived, err := s.request(ctx, fmt.Sprintf("01%X", pids), requestLimit)
	if err != nil {
		return r, nil, err
	}
	r.Arrived = arrived
	for _, m := range a.Messages {
		if m.ECU != s.speaker {
			continue
		}
		items, err := split(m.Data, pids)
		if err != nil {
			s.counters.trouble(WrongShape)
			continue
		}
		for _, it := range items {
			if slices.Contains(measured, it.pid) {
				s.counters.trouble(WrongShape) // one answer a PID: the first
				continue
			}
			if measure(&r, it, wanted) != nil {
				s.counters.refused()
			}
			measured = append(measured, it.pid)
		}
	}
	s.counters.values(len(r.Fields))
	return r, measured, nil
}

// voltage reads the voltage at the adapter's plug; it puts nothing on the bus.
func (s *session) voltage(ctx context.Context) (r telemetry.Reading, err error) {
	reply, err := s.ask(ctx, "ATRV", commandLimit)
	if errors.Is(err, errTimeout) {
		return r, s.recover(ctx)
	}
	if err != nil {
		return r, err
	}
	a := parseAnswer(reply.raw, "ATRV", UnknownBus)
	if a.Has(Restarted) {
		return r, errRestarted
	}
	r.Arrived = reply.arrived
	for _, line := range a.Lines {
		if volts, ok := parseVolts(line); ok {
			if r.Add("battery_voltage_v", volts) {
				s.counters.values(1)
			} else {
				s.counters.refused()
			}
			break
		}
	}
	return r, nil
}

// parseVolts reads "12.6V". Exactly digits, a point and digits: nothing else that a
// number may look like.
func parseVolts(line string) (float64, bool) {
	digits, ok := strings.CutSuffix(line, "V")
	whole, fraction, point := strings.Cut(digits, ".")
	if !ok || !point || whole == "" || fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return 0, false
	}
	volts, err := strconv.ParseFloat(digits, 64)
	return volts, err == nil
}
