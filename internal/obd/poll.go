package obd

import (
	"bytes"
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
	if s.several {
		return q // which ECU would end the wait nobody knows
	}
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
	a, err := s.exchange(ctx, s.pidQuery(pids), func(a Answer) bool {
		items, _ := s.items(a, pids)
		return len(items) == len(pids)
	})
	if err != nil || len(a.Messages) == 0 {
		return r, nil, s.outcome(a), err
	}
	measured, refused := s.items(a, pids)
	for range refused {
		s.counters.trouble(WrongShape)
	}
	for _, it := range measured {
		r.Arrived = max(r.Arrived, it.arrived)
		if measure(&r, it, wanted) != nil {
			s.counters.refused()
		}
	}
	s.counters.values(len(r.Fields))
	for _, m := range a.Messages {
		if m.ECU != s.speaker {
			s.counters.trouble(OtherECU)
		}
	}
	if s.misplaced(a, pids) {
		s.counters.trouble(Misplaced)
		err = s.recover(ctx)
	}
	return r, measured, s.outcome(a), err
}

// items takes the parameters of the speaker out of an answer, and counts what is
// refused. A message that does not fit its request counts for nothing, nor does a
// parameter that comes twice. Without headers nobody knows who speaks: what several ECUs
// have counts when all of them say the same.
func (s *session) items(a Answer, pids []byte) (all []item, refused int) {
	said := map[byte][]item{}
	for _, m := range a.Messages {
		if m.ECU != s.speaker {
			continue
		}
		items, err := split(m.Data, pids)
		if err != nil {
			refused++
			continue
		}
		for _, it := range items {
			it.arrived = m.Arrived
			said[it.pid] = append(said[it.pid], it)
		}
	}
	for _, pid := range pids {
		list := said[pid]
		switch n := len(list); {
		case n == 0:
		case n != max(1, s.claims[pid]), slices.ContainsFunc(list, func(it item) bool { return !bytes.Equal(it.data, list[0].data) }):
			refused++
		default:
			all = append(all, list[n-1])
		}
	}
	return all, refused
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
	case a.late:
		return overdue
	case slices.ContainsFunc(a.Messages, func(m Message) bool { return m.ECU == s.speaker }):
		return answered
	case s.refuses(a):
		return rejected
	default:
		return unheard
	}
}

// voltage reads the voltage at the adapter's plug; it puts nothing on the bus. A reading that
// has an arrival and no field is that of an adapter that measures none.
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
