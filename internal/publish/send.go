package publish

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

const (
	// window is how many messages may be without PUBACK when backlog is sent; reserve how
	// many more for what is timely, and as many again for emergencies.
	window  = 100
	reserve = 20
	// Bytes under way adapt to the link, so that what is sent next, an emergency above all,
	// waits about slowAck longer than without, which keeps the link busy. leastTimely lets
	// live batches go on where it is the broker that is slow. Emergencies have a bound of
	// their own, for the sake of memory.
	leastBudget = 4 << 10
	mostBudget  = 512 << 10
	leastTimely = 16 << 10
	mostUrgency = 512 << 10
	slowAck     = 250 * time.Millisecond
)

// sent is a message under way.
type sent struct {
	parcel
	token mqtt.Token
	at    time.Time
	bytes int
	front int // bytes under way behind which it was sent, and its own
}

// rank is the one that the message counts for.
func (m sent) rank() rank {
	switch {
	case m.urgent:
		return emergencies
	case m.lane == backfill:
		return backlog
	default:
		return timely
	}
}

// sender sends on one connection. Its goroutine alone uses it.
type sender struct {
	*publisher
	conn     *connection
	underway []sent           // in order of sending
	count    [backlog + 1]int // of them, by rank
	bytes    [backlog + 1]int // and their bytes
	budget   int              // bytes that may be under way
	quickest time.Duration    // that a PUBACK came; 0 before the first
	echo     echo
	pace     *pace
	due      bool // the status has to be sent
	asking   asking
	// responded: the last message was an answer.
	responded bool
}

// deliver sends until the connection is lost, or ctx has ended and what is live is
// through. Publish can hold it for handLimit at a loss: whoever waits for the loss
// must not wait for deliver.
func (p *publisher) deliver(ctx context.Context, c *connection) error {
	s := &sender{publisher: p, conn: c, budget: leastTimely, pace: newPace(p.limiter)}
	defer func() {
		if c.isLost() && closedByBroker(c.cause) && !s.blamed() {
			p.suspects.closed(s.underway)
			s.closed()
			s.ended()
		}
	}()
	p.lanes.connected()
	p.suspects.prune(func(lsn uint64) bool {
		_, there, err := p.Store.Get(lsn)
		return there || err != nil
	})
	p.Outbox.connected()
	if !s.suspects.trial() { // emergencies are the first of all
		if err := s.offer(emergencies); err != nil {
			return err
		}
	}
	s.renew()
	parking := s.newParking() // a change behind this is told
	defer parking.hour.Stop()
	s.status()
	s.subscribe()
	s.listen()
	s.announceGaps()
	var besides <-chan time.Time
	if len(s.retained.all) > 0 {
		every := time.NewTicker(time.Second)
		defer every.Stop()
		besides = every.C
	}
	upkeep := time.NewTicker(statusEvery)
	defer upkeep.Stop()
	limit := cmp.Or(p.ackLimit, ackLimit)
	owed := time.NewTicker(limit / 10)
	defer owed.Stop()
	health := p.HealthChanged
	for !c.isLost() {
		if p.Parked.Close {
			p.told, _ = p.Store.Newest(spool.Event)
		}
		if err := s.fill(ctx.Err() == nil); err != nil {
			return err
		}
		s.waits.Store(len(s.underway) > 0)
		if ctx.Err() != nil && len(s.underway) == 0 && s.pace.open() {
			return nil
		}
		rests, again := s.rests(parking)
		if rests {
			return errResting
		}
		var oldest <-chan struct{}
		if len(s.underway) > 0 {
			oldest = s.underway[0].token.Done()
		}
		var ended <-chan struct{}
		if ctx.Err() == nil {
			ended = ctx.Done()
		}
		select {
		case <-oldest:
			if err := s.settleAll(); err != nil {
				return err
			}
		case <-p.Store.Changed():
		case <-s.pace.opens:
		case <-p.Outbox.changed:
		case <-s.asking.done:
			s.asked()
		case <-health:
			s.status()
		case <-s.echo.subscribed:
			s.echo.subscribed = nil
			s.status()
		case <-s.echo.came:
			s.heard(true)
		case <-s.echo.late:
			s.heard(false)
		case <-upkeep.C:
			s.lanes.again()
			if !s.isParked() {
				s.status()
				s.listen()
			}
			s.subscribe()
			s.announceGaps()
			if p.Store.Stats().Records == 0 {
				p.Clock.Forget()
			}
		case <-owed.C:
			if len(s.underway) > 0 && time.Since(s.underway[0].at) > limit {
				c.lose(errNoPUBACK)
			}
		case <-besides: // fill looks
		case <-s.unheard():
			c.lose(errUnheard)
		case <-parking.changed:
			s.turn(&parking, c)
		case <-parking.hour.C:
			if s.isParked() {
				s.status()
			}
		case <-again:
		case <-ended:
		case <-c.lost:
		}
	}
	return nil
}

