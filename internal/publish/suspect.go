package publish

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A broker that does not take a message, because it is too large or does not please it,
// closes the connection; and again with the next one, for ever, for a message is sent
// until its PUBACK. So whoever was under way at such an end is a suspect, and after the
// second time there is a trial: one message at a time, the suspect before all but
// emergencies. If it ends the connection alone, three times, it is refused - where the broker
// has shown that it is the message and not the topic: by taking another one on that topic,
// or none as large on any. A topic on which nothing is taken is left for a while instead.

const (
	// suspected is at how many ends a message has to have been under way for a trial;
	// refusals is how often it may end the connection alone.
	suspected    = 2
	refusals     = 3
	mostSuspects = 10 * window
	// denials is how many messages have to be convicted but for the topic to leave it;
	// deniedFor is how long.
	denials   = 2
	deniedFor = time.Hour
)

// suspects counts the ends by message. The zero value is ready; it is safe for concurrent
// use, as the sender of a lost connection may still be held by paho.
type suspects struct {
	mu      sync.Mutex
	ends    map[uint64]ends
	passed  map[lane]int       // messages that the broker took
	largest int                // of them
	denied  map[lane]time.Time // topics that are left until then
	refusal time.Time          // the last
}

type ends struct {
	lane            lane
	bytes           int
	together, alone int
	passed          int // on its topic, before its first end
}

// closed notes that the broker has closed the connection with these under way.
func (s *suspects) closed(underway []sent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ends == nil {
		s.ends = map[uint64]ends{}
	}
	var records []sent
	for _, m := range underway {
		if m.lsn != 0 {
			records = append(records, m)
		}
	}
	if len(s.ends) > mostSuspects { // a broker that closes again and again
		maps.DeleteFunc(s.ends, func(lsn uint64, _ ends) bool {
			return !slices.ContainsFunc(records, func(m sent) bool { return m.lsn == lsn })
		})
	}
	for _, m := range records {
		e, known := s.ends[m.lsn]
		if !known {
			e.passed = s.passed[m.lane]
		}
		e.lane, e.bytes = m.lane, m.bytes
		if e.together++; len(records) == 1 {
			e.alone++
		}
		s.ends[m.lsn] = e
	}
}

// prune forgets those that the buffer has no more.
func (s *suspects) prune(there func(lsn uint64) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.ends, func(lsn uint64, _ ends) bool { return !there(lsn) })
}

// any reports whether there is one, or a topic that is left.
func (s *suspects) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ends) > 0 || len(s.denied) > 0
}

// trial reports whether messages have to go one at a time.
func (s *suspects) trial() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.ends {
		if e.together >= suspected && e.alone < refusals && !s.isDenied(e.lane) {
			return true
		}
	}
	return false
}

// prime is the suspect to be tried next: the one that has most against it.
func (s *suspects) prime() (lsn uint64, on lane, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	most := ends{}
	for at, e := range s.ends {
		if e.together < suspected || e.alone >= refusals || s.isDenied(e.lane) {
			continue
		}
		if !ok || e.alone > most.alone || e.alone == most.alone && at < lsn {
			lsn, on, most, ok = at, e.lane, e, true
		}
	}
	return lsn, on, ok
}

// convicted reports whether it is the message that the broker does not take, and not the
// topic.
func (s *suspects) convicted(e ends) bool {
	return e.alone >= refusals && (s.passed[e.lane] > e.passed || s.largest > 0 && e.bytes > s.largest)
}

// refused are the messages that the broker will never take, by LSN, with their size.
func (s *suspects) refused() map[uint64]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[uint64]int{}
	for lsn, e := range s.ends {
		if s.convicted(e) {
			all[lsn] = e.bytes
		}
	}
	return all
}

// skip reports whether a message is not to be sent now: it ends the connection, and it is
// not known why.
func (s *suspects) skip(lsn uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ends[lsn].alone >= refusals
}

// judge leaves topics on which nothing is taken, and takes up again those that were left
// long enough. It returns those that are left.
func (s *suspects) judge() (denied []lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := map[lane]int{}
	for _, e := range s.ends {
		if e.alone >= refusals && !s.convicted(e) {
			open[e.lane]++
		}
	}
	for _, on := range []lane{live, event, backfill} {
		until, left := s.denied[on]
		switch {
		case left && time.Now().After(until): // everything on it is tried anew
			delete(s.denied, on)
			maps.DeleteFunc(s.ends, func(_ uint64, e ends) bool { return e.lane == on })
		case !left && open[on] >= denials:
			if s.denied == nil {
				s.denied = map[lane]time.Time{}
			}
			s.denied[on] = time.Now().Add(deniedFor)
			denied = append(denied, on)
		case left:
			denied = append(denied, on)
		}
	}
	return denied
}

func (s *suspects) isDenied(on lane) bool {
	_, left := s.denied[on]
	return left
}

// endsConnections is why a message is refused.
func endsConnections(bytes int) error {
	return fmt.Errorf("the broker closed the connection %d times on this message of %d bytes alone; if it is too large for it, name the broker's limit with --max-message", refusals, bytes)
}

// left notes a message that the broker has taken.
func (s *suspects) left(m sent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ends, m.lsn)
	if s.passed == nil {
		s.passed = map[lane]int{}
	}
	s.passed[m.lane]++
	s.largest = max(s.largest, m.bytes)
}

// clear forgets a message that was refused, or is gone.
func (s *suspects) clear(lsn uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.convicted(s.ends[lsn]) {
		s.refusal = time.Now()
	}
	delete(s.ends, lsn)
}

// hurry reports whether the next connection is not to be waited for long: a trial takes a
// few, and after one refusal there may be more.
func (s *suspects) hurry() bool {
	if s.trial() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ends) > 0 && time.Since(s.refusal) < time.Minute
}

// closedByBroker tells the end of a connection that the other side made from one that
// the network did.
func closedByBroker(err error) bool {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return false
	}
	for _, network := range []error{syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EHOSTDOWN, errStopped, errNoPUBACK, errUnheard} {
		if errors.Is(err, network) {
			return false
		}
	}
	return err != nil && !silent(err)
}

// silent tells that no PINGRESP came; paho has no error of its own for it.
func silent(err error) bool {
	return err != nil && strings.Contains(err.Error(), "pingresp not received")
}
