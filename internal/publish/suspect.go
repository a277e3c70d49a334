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
)

// A broker that does not take a message, because it is too large or does not please it,
// closes the connection; and again with the next one, for ever, for a message is sent
// until its PUBACK. So whoever was under way at such an end is a suspect, and after the
// second time goes alone: if that ends the connection, too, and again, it is refused.

const (
	// suspected is at how many ends a message has to have been under way to go alone from
	// then on; refusals is how often it may end the connection alone.
	suspected    = 2
	refusals     = 3
	mostSuspects = 10 * window
)

// suspects counts the ends by message. The zero value is ready; it is safe for concurrent
// use, as the sender of a lost connection may still be held by paho.
type suspects struct {
	mu   sync.Mutex
	ends map[uint64]ends
}

type ends struct{ together, alone int }

// closed notes that the broker has closed the connection with these under way.
func (s *suspects) closed(underway []sent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ends == nil {
		s.ends = map[uint64]ends{}
	}
	var records []uint64
	for _, m := range underway {
		if m.lsn != 0 {
			records = append(records, m.lsn)
		}
	}
	if len(s.ends) > mostSuspects { // of evicted messages, or of a broker that closes again and again
		maps.DeleteFunc(s.ends, func(lsn uint64, _ ends) bool { return !slices.Contains(records, lsn) })
	}
	for _, lsn := range records {
		e := s.ends[lsn]
		if e.together++; len(records) == 1 && e.together > suspected {
			e.alone++
		}
		s.ends[lsn] = e
	}
}

// any reports whether there is one.
func (s *suspects) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ends) > 0
}

// alone reports whether a message has to be the only one under way.
func (s *suspects) alone(lsn uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ends[lsn].together >= suspected
}

// refused reports whether the broker will never take a message.
func (s *suspects) refused(lsn uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ends[lsn].alone >= refusals
}

// endsConnections is why a message is refused.
func endsConnections(bytes int) error {
	return fmt.Errorf("the broker closed the connection %d times on this message of %d bytes alone; if it is too large for it, name the broker's limit with --max-message", refusals, bytes)
}

// clear forgets a message that has left, or was refused.
func (s *suspects) clear(lsn uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ends, lsn)
}

// closedByBroker tells the end of a connection that the other side made from one that
// the network did.
func closedByBroker(err error) bool {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return false
	}
	for _, network := range []error{syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EHOSTDOWN, errStopped, errNoPUBACK} {
		if errors.Is(err, network) {
			return false
		}
	}
	return err != nil && !strings.Contains(err.Error(), "pingresp not received") // paho has no error of its own for it
}