// fill sends while the window has room: emergencies before all else. Answers and others take
// turns where there is room for one message at a time: neither has to wait for the end of the
// other.
func (s *sender) fill(withBacklog bool) error {
	if !s.suspects.trial() {
		if err := s.offer(emergencies); err != nil {
			return err
		}
	}
	s.tell()
	s.sentence()
	others := func() error { return s.others(withBacklog) }
	turns := []func() error{s.respond, others}
	if s.responded {
		slices.Reverse(turns)
	}
	for _, turn := range turns {
		if err := turn(); err != nil {
			return err
		}
	}
	return nil
}

// others sends what is live, then what goes past the buffer, then backlog, for which there is no
// time at a stop.
func (s *sender) others(withBacklog bool) error {
	if err := s.offer(timely); err != nil || !withBacklog {
		return err
	}
	s.beside()
	return s.offer(backlog)
}

// offer sends down to a rank while the window has room.
func (s *sender) offer(down rank) error {
	for to, ok := s.room(); ok; to, ok = s.room() {
		p, ok, err := s.next(min(to, down))
		if err != nil {
			s.Health.Set("buffer_read", unreadable(err))
			return nil // asked again at the next change or tick
		}
		s.Health.Clear("buffer_read", "The buffer is read again")
		if !ok {
			return nil
		}
		message, err := s.message(p)
		if err != nil {
			s.refuse(p, err)
			continue
		}
		topic := s.topic(p.message.VehicleID, p.lane)
		if err := s.Limits.tooLarge(topic, message); err != nil {
			s.refuse(p, err)
			continue
		}
		if err := s.send(p, topic, false, message); err != nil {
			return err
		}
	}
	return nil
}

// sentence refuses the messages that the broker does not take, and leaves topics on which it
// takes nothing.
func (s *sender) sentence() {
	if !s.suspects.any() && len(s.lanes.left) == 0 {
		return
	}
	for lsn, bytes := range s.suspects.refused() {
		if p, ok := s.lanes.get(lsn, event); ok {
			s.refuse(p, endsConnections(bytes))
		}
	}
	denied := s.suspects.judge()
	s.lanes.leave(denied)
	if len(denied) == 0 {
		s.Health.Clear("topic_denied", "The broker takes messages on all topics")
		return
	}
	var topics []string
	for _, on := range denied {
		topics = append(topics, s.topic(s.VehicleID, on))
	}
	s.Health.Set("topic_denied", topicDenied(s.conn.broker, topics))
}

// room tells down to which rank the window has room; not ok for none at all.
func (s *sender) room() (to rank, ok bool) {
	timelyBytes := s.bytes[timely]
	switch n := len(s.underway); {
	case n >= s.Limits.inFlight(emergencies) || s.bytes[emergencies] >= mostUrgency || !s.pace.open() || n > 0 && s.suspects.trial():
		return emergencies, false
	case n >= s.Limits.inFlight(timely) || timelyBytes >= max(s.budget, leastTimely):
		return emergencies, true
	case n >= s.Limits.inFlight(backlog) || !s.Backlog() || s.count[backlog] > 0 && timelyBytes+s.bytes[backlog] >= s.budget:
		return timely, true
	default:
		return backlog, true
	}
}

// next returns what to send next: what the lanes give but, after emergencies, suspects first.
func (s *sender) next(to rank) (parcel, bool, error) {
	if lsn, on, tried := s.suspects.prime(); tried {
		p, ok, err := s.lanes.next(emergencies)
		if ok || err != nil {
			return p, ok, err
		}
		if p, ok := s.lanes.get(lsn, on); ok {
			return p, true, nil
		}
		s.suspects.clear(lsn) // it is gone, or under way
	}
	for {
		p, ok, err := s.lanes.next(to)
		if !ok || err != nil || !s.suspects.skip(p.lsn) {
			return p, ok, err
		}
	}
}

// message is a parcel as it leaves.
func (s *sender) message(p parcel) ([]byte, error) {
	if p.invalid != nil {
		return nil, p.invalid
	}
	r := s.corrected(p)
	if p.lane == event {
		return r.Message(p.record.StreamID, p.record.Seq), nil
	}
	return s.former.message(r, p.record.StreamID, p.record.Seq)
}

