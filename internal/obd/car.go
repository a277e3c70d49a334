package obd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// car is what a session knows of the car behind the adapter.
type car struct {
	protocol byte     // digit of ATDPN; 0 until the bus was found
	ecus     []string // that answered the first question
	speaker  string   // whose values count
	known    string   // who spoke for this car before
	// others are the PIDs that ECUs beside the speaker have. Without headers, when
	// nobody knows who speaks, claims counts the ECUs that have a PID.
	others   map[byte]bool
	claims   map[byte]int
	silences int  // questions in a row that nobody answered
	several  bool // without headers: more than one ECU answered the first question
}

// searchEvery is how many questions to a silent car stay on the bus it was last seen
// on before every bus is searched again: the adapter may be in another car by then.
const searchEvery = 10

// findBus finds the car on the bus of the last session, or lets the adapter search.
// ATTP does not write to the adapter's EEPROM; ATSP does, and is used only where the
// adapter does not know the other.
func (s *session) findBus(ctx context.Context, last byte) error {
	if s.at != (channel{}) { // an own signal was asked last: all ECUs are to hear this
		if _, err := s.command(ctx, "ATD"); err != nil {
			return err
		}
		if err := s.setUp(ctx); err != nil {
			return err
		}
	}
	if last != 0 {
		if _, err := s.command(ctx, "ATTP"+string(last)); err != nil {
			return err
		}
		s.silences++
		opens := answerLimit
		if busOf(last) == KLine {
			opens = initLimit
		}
		if err := s.hello(ctx, opens); !isSilence(err) || s.silences%searchEvery != 0 {
			return err
		}
		s.known = "" // it may be another car
	} else if s.silences++; s.silences%searchEvery == 0 {
		s.known = ""
	}
	a, err := s.command(ctx, "ATDPN")
	if err != nil {
		return err
	}
	if last != 0 || !slices.ContainsFunc(a.Lines, func(l string) bool { return l == "0" || len(l) == 2 && l[0] == 'A' }) {
		taken, err := s.set(ctx, "ATTP0")
		if err == nil && !taken {
			_, err = s.set(ctx, "ATSP0")
		}
		if err != nil {
			return err
		}
	}
	return s.hello(ctx, searchLimit)
}

// isSilence reports whether err says that adapter and port are well, but no ECU answers.
func isSilence(err error) bool {
	return errors.Is(err, errCarOff) || errors.Is(err, errCarSilent) || errors.Is(err, errCarGarbled)
}

// hello asks for the first bitmap of PIDs, notes who answers and on which bus. opens
// is how long the adapter may take to open the bus.
func (s *session) hello(ctx context.Context, opens time.Duration) error {
	s.protocol, s.at = 0, channel{}
	s.ecus, s.several = nil, false
	for range engineTries {
		a, err := s.exchange(ctx, query{text: "0100", opens: opens, undated: true}, never)
		if err != nil {
			return err
		}
		for _, m := range a.Messages {
			_, err := split(m.Data, []byte{0x00})
			switch {
			case err != nil:
			case !slices.Contains(s.ecus, m.ECU):
				s.ecus = append(s.ecus, m.ECU)
			case m.ECU == "":
				s.several = true
			}
		}
		if len(s.ecus) == 0 {
			return silenceOf(a)
		}
		if s.headers && slices.Contains(s.ecus, "") {
			s.bare++
			return errLostSettings // headers were on
		}
		if s.headers {
			s.bare = 0
		}
		if slices.Contains(engines, speaker(s.ecus)) || !s.headers {
			break
		}
	}
	if slices.Contains(engines, s.known) && !slices.Contains(s.ecus, s.known) {
		return errCarSilent // another ECU must not speak for an engine that is there
	}
	s.speaker, s.silences = speaker(s.ecus), 0
	clear(s.delays)
	clear(s.slow)
	return s.learnProtocol(ctx)
}

// engineTries is how often a car is asked in which another ECU than the engine's
// answers, before that one speaks.
const engineTries = 3

// never is for requests from whose answers nothing is learned about timing.
func never(Answer) bool { return false }

// silenceOf is the error that tells how a car does not answer: without a bus, with a
// bus on which nobody speaks, or with bytes that nobody can read.
func silenceOf(a Answer) error {
	if a.Has(UnableToConnect) || a.Has(BusInitError) || a.Has(BusTrouble) {
		return errCarOff
	}
	if a.Frames > 0 && !a.Has(Negative) && !a.Has(AsksForTime) {
		return errCarGarbled
	}
	return errCarSilent
}

func (s *session) learnProtocol(ctx context.Context) error {
	d, err := s.command(ctx, "ATDPN")
	if err != nil {
		return err
	}
	for _, line := range d.Lines {
		if digit := strings.TrimPrefix(line, "A"); len(digit) == 1 && strings.Contains("123456789ABC", digit) {
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
// says that there is more. whole is false when one was promised and did not come.
func (s *session) discover(ctx context.Context) (pids []byte, whole bool, err error) {
	s.others, s.claims = map[byte]bool{}, map[byte]int{}
	for base := 0; base <= 0xE0; base += 0x20 {
		bits, found, err := s.bitmap(ctx, byte(base))
		if err != nil {
			return nil, false, err
		}
		if !found {
			return slices.DeleteFunc(pids, isBitmap), false, nil
		}
		pids = append(pids, members(byte(base), bits)...)
		if bits&1 == 0 {
			break
		}
	}
	return slices.DeleteFunc(pids, isBitmap), true, nil
}

// members lists the PIDs after base that a bitmap names.
func members(base byte, bitmap uint32) []byte {
	var pids []byte
	for i := range 32 {
		if bitmap&(1<<(31-i)) != 0 {
			pids = append(pids, byte(int(base)+i+1))
		}
	}
	return pids
}

// bitmap asks one bitmap, up to three times, and notes the PIDs of other ECUs.
func (s *session) bitmap(ctx context.Context, base byte) (bits uint32, found bool, err error) {
	for range 3 {
		if !s.headers { // counted anew with each answer
			for pid := range byte(0x20) {
				delete(s.claims, base+pid+1)
			}
		}
		a, err := s.exchange(ctx, query{text: fmt.Sprintf("01%02X", base), undated: true}, never)
		if err != nil {
			return 0, false, err
		}
		for _, m := range a.Messages {
			items, err := split(m.Data, []byte{base})
			if err != nil {
				continue
			}
			b := binary.BigEndian.Uint32(items[0].data)
			if m.ECU == s.speaker {
				if !s.headers {
					for _, pid := range members(base, b) {
						s.claims[pid]++
					}
				}
				bits, found = bits|b, true
				continue
			}
			for _, pid := range members(base, b) {
				s.others[pid] = true
			}
		}
		if found || s.refuses(a) {
			return bits, true, nil
		}
	}
	if base == 0 {
		return 0, false, errCarSilent
	}
	return 0, false, nil
}
