package publish

import (
	"cmp"
	"fmt"
	"time"

	"golang.org/x/time/rate"
)

// Limits are what the broker allows of us. The zero Limits are those of a broker without
// any: docs/brokers.md has the others.
type Limits struct {
	KeepAlive  time.Duration // how long we may be silent; whole seconds; 0 means 10 s
	MaxMessage int           // bytes of a PUBLISH packet, topic and header included; 0: none
	Rate       float64       // messages a second, whatever they say; 0: none
	InFlight   int           // messages without PUBACK; 0 means MostInFlight
	NoRetain   bool          // it refuses retained messages: status and will go without
}

// LeastMessage is a MaxMessage that status and events fit into.
const LeastMessage = 4 << 10

// Room is how large the payload may be on any topic of a vehicle; 0: there is no limit.
func (l Limits) Room(topicPrefix, vehicleID string) int {
	if l.MaxMessage == 0 {
		return 0
	}
	longest := max(len(live), len(event), len(backfill), len(statusOf))
	return l.MaxMessage - (fixedHeader + 2 + len(topicPrefix) + 1 + len(vehicleID) + 1 + longest + 2)
}

// fixedHeader is the type and the remaining length at its longest (MQTT 3.1.1, 2.2).
const fixedHeader = 1 + 4

// tooLarge is why a message may not be sent, or nil.
func (l Limits) tooLarge(topic string, message []byte) error {
	// 3.3.2: the topic with its length, and the packet identifier.
	size := fixedHeader + 2 + len(topic) + 2 + len(message)
	if l.MaxMessage == 0 || size <= l.MaxMessage {
		return nil
	}
	return fmt.Errorf("with its %d bytes it is larger than --max-message %d", size, l.MaxMessage)
}

// inFlight is how many messages may be without PUBACK for one of a rank to be sent: some room
// is kept for what is live, and more for emergencies.
func (l Limits) inFlight(to rank) int {
	most := cmp.Or(l.InFlight, MostInFlight)
	switch to {
	case emergencies:
		return most
	case timely:
		return max(most*(window+reserve)/MostInFlight, 1)
	default:
		return max(most*window/MostInFlight, 1)
	}
}

// MostInFlight is the largest InFlight.
const MostInFlight = window + 2*reserve

// limiter spaces messages evenly: a burst of them could be more in some second than the
// broker allows.
func (l Limits) limiter() *rate.Limiter {
	if l.Rate == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(l.Rate), 1)
}

// pace tells a sender when its next message may leave. Its slot is reserved when one has
// left: one that was late costs nothing that way.
type pace struct {
	limiter *rate.Limiter // of all connections; nil for no limit
	slot    time.Time
	opens   <-chan time.Time // while it is waited for
}

func newPace(l *rate.Limiter) *pace {
	p := &pace{limiter: l}
	p.spent()
	return p
}

// open reports whether a message may leave now; else opens tells when one may.
func (p *pace) open() bool {
	p.opens = nil
	if p.limiter == nil {
		return true
	}
	wait := time.Until(p.slot)
	if wait > 0 {
		p.opens = time.After(wait)
	}
	return wait <= 0
}

// spent notes that a message leaves.
func (p *pace) spent() {
	if p.limiter != nil {
		p.slot = time.Now().Add(p.limiter.Reserve().Delay())
	}
}
