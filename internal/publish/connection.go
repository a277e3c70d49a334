package publish

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"telemetryd/internal/telemetry"
)

const (
	connectLimit = 15 * time.Second
	// writeLimit is how long the network may take no bytes before the connection
	// counts as lost; it is also how long paho may hold a publish back then.
	writeLimit = 5 * time.Second
	// keepAlive is how long the connection may be silent unless Limits tell otherwise.
	keepAlive = 10 * time.Second
	pingLimit = 5 * time.Second
	// causeLimit is how much later than a message paho may tell of a loss.
	causeLimit = time.Second

	// window is how many messages may be without PUBACK; reserve how many more, that are
	// not backlog; windowBytes bounds them, too.
	window      = 100
	reserve     = 20
	windowBytes = 1 << 20
	// Bytes of backlog under way adapt to the link, so that what is sent next waits
	// about slowAck longer than without, which keeps the link busy.
	leastBacklog = 4 << 10
	mostBacklog  = 512 << 10
	slowAck      = 250 * time.Millisecond
)

// connection is one MQTT connection from its CONNECT to its loss.
type connection struct {
	broker Broker
	client mqtt.Client
	lost   chan struct{} // closed at its loss
	once   sync.Once
	cause  error // why, set before lost closes
}

func (c *connection) lose(err error) {
	c.once.Do(func() {
		c.cause = err
		close(c.lost)
	})
}

func (c *connection) isLost() bool {
	select {
	case <-c.lost:
		return true
	default:
		return false
	}
}

// dial connects to one broker. The last will is on its way with the connection.
func (p *publisher) dial(ctx context.Context, b Broker) (*connection, error) {
	c := &connection{broker: b, lost: make(chan struct{})}
	o, err := p.Credentials.options(b, p.ClientID, p.sessions, func() time.Time { // the system's may be of 1970
		now, _ := p.Clock.Now()
		return now
	})
	if err != nil {
		return nil, err
	}
	o.SetCleanSession(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetOrderMatters(false).
		SetWriteTimeout(writeLimit).
		SetKeepAlive(cmp.Or(p.Limits.KeepAlive, keepAlive)).
		SetBinaryWill(p.topic(p.VehicleID, statusOf), p.statusMessage(offlineWill), 1, !p.Limits.NoRetain).
		SetCustomOpenConnectionFn(p.Link.open).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { c.lose(err) })
	c.client = mqtt.NewClient(o)
	token := c.client.Connect()
	select {
	case <-token.Done():
		if err := token.Error(); err != nil {
			return nil, fmt.Errorf("connect to %s: %w", b, err)
		}
		return c, nil
	case <-time.After(connectLimit):
		err = errors.New("no answer in time")
	case <-ctx.Done():
		err = ctx.Err()
	}
	go c.client.Disconnect(0) // waits for the attempt to end by its own limits
	return nil, fmt.Errorf("connect to %s: %w", b, err)
}

// options are what every client has in common. sessions, which may be nil, makes a TLS
// reconnection cheap; now, which may be nil, is what certificates are judged by.
func (c Credentials) options(b Broker, clientID string, sessions tls.ClientSessionCache, now func() time.Time) (*mqtt.ClientOptions, error) {
	password, err := c.password()
	if err != nil {
		return nil, err
	}
	o := mqtt.NewClientOptions().
		AddBroker(b.String()).
		SetClientID(clientID).
		SetUsername(c.Username).
		SetPassword(password).
		SetProtocolVersion(4). // MQTT 3.1.1
		SetConnectTimeout(connectLimit).
		SetKeepAlive(keepAlive).
		SetPingTimeout(pingLimit)
	if b.secure() {
		t, err := c.tlsConfig(sessions)
		if err != nil {
			return nil, err
		}
		t.ServerName, t.NextProtos, t.Time = cmp.Or(c.ServerName, b.url.Hostname()), c.ALPN, now
		o.SetTLSConfig(t)
		if b.url.Scheme == "mqtts" {
			hearAlerts(o)
		}
	}
	return o, nil
}

// sent is a message under way.
type sent struct {
	parcel
	token mqtt.Token
	at    time.Time
	bytes int
	front int // bytes under way behind which it was sent, and its own
}

