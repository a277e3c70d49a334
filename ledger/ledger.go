package ledger

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Ledger follows one vehicle. The zero value is ready: it begins with what the first
// status or the first message tells. It is not safe for concurrent use.
type Ledger struct {
	streams     []*stream // in order of appearance
	corrections int
}

type stream struct {
	id       string
	first    uint64 // that is expected
	last     uint64 // that is known to have been recorded
	unacked  uint64 // all before it have arrived at the broker
	received spans
	named    spans // lost, as the vehicle says
	twice    uint64
}

// mostStreams bounds what is followed: the oldest goes.
const mostStreams = 1000

// Report is how complete what arrived is.
type Report struct {
	Streams     []StreamReport `json:"streams"`
	Received    uint64         `json:"received"`
	Duplicates  uint64         `json:"duplicates"`
	Named       uint64         `json:"named"`      // lost, and said so by data_gap
	OnItsWay    uint64         `json:"on_its_way"` // recorded, and not yet at the broker
	Missing     uint64         `json:"missing"`
	Corrections int            `json:"clock_corrections"`
	// Complete is what arrived of what was recorded and is not on its way, in percent.
	Complete float64 `json:"complete_pct"`
}

// StreamReport is the same of one stream, from First to Last.
type StreamReport struct {
	StreamID   string `json:"stream_id"`
	First      uint64 `json:"first_seq"`
	Last       uint64 `json:"last_seq"`
	Received   uint64 `json:"received"`
	Duplicates uint64 `json:"duplicates"`
	Named      uint64 `json:"named"`
	OnItsWay   uint64 `json:"on_its_way"`
	Missing    []Span `json:"missing"`
}

// Span is First to Last, both included.
type Span struct {
	First uint64 `json:"first_seq"`
	Last  uint64 `json:"last_seq"`
}

// Add notes a message. A status that the broker had retained is left out by who came later:
// what the vehicle sent after that status and before the subscription would count as missing.
// An error says that an event cannot be read; it is noted nevertheless.
func (l *Ledger) Add(m Message) error {
	if m.State != "" {
		l.status(m)
		return nil
	}
	s := l.stream(m.StreamID, m.Seq)
	switch {
	case s.received.has(m.Seq):
		s.twice++
	case m.Seq >= s.first: // what is older arrived before this ledger began, and again
		s.received.add(m.Seq, m.Seq)
	}
	s.last = max(s.last, m.Seq)
	return l.event(s, m)
}

// status notes how far a stream has come.
func (l *Ledger) status(m Message) {
	open := m.OldestUnackedSeq
	if open == 0 {
		open = m.LastSeq + 1
	}
	s := l.stream(m.StreamID, open)
	s.last, s.unacked = max(s.last, m.LastSeq), max(s.unacked, open)
}

func (l *Ledger) event(s *stream, m Message) error {
	var err error
	switch m.Type {
	case "stream_start":
		s.first = min(s.first, m.Seq)
		var d struct {
			Previous string `json:"previous_stream_id"`
			Last     uint64 `json:"previous_last_seq"`
		}
		if err = json.Unmarshal(m.Data, &d); err == nil && l.find(d.Previous) != nil {
			p := l.find(d.Previous)
			p.last = max(p.last, d.Last)
		}
	case "data_gap":
		var d struct {
			Stream string `json:"gap_stream_id"`
			First  uint64 `json:"first_seq"`
			Last   uint64 `json:"last_seq"`
		}
		if err = json.Unmarshal(m.Data, &d); err == nil && d.First >= 1 && d.First <= d.Last && d.Last <= mostSeq && l.find(d.Stream) != nil {
			l.find(d.Stream).named.add(d.First, d.Last)
		}
	case "clock_correction":
		l.corrections++
	}
	if err != nil {
		return fmt.Errorf("data of %s, seq %d: %w", m.Type, m.Seq, err)
	}
	return nil
}

func (l *Ledger) find(id string) *stream {
	if i := slices.IndexFunc(l.streams, func(s *stream) bool { return s.id == id }); i >= 0 {
		return l.streams[i]
	}
	return nil
}

// stream returns a stream, which is expected from first on if it is new.
func (l *Ledger) stream(id string, first uint64) *stream {
	if s := l.find(id); s != nil {
		return s
	}
	s := &stream{id: id, first: first}
	l.streams = append(l.streams, s)
	if len(l.streams) > mostStreams {
		l.streams = slices.Delete(l.streams, 0, 1)
	}
	return s
}

// Report tells how complete what arrived is by now.
func (l *Ledger) Report() Report {
	r := Report{Streams: []StreamReport{}, Corrections: l.corrections, Complete: 100}
	for i, s := range l.streams {
		one := s.report(i+1 < len(l.streams))
		r.Streams = append(r.Streams, one)
		r.Received += one.Received
		r.Duplicates += one.Duplicates
		r.Named += one.Named
		r.OnItsWay += one.OnItsWay
		for _, m := range one.Missing {
			r.Missing += m.Last - m.First + 1
		}
	}
	if all := r.Received + r.Named + r.Missing; all > 0 {
		r.Complete = 100 * float64(r.Received) / float64(all)
	}
	return r
}

// report is of one stream. Of one that has ended no status tells any more what is on its
// way: all that has not come is missing until it does.
func (s *stream) report(ended bool) StreamReport {
	r := StreamReport{StreamID: s.id, First: s.first, Last: s.last, Received: s.received.count(), Duplicates: s.twice, Missing: []Span{}}
	for _, absent := range s.received.without(s.first, s.last) {
		lost := s.named.without(absent.First, absent.Last)
		r.Named += absent.Last - absent.First + 1 - spans(lost).count()
		for _, m := range lost {
			if !ended && m.Last >= s.unacked {
				from := max(m.First, s.unacked)
				r.OnItsWay += m.Last - from + 1
				if from == m.First {
					continue
				}
				m.Last = from - 1
			}
			r.Missing = append(r.Missing, m)
		}
	}
	return r
}

// spans is a set of seqs: sorted, disjoint, neighbours merged.
type spans []Span

func (s spans) at(seq uint64) int {
	i, _ := slices.BinarySearchFunc(s, seq, func(r Span, seq uint64) int {
		if r.Last < seq {
			return -1
		}
		return 1
	})
	return i
}

func (s spans) has(seq uint64) bool {
	i := s.at(seq)
	return i < len(s) && s[i].First <= seq
}

func (s *spans) add(first, last uint64) {
	i := s.at(first - 1) // the first that touches or follows
	j := i
	for ; j < len(*s) && (*s)[j].First <= last+1; j++ {
		first, last = min(first, (*s)[j].First), max(last, (*s)[j].Last)
	}
	*s = slices.Replace(*s, i, j, Span{first, last})
}

// without returns what of first to last is not in the set.
func (s spans) without(first, last uint64) (out []Span) {
	for i := s.at(first); first <= last; i++ {
		if i == len(s) || s[i].First > last {
			return append(out, Span{first, last})
		}
		if s[i].First > first {
			out = append(out, Span{first, s[i].First - 1})
		}
		first = s[i].Last + 1
	}
	return out
}

func (s spans) count() (n uint64) {
	for _, r := range s {
		n += r.Last - r.First + 1
	}
	return n
}
