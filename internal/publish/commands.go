package publish

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"telemetryd/internal/telemetry"
)

// Commands takes what comes on the topics of commands.
type Commands interface {
	// Topics are filters of MQTT; where there are none, nothing is subscribed to.
	Topics() []string
	// Receive takes a message, in the order of arrival. It must not wait: behind it wait the
	// PUBACKs.
	Receive(topic string, payload []byte, retained bool)
}

const (
	// perSubscribe is how many filters a SUBSCRIBE has at most: AWS IoT takes 8.
	perSubscribe = 8
	// A broker that closes the connection at the subscription so many times is not asked for
	// deniedFor.
	subscribeEnds = 2
)

// subscription remembers over connections whether the broker lets us subscribe. The zero
// value is ready; it is safe for concurrent use, as suspects are.
type subscription struct {
	mu   sync.Mutex
	ends int // connections in a row that ended before the SUBACK
	left time.Time
}

// open reports whether the broker is to be asked now.
func (s *subscription) open() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !time.Now().Before(s.left)
}

// closed notes an end before the SUBACK, and reports whether it is the subscription's.
func (s *subscription) closed(alone bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ends++; alone {
		s.ends = subscribeEnds
	}
	if s.ends < subscribeEnds {
		return false
	}
	s.ends = subscribeEnds - 1 // the next time one is enough
	s.left = time.Now().Add(deniedFor)
	return true
}

func (s *subscription) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends = 0
}

// asking is a SUBSCRIBE under way on a connection.
type asking struct {
	token   mqtt.Token
	done    <-chan struct{} // nil while none is
	waiting bool            // no SUBACK came yet
	rest    []string        // filters to ask for next
	denied  []string
	begun   bool // on this connection
}

// subscribe asks for the topics of commands, once on a connection.
func (s *sender) subscribe() {
	if s.Commands == nil || s.asking.begun || !s.commandsAsked.open() {
		return
	}
	if s.asking.rest = s.Commands.Topics(); len(s.asking.rest) > 0 {
		s.asking.begun = true
		s.ask()
	}
}

// ask sends a SUBSCRIBE for the next filters.
func (s *sender) ask() {
	n := min(len(s.asking.rest), perSubscribe)
	filters := map[string]byte{}
	for _, topic := range s.asking.rest[:n] {
		filters[topic] = 1
	}
	s.asking.rest = s.asking.rest[n:]
	s.asking.token = s.conn.client.SubscribeMultiple(filters, func(_ mqtt.Client, m mqtt.Message) {
		s.Commands.Receive(m.Topic(), m.Payload(), m.Retained())
	})
	s.asking.done, s.asking.waiting = s.asking.token.Done(), true
}

// asked reads a SUBACK.
func (s *sender) asked() {
	s.asking.done = nil
	token, ok := s.asking.token.(*mqtt.SubscribeToken)
	if !ok || token.Error() != nil && len(token.Result()) == 0 {
		return // the connection is lost, or paho could not send
	}
	for topic, code := range token.Result() {
		if code == refusedSubscription {
			s.asking.denied = append(s.asking.denied, topic)
		}
	}
	s.asking.waiting = false
	s.commandsAsked.answered()
	if len(s.asking.rest) > 0 {
		s.ask()
		return
	}
	if len(s.asking.denied) > 0 {
		slices.Sort(s.asking.denied)
		s.Health.Set("commands", s.deaf(fmt.Sprintf("%s does not let us subscribe to %s", s.conn.broker, strings.Join(s.asking.denied, ", "))))
		return
	}
	s.Health.Clear("commands", "The broker lets us subscribe to the topics of commands")
}

// blamed judges an end that the broker made: whether a subscription or an answer was under
// way, so that no record is suspected. It finds those that end each connection.
func (s *sender) blamed() bool {
	answers := s.Outbox.closed(s.underway)
	if answers == deny {
		s.Health.Set("responses", telemetry.Condition{Code: "responses_denied", Severity: telemetry.Warning,
			Title:  fmt.Sprintf("%s ends the connection at each message on %s", s.conn.broker, s.responseTopic()),
			Remedy: fmt.Sprintf("Allow this account to write %s. Until then commands run without an answer; it is tried again every hour", s.responseTopic())})
	}
	if !s.asking.waiting {
		return answers != unknown
	}
	alone := answers == unknown && !slices.ContainsFunc(s.underway, func(m sent) bool { return m.lsn != 0 })
	if s.commandsAsked.closed(alone) {
		s.Health.Set("commands", s.deaf(fmt.Sprintf("%s ends the connection when we subscribe to the topics of commands", s.conn.broker)))
	}
	return true
}