// sender sends on one connection. Its goroutine alone uses it.
type sender struct {
	*publisher
	conn     *connection
	underway []sent        // in order of sending
	total    int           // their bytes
	backlog  int           // messages of backlog among them
	bytes    int           // and their bytes
	budget   int           // bytes of backlog that may be under way
	quickest time.Duration // that a PUBACK came; 0 before the first
	held     *parcel       // a suspect that waits until it is alone
	echo     echo
	lone     uint64 // the suspect that is under way alone; 0 for none
	pace     *pace
	due      bool // the status has to be sent
}

// deliver sends until the connection is lost, or ctx has ended and what is live is
// through. Publish can hold it for writeLimit at a loss: whoever waits for the loss
// must not wait for deliver.
func (p *publisher) deliver(ctx context.Context, c *connection) error {
	s := &sender{publisher: p, conn: c, budget: leastBacklog, pace: newPace(p.limiter)}
	defer func() {
		if c.isLost() && closedByBroker(c.cause) {
			p.suspects.closed(s.underway)
			s.closed()
		}
	}()
	p.lanes.connected()
	s.status()
	s.listen()
	s.announceGaps()
	upkeep := time.NewTicker(statusEvery)
	defer upkeep.Stop()
	health := p.HealthChanged
	for !c.isLost() {
		if err := s.fill(ctx.Err() == nil); err != nil {
			return err
		}
		if ctx.Err() != nil && len(s.underway) == 0 && s.pace.open() {
			return nil
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
			if err := s.settle(); err != nil {
				return err
			}
		case <-p.Store.Changed():
		case <-s.pace.opens:
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
			s.status()
			s.listen()
			s.announceGaps()
			if p.Store.Stats().Records == 0 {
				p.Clock.Forget()
			}
		case <-ended:
		case <-c.lost:
		}
	}
	return nil
}

// fill sends while the window has room.
func (s *sender) fill(backlog bool) error {
	s.tell()
	most, _ := s.Limits.inFlight()
	for len(s.underway) < most && s.total < windowBytes && s.lone == 0 && s.pace.open() {
		p, ok, err := s.next(backlog)
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
		switch {
		case s.suspects.refused(p.lsn):
			s.refuse(p, endsConnections(len(message)))
			continue
		case s.suspects.alone(p.lsn) && len(s.underway) > 0:
			s.held = &p
			return nil
		case s.suspects.alone(p.lsn):
			s.lone = p.lsn
		}
		if err := s.send(p, topic, false, message); err != nil {
			return err
		}
	}
	return nil
}

// next returns what to send next: what was held, else what the lanes give.
func (s *sender) next(backlog bool) (parcel, bool, error) {
	if s.held != nil {
		p := *s.held
		s.held = nil
		return p, true, nil
	}
	_, ofBacklog := s.Limits.inFlight()
	return s.lanes.next(backlog && s.Backlog() && len(s.underway) < ofBacklog && (s.bytes < s.budget || s.backlog == 0))
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
	s.total += len(message)
	s.underway = append(s.underway, sent{p, token, began, len(message), s.total})
	if p.lane == backfill {
		s.backlog++
		s.bytes += len(message)
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
	s.underway[0] = sent{}
	s.underway = s.underway[1:]
	s.total -= m.bytes
	if m.lsn != 0 {
		s.lanes.acknowledged(m.lsn)
		s.published(m.lane)
		s.suspects.clear(m.lsn)
		if s.lone == m.lsn {
			s.lone = 0
		}
	}
	took := max(time.Since(m.at), time.Microsecond)
	if s.quickest == 0 || took < s.quickest {
		s.quickest = took
	}
	if m.lane == backfill {
		s.backlog--
		s.bytes -= m.bytes
		// So much the link carries in the time that is wanted. Each PUBACK tells it anew:
		// all those of one full queue lower the budget once, not one after the other.
		carries := float64(m.front) * float64(s.quickest+slowAck) / float64(took)
		s.budget = max(int(min(carries, float64(s.budget+m.bytes), mostBacklog)), leastBacklog)
	}
	return nil
}

// status publishes what the publisher says of itself, now or as soon as it may.
func (s *sender) status() {
	s.due = true
	s.tell()
}

// tell sends the status that is due, if there is room for it.
func (s *sender) tell() {
	if most, _ := s.Limits.inFlight(); !s.due || len(s.underway) >= most || !s.pace.open() {
		return
	}
	s.due = false
	// At a loss nobody needs it: the will is on its way.
	_ = s.send(parcel{lane: statusOf}, s.topic(s.VehicleID, statusOf), !s.Limits.NoRetain, s.statusMessage(online))
}