// corrected is a parcel's record with its right time, where that became known after it
// was sealed.
func (s *sender) corrected(p parcel) telemetry.Record {
	if !p.message.Guessed() {
		return p.message
	}
	zero, quality, known := s.Clock.ZeroOf(p.message.BootID)
	if !known {
		return p.message
	}
	r, err := p.message.Corrected(zero, quality)
	if err != nil { // the guess is better than nothing, and it says that it is one
		s.Log.Error("a record keeps its guessed time", "stream_id", p.record.StreamID, "seq", p.record.Seq, "error", err)
		return p.message
	}
	return r
}

// send hands a message to the client.
func (s *sender) send(p parcel, topic string, retained bool, message []byte) error {
	began := time.Now() // a full connection holds Publish: that is waiting, too
	token := s.conn.client.Publish(topic, 1, retained, message)
	if s.conn.isLost() {
		return s.conn.cause
	}
	s.pace.spent()
	s.responded = p.answer != nil
	m := sent{parcel: p, token: token, at: began, bytes: len(message)}
	m.front = m.bytes + s.bytes[emergencies] + s.bytes[timely] + s.bytes[backlog]
	s.underway = append(s.underway, m)
	s.count[m.rank()]++
	s.bytes[m.rank()] += m.bytes
	return nil
}

// settleAll takes from the window what has its PUBACK, in order.
func (s *sender) settleAll() error {
	for len(s.underway) > 0 {
		select {
		case <-s.underway[0].token.Done():
		default:
			return nil
		}
		if err := s.settle(); err != nil {
			return err
		}
	}
	return nil
}

// settle takes the oldest message from the window. Its token is a success only
// without an error: at a loss paho completes all of them, with one.
func (s *sender) settle() error {
	m := s.underway[0]
	if err := m.token.Error(); err != nil {
		select { // the cause of the loss tells more
		case <-s.conn.lost:
		case <-time.After(causeLimit):
			s.conn.lose(fmt.Errorf("publish: %w", err))
		}
		return s.conn.cause
	}
	s.adapt(m)
	s.underway[0] = sent{}
	s.underway = s.underway[1:]
	s.count[m.rank()]--
	s.bytes[m.rank()] -= m.bytes
	if m.beside != nil {
		s.arrived(m.beside)
	}
	if m.answer != nil {
		s.answered(m.answer)
	}
	if m.lsn != 0 {
		if m.lane == event {
			s.Receipts.note(m.lsn)
		}
		s.lanes.acknowledged(m.lsn)
		s.published(m.lane)
		s.suspects.left(m)
	}
	return nil
}

// unheard tells when a connection counts as lost on which hardly anything was sent, and
// nothing comes back: one that may be silent for long is often dead before it is used, for the
// network forgets it, and nobody pings. nil: it does not.
func (s *sender) unheard() <-chan time.Time {
	if len(s.underway) == 0 || s.underway[0].front > leastBudget || s.keepAlive(s.conn.parked) <= connectLimit {
		return nil
	}
	return time.After(time.Until(s.underway[0].at.Add(connectLimit)))
}

// adapt fits the budget to the link, by how long a PUBACK took. It grows only while it is
// used: what was never under way says nothing about the link.
func (s *sender) adapt(m sent) {
	took := max(time.Since(m.at), time.Microsecond)
	if s.quickest == 0 || took < s.quickest {
		s.quickest = took
	}
	if took < pingLimit/2 && m.bytes >= leastBudget {
		s.patience.Store(0)
	}
	// So much the link carries in the time that is wanted. Each PUBACK that is late tells it
	// anew: all those of one full queue lower the budget once, not one after the other.
	carries := int(float64(m.front) * float64(s.quickest+slowAck) / float64(took))
	switch used := s.bytes[timely] + s.bytes[backlog]; {
	case took > s.quickest+slowAck:
		s.budget = max(min(s.budget, carries), leastBudget)
	case 2*used >= s.budget:
		s.budget = max(s.budget, min(carries, s.budget+m.bytes, mostBudget))
	}
}

// status publishes what the publisher says of itself, now or as soon as it may.
func (s *sender) status() {
	s.due = true
	s.tell()
}

// tell sends the status that is due, if there is room for it.
func (s *sender) tell() {
	if !s.due || len(s.underway) >= s.Limits.inFlight(timely) || !s.pace.open() {
		return
	}
	s.due = false
	// At a loss nobody needs it: the will is on its way.
	_ = s.send(parcel{lane: statusOf}, s.topic(s.VehicleID, statusOf), !s.Limits.NoRetain, s.statusMessage(online))
}