func (s *sender) deaf(title string) telemetry.Condition {
	return telemetry.Condition{Code: "commands_denied", Severity: telemetry.Warning, Title: title,
		Remedy: fmt.Sprintf("Allow this account to read %s (AWS IoT: iot:Subscribe and iot:Receive in the policy). Until then no command arrives; telemetry goes on", strings.Join(s.Commands.Topics(), ", "))}
}

func (s *sender) responseTopic() string { return s.topic(s.VehicleID, responses) }

// Outbox holds the answers to commands until their PUBACK. They do not go through the buffer:
// an answer of yesterday is of no use. So it is bounded, and forgets what is older than
// mostAnswerAge.
type Outbox struct {
	mu      sync.Mutex
	answers []*answer // in order
	bytes   int
	shut    time.Time // nothing is sent until then
	changed chan struct{}
}

type answer struct {
	payload []byte
	at      time.Time
	sent    bool // on this connection
	ends    int  // that the broker made while it was under way
}

const (
	mostAnswers     = 64
	mostAnswerBytes = 256 << 10
	mostAnswerAge   = 5 * time.Minute
	// answerEnds is at how many ends an answer has to have been under way to be dropped.
	answerEnds = 2
)

// NewOutbox returns an empty one.
func NewOutbox() *Outbox { return &Outbox{changed: make(chan struct{}, 1)} }

// Add takes an answer. It never waits; where there are too many, the oldest goes.
func (o *Outbox) Add(payload []byte) {
	o.mu.Lock()
	o.answers = append(o.answers, &answer{payload: payload, at: time.Now()})
	o.bytes += len(payload)
	for len(o.answers) > mostAnswers || len(o.answers) > 1 && o.bytes > mostAnswerBytes {
		o.drop(o.answers[0])
	}
	o.mu.Unlock()
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// drop forgets an answer that is still there.
func (o *Outbox) drop(a *answer) {
	if i := slices.Index(o.answers, a); i >= 0 {
		o.answers = slices.Delete(o.answers, i, i+1)
		o.bytes -= len(a.payload)
	}
}

// connected begins a connection: all is to be sent on it.
func (o *Outbox) connected() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range o.answers {
		a.sent = false
	}
}

// next returns the next answer to be sent, which counts as sent then.
func (o *Outbox) next() (*answer, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	open := o.open()
	i := slices.IndexFunc(o.answers, func(a *answer) bool { return !a.sent })
	if i < 0 || !open {
		return nil, false
	}
	o.answers[i].sent = true
	return o.answers[i], true
}

// open forgets what is old, and reports whether answers may be sent.
func (o *Outbox) open() bool {
	now := time.Now()
	for len(o.answers) > 0 && now.Sub(o.answers[0].at) > mostAnswerAge {
		o.drop(o.answers[0])
	}
	return !now.Before(o.shut)
}

// waits reports whether an answer waits for a connection, while there is none.
func (o *Outbox) waits() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open() && len(o.answers) > 0
}

// acknowledged is called at a PUBACK, or when an answer cannot be sent at all.
func (o *Outbox) acknowledged(a *answer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drop(a)
}

// blame is what the answers have to do with an end that the broker made.
type blame int

const (
	unknown blame = iota // none was under way
	perhaps
	deny // one was, for the second time
)

// closed judges the answers among what was under way.
func (o *Outbox) closed(underway []sent) blame {
	o.mu.Lock()
	defer o.mu.Unlock()
	found := unknown
	for _, m := range underway {
		if m.answer == nil {
			continue
		}
		found = max(found, perhaps)
		if m.answer.ends++; m.answer.ends >= answerEnds {
			found = deny
			o.drop(m.answer)
			o.shut = time.Now().Add(deniedFor)
		}
	}
	return found
}

// answered takes a PUBACK.
func (s *sender) answered(a *answer) {
	s.Outbox.acknowledged(a)
	s.Health.Clear("responses", "The broker takes answers to commands")
}

// respond sends the answers for which there is room, as if they were live.
func (s *sender) respond() error {
	for len(s.underway) < s.Limits.inFlight(timely) && s.bytes[timely] < max(s.budget, leastTimely) && s.pace.open() {
		a, ok := s.Outbox.next()
		if !ok {
			return nil
		}
		if err := s.Limits.tooLarge(s.responseTopic(), a.payload); err != nil {
			s.Log.Error("an answer is left out", "error", err) // whoever made it knows the limit
			s.Outbox.acknowledged(a)
			continue
		}
		p := parcel{lane: responses, answer: a}
		if err := s.send(p, s.responseTopic(), false, a.payload); err != nil {
			s.underway = append(s.underway, sent{parcel: p}) // it may be what ended the connection
			return err
		}
	}
	return nil
}
