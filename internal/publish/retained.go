package publish

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"telemetryd/internal/telemetry"
)

// Retained is a message that tells how something is now, in place of what its topic told
// before: it goes past the buffer, for the next one serves as well as one that was missed.
// It is retained, unless Limits.NoRetain says otherwise.
type Retained struct {
	Topic string
	Every time.Duration // it is sent at most this often; a second at least
	// Again is how long ago it must have been sent to go out on a new connection though
	// nothing has changed: a broker may have forgotten it.
	Again time.Duration
	// Message is what to send now; nil, or the same as last, which was sent before: nothing.
	// It is called by one goroutine.
	Message func(last []byte) []byte
}

const (
	// fewRetained is how seldom they are sent when values are to be few.
	fewRetained = 5 * time.Minute
	// retainedEnds is how many connections in a row the broker has to end with such a message
	// under way for its topic to be left, for retainedLeft.
	retainedEnds = 3
	retainedLeft = time.Hour
)

// besides is a Retained and what became of it. It outlives connections.
type besides struct {
	Retained
	last   []byte // that has its PUBACK, or is under way
	sent   time.Time
	under  *connection // on which it is under way
	ends   int         // connections in a row that the broker ended meanwhile
	denied time.Time
	large  bool // it was larger than the broker takes
}

// retained are all of them. A sender that paho holds may outlive its connection by a while:
// so there is a lock, and none is changed by the sender of another connection.
type retained struct {
	mu  sync.Mutex
	all []*besides
}

// beside sends what is due. It has its place behind what is live: such a message is small, and
// of each one at most is under way. Where the broker ends connections, and it is being found
// out why, they stay out of it.
func (s *sender) beside() {
	for _, b := range s.retained.all {
		if len(s.underway) >= s.Limits.inFlight(timely) || s.bytes[timely] >= leastTimely || !s.pace.open() || s.suspects.any() || s.echo.came != nil || s.conn.isLost() {
			return
		}
		if message := s.takeDue(b); message != nil && s.send(parcel{lane: besideOf, beside: b}, b.Topic, !s.Limits.NoRetain, message) != nil {
			return // the connection is lost
		}
	}
}

// takeDue is the message that is to be sent now, marked as being under way; nil for none.
func (s *sender) takeDue(b *besides) []byte {
	s.retained.mu.Lock()
	defer s.retained.mu.Unlock()
	every := max(b.Every, time.Second)
	if s.Few() {
		every = max(every, fewRetained)
	}
	if b.under != nil || time.Since(b.sent) < every || time.Since(b.denied) < retainedLeft {
		return nil
	}
	message := b.Message(b.last)
	if message == nil || bytes.Equal(message, b.last) {
		return nil
	}
	if err := s.Limits.tooLarge(b.Topic, message); err != nil {
		if !b.large {
			s.Log.Warn("a message is left out", "topic", b.Topic, "error", err)
		}
		b.large, b.sent = true, time.Now() // looked at again as often as it would be sent
		return nil
	}
	b.last, b.sent, b.under, b.large = message, time.Now(), s.conn, false
	return message
}

// renew forgets what is not known to be at the broker of a new connection.
func (s *sender) renew() {
	s.retained.mu.Lock()
	defer s.retained.mu.Unlock()
	for _, b := range s.retained.all {
		if b.under != nil || time.Since(b.sent) >= b.Again {
			b.last = nil
		}
		b.under = nil
	}
}

// arrived notes the PUBACK of such a message.
func (s *sender) arrived(b *besides) {
	s.retained.mu.Lock()
	defer s.retained.mu.Unlock()
	if b.under != s.conn {
		return
	}
	if !b.denied.IsZero() {
		s.Health.Clear("retained_denied", "The broker takes messages on all topics")
	}
	b.under, b.ends, b.denied = nil, 0, time.Time{}
}

// ended notes that the broker ended the connection. AWS IoT does so on a topic that a policy
// denies.
func (s *sender) ended() {
	s.retained.mu.Lock()
	defer s.retained.mu.Unlock()
	for _, b := range s.retained.all {
		if b.under != s.conn {
			continue
		}
		if b.ends++; b.ends >= retainedEnds {
			b.denied = time.Now()
			s.Health.Set("retained_denied", telemetry.Condition{Code: "topic_denied", Severity: telemetry.Warning,
				Title:  fmt.Sprintf("%s ends the connection at each message on %s", s.conn.broker, b.Topic),
				Remedy: fmt.Sprintf("Allow this account to write and to retain %s (AWS IoT: iot:Publish and iot:RetainPublish in the policy), or turn it off. It is tried again every hour", b.Topic)})
		}
	}
}
