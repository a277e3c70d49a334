package obd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"telemetryd/internal/telemetry"
)

// pidQuery is the request for some mode 01 parameters.
func (s *session) pidQuery(pids []byte) query {
	q := query{text: fmt.Sprintf("01%X", pids), to: s.polling(), others: alone}
	length := 1
	for _, pid := range pids {
		w := width(pid)
		if w == 0 {
			return q // of unknown length
		}
		length += 1 + w
	}
	q.frames = busOf(s.protocol).frames(length)
	if len(s.ecus) > 1 && q.to.filter == "" {
		theirs := slices.DeleteFunc(slices.Clone(pids), func(pid byte) bool { return !s.others[pid] })
		q.others = fmt.Sprintf("01 of others %X", theirs)
	}
	return q
}

// frames is how many frames carry an answer of length bytes; on older buses one.
func (b Bus) frames(length int) int {
	if !b.isCAN() || length <= 7 {
		return 1
	}
	return 1 + (length-6+6)/7 // six bytes in the first, seven in each other
}

// poll asks for pids in one request and appends what the wanted ECU answered to r. It
// returns what was measured.
func (s *session) poll(ctx context.Context, pids []byte, wanted func(name string) bool) (r telemetry.Reading, measured []item, o outcome, err error) {
	take := func(a Answer) bool {
		measured = s.items(a, pids)
		return len(measured) == len(pids)
	}
	a, arrived, err := s.exchange(ctx, s.pidQuery(pids), take)
	if err != nil || len(a.Messages) == 0 {
		return r, nil, s.outcome(a), err
	}
	r.Arrived = arrived
	for _, it := range measured {
		if measure(&r, it, wanted) != nil {
			s.counters.refused()
		}
	}
	s.counters.values(len(r.Fields))
	if s.misplaced(a, pids) {
		s.counters.trouble(Misplaced)
		err = s.recover(ctx)
	}
	return r, measured, s.outcome(a), err
}

// items takes the parameters of the speaker out of an answer. A message that does not
// fit its request counts for nothing, nor does a parameter that comes twice: without
// headers that is how two ECUs look.
func (s *session) items(a Answer, pids []byte) []item {
	var all []item
	var twice []byte
	for _, m := range a.Messages {
		if m.ECU != s.speaker {
			s.counters.trouble(OtherECU)
			continue
		}
		items, err := split(m.Data, pids)
		if err != nil {
			s.counters.trouble(WrongShape)
			continue
		}
		for _, it := range items {
			if slices.ContainsFunc(all, func(x item) bool { return x.pid == it.pid }) {
				s.counters.trouble(WrongShape)
				twice = append(twice, it.pid)
				continue
			}
			all = append(all, it)
		}
	}
	return slices.DeleteFunc(all, func(it item) bool { return slices.Contains(twice, it.pid) })
}

// misplaced reports whether the speaker answered, but only something else: then adapter
// and session are out of step.
func (s *session) misplaced(a Answer, pids []byte) bool {
	spoke := false
	for _, m := range a.Messages {
		if m.ECU == s.speaker {
			if _, err := split(m.Data, pids); err == nil {
				return false
			}
			spoke = true
		}
	}
	return spoke
}

func (s *session) outcome(a Answer) outcome {
	switch {
	case slices.ContainsFunc(a.Messages, func(m Message) bool { return m.ECU == s.speaker }):
		return answered
	case s.refuses(a):
		return rejected
	default:
		return unheard
	}
}

// voltage reads the voltage at the adapter's plug; it puts nothing on the bus.
func (s *session) voltage(ctx context.Context) (r telemetry.Reading, err error) {
	sent := s.now()
	reply, err := s.ask(ctx, "ATRV", commandLimit)
	if errors.Is(err, errTimeout) {
		s.counters.trouble(NoPrompt)
		return r, s.recover(ctx)
	}
	if err != nil {
		return r, err
	}
	a := parseAnswer(reply.raw, "ATRV", UnknownBus)
	if a.Has(Restarted) {
		return r, errRestarted
	}
	if s.delays.late("ATRV", reply.arrived-sent, sent) {
		s.counters.trouble(Late)
		return r, nil
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
