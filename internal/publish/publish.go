package publish

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// Health is where conditions are reported, and where they are read for the status
// message.
type Health interface {
	Set(source string, c telemetry.Condition)
	Clear(source, resolved string)
	Conditions() []telemetry.Condition
}

// Config says what to publish, where to, and who publishes.
type Config struct {
	Brokers       []Broker      // tried in turn
	Return        time.Duration // how often the first is tried while on another; 0 means 5 min
	ClientID      string
	Credentials   Credentials
	TopicPrefix   string
	VehicleID     string
	StreamID      string
	Form          Form
	Limits        Limits
	WriteOnly     bool // the account may read nothing, so that arrival cannot be checked
	Version       string
	Store         Store
	Clock         *telemetry.Clock
	Health        Health
	HealthChanged <-chan struct{}         // may be nil
	Rates         func() []telemetry.Rate // of the car's signals; may be nil
	Log           *slog.Logger
	Counters      *Counters // may be nil
	Link          *Link     // counts what the sockets carry; may be nil
	Receipts      *Receipts // may be nil
	// Backlog reports whether backlog may be sent now, on a link that costs; nil: always.
	// It is asked before each message.
	Backlog func() bool
	Data    func() *telemetry.Data // for the status; may be nil
	Few     func() bool            // whether as little as possible is to be sent; may be nil
	Beside  []Retained             // what goes past the buffer
	// Commands are subscribed for on each connection; nil: there are none. What they answer
	// waits in Outbox, which may be nil then.
	Commands Commands
	Outbox   *Outbox
	Parked   Parked

	ackLimit time.Duration // 0 means ackLimit
}

// Counters count acknowledged records by lane.
type Counters struct{ Live, Events, Backfill atomic.Uint64 }

const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
	// stable is how long a connection must have lasted for the next loss to be
	// answered at once.
	stable = 30 * time.Second
	// kickedOften connections in a row that the broker ends soon are no accident.
	kickedOften = 3
	// statusEvery is how often the status is published though nothing changed.
	statusEvery = 60 * time.Second
	// returnEvery is how often the first broker is tried while another one is used.
	returnEvery = 5 * time.Minute
	// farewell is how long a stop may wait for acknowledgements.
	farewell = 1200 * time.Millisecond
	// farewellMS is how long the last packet may take to leave, in milliseconds.
	farewellMS = 200
)

type publisher struct {
	Config
	lanes    *lanes
	former   *former
	suspects suspects
	checkAt  atomic.Int64 // when arrival is checked next, in Unix milliseconds
	told     uint64       // events up to here were sent when the connection was closed for parking
	waits    atomic.Bool  // a record was under way at the last look
	patience atomic.Int64 // how much longer than pingLimit a PINGRESP may take
	sessions tls.ClientSessionCache
	limiter  *rate.Limiter
	retained retained
	// Run's goroutine alone uses these: a broker whose connection we closed without a word that
	// we are offline, for another one was to follow; and when one was opened for answers alone.
	untold     *Broker
	forAnswers time.Time

	commandsAsked subscription
}

// Run publishes until ctx ends; it then sends what is live, says that it is offline
// and returns within 2 s. While there is no connection the buffer fills.
func Run(ctx context.Context, c Config) {
	if c.Counters == nil {
		c.Counters = new(Counters)
	}
	if c.Rates == nil {
		c.Rates = func() []telemetry.Rate { return nil }
	}
	if c.Link == nil {
		c.Link = new(Link)
	}
	if c.Backlog == nil {
		c.Backlog = func() bool { return true }
	}
	if c.Data == nil {
		c.Data = func() *telemetry.Data { return nil }
	}
	if c.Few == nil {
		c.Few = func() bool { return false }
	}
	if c.Outbox == nil {
		c.Outbox = NewOutbox()
	}
	p := &publisher{Config: c, lanes: newLanes(c.Store, c.Clock), former: newFormer(c.Form), sessions: tls.NewLRUClientSessionCache(len(c.Brokers)),
		limiter: c.Limits.limiter()}
	for _, r := range c.Beside {
		p.retained.all = append(p.retained.all, &besides{Retained: r})
	}
	defer p.lastWord(ctx)()
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = firstRetry, lastRetry
	kicked := 0 // connections in a row that the broker ended soon
	for at := 0; ctx.Err() == nil; {
		broker := c.Brokers[at%len(c.Brokers)]
		conn, err := p.dial(ctx, broker)
		found := err == nil
		for conn != nil { // until it is lost; a better one takes its place
			c.Log.Info("connected", "broker", conn.broker.String(), "client_id", c.ClientID)
			c.Health.Clear("broker", "The broker is reached")
			started := time.Now()
			broker, p.untold = conn.broker, nil
			if conn, err = p.serve(ctx, conn); conn != nil && conn.broker == c.Brokers[0] {
				at = 0
			}
			switch lasted := time.Since(started) > stable; {
			case lasted:
				retry.Reset()
				kicked = 0
				c.Health.Clear("client_id", "Connections last again")
			case conn == nil && closedByBroker(err):
				kicked++
			}
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errResting) {
			p.rest(ctx)
			continue
		}
		p.bePatient(err)
		c.Health.Set("broker", missing(broker, c, err))
		if kicked >= kickedOften {
			c.Health.Set("client_id", clash(c.ClientID, broker))
		}
		if !found {
			at++
		}
		if found || at%len(c.Brokers) == 0 {
			wait := retry.NextBackOff()
			if p.suspects.hurry() {
				wait = min(wait, firstRetry)
			}
			p.pause(ctx, wait)
		}
	}
}

// bePatient gives the next connection more time for a PINGRESP where a PINGREQ may have had
// to wait behind a message: on a link of a few kB/s a large one takes longer than pingLimit,
// and would end each connection. The first quick PUBACK takes it back.
func (p *publisher) bePatient(err error) {
	if silent(err) && p.waits.Load() {
		p.patience.Store(min(2*p.patience.Load()+int64(pingLimit), int64(mostPatience)))
	}
}

// pause waits, and follows the buffer meanwhile so that what is fresh stays known.
func (p *publisher) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-p.Store.Changed():
			if err := p.lanes.follow(); err != nil {
				p.Health.Set("buffer_read", unreadable(err))
			}
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// serve uses a connection until it is lost or ctx ends, and leaves it politely in the
// latter case. When it is not the first broker's and that one is there again, it is left
// for next.
func (p *publisher) serve(ctx context.Context, c *connection) (next *connection, err error) {
	serving, leave := context.WithCancel(ctx)
	defer leave()
	first := p.awaitFirst(serving, c.broker)
	delivered := make(chan error, 1)
	go func() {
		err := p.deliver(serving, c)
		if err == nil && serving.Err() != nil && !c.isLost() && !c.moved.Load() {
			p.sayOffline(context.WithoutCancel(ctx), c)
		}
		delivered <- err
	}()
	for ended := false; !ended; {
		parked, changed := p.Parked.now()
		if p.outlived(c, parked) {
			return p.move(ctx, c, leave, delivered)
		}
		select {
		case <-changed:
			continue
		case err := <-delivered:
			c.lose(err)
			if errors.Is(err, errResting) {
				c.client.Disconnect(farewellMS) // or the broker would publish the will
				p.untold = &c.broker
				return nil, err
			}
		case <-c.lost: // deliver may be held by paho for handLimit: it is left alone
			if first != nil { // in a cluster, the new connection ends the old one
				select {
				case next = <-first:
				case <-time.After(causeLimit):
				}
			}
		case next = <-first:
			leave()
			return next, p.farewell(c, delivered)
		case <-ctx.Done():
			return nil, p.farewell(c, delivered)
		}
		ended = true
	}
	c.client.Disconnect(0)
	return next, c.cause
}

// farewell lets a connection deliver what is live, and say that it goes.
func (p *publisher) farewell(c *connection, delivered <-chan error) error {
	select {
	case <-delivered:
	case <-c.lost:
	case <-time.After(farewell):
	}
	c.lose(errStopped)
	c.client.Disconnect(farewellMS) // or the broker would publish the will
	return c.cause
}

// awaitFirst connects to the first broker again and again while another one is used; nil
// when it is the first.
func (p *publisher) awaitFirst(ctx context.Context, used Broker) <-chan *connection {
	if used == p.Brokers[0] {
		return nil
	}
	found := make(chan *connection)
	go func() {
		every := time.NewTicker(cmp.Or(p.Return, returnEvery))
		defer every.Stop()
		for {
			select {
			case <-every.C:
				if p.isParked() { // it may wait
					continue
				}
			case <-ctx.Done():
				return
			}
			c, err := p.dial(ctx, p.Brokers[0])
			if err != nil {
				continue
			}
			select {
			case found <- c:
			case <-ctx.Done():
				c.client.Disconnect(0)
			}
			return
		}
	}()
	return found
}

var errStopped = errors.New("stopped")

// sayOffline replaces the retained status before a clean disconnect, for which no
// will is sent. It waits for no slot: there is little time.
func (p *publisher) sayOffline(ctx context.Context, c *connection) {
	token := c.client.Publish(p.topic(p.VehicleID, statusOf), 1, !p.Limits.NoRetain, p.statusMessage(offline))
	select {
	case <-token.Done():
	case <-c.lost:
	case <-time.After(farewell):
	case <-ctx.Done():
	}
}

func (p *publisher) topic(vehicleID string, l lane) string {
	return p.TopicPrefix + "/" + vehicleID + "/" + string(l)
}

func (p *publisher) published(l lane) {
	switch l {
	case live:
		p.Counters.Live.Add(1)
	case event:
		p.Counters.Events.Add(1)
	case backfill:
		p.Counters.Backfill.Add(1)
	}
}

// state is what a status message says.
type state int

const (
	online state = iota
	offline
	offlineWill // as the broker says it for us: what we knew when we connected
)

// Status is the state of the publisher as it is now, for a Config with Rates and Data.
func (c Config) Status() telemetry.Status {
	now, _ := c.Clock.Now()
	stats := c.Store.Stats()
	return telemetry.Status{
		Schema: 1, VehicleID: c.VehicleID, State: c.Parked.state(), T: telemetry.FormatTime(now),
		Version: c.Version, StreamID: c.StreamID,
		LastSeq: stats.LastSeq, OldestUnackedSeq: stats.OldestUnackedSeq,
		Health: c.Health.Conditions(), Rates: c.Rates(), Data: c.Data(),
	}
}

func (p *publisher) statusMessage(s state) []byte {
	m := p.Status()
	if s != online {
		m.State = telemetry.Offline
	}
	if s == offlineWill {
		m.Health = []telemetry.Condition{}
	}
	b, err := json.Marshal(m)
	if err == nil && p.Limits.tooLarge(p.topic(p.VehicleID, statusOf), b) != nil {
		m.Rates = nil // the rest is small
		b, err = json.Marshal(m)
	}
	if err != nil {
		p.Log.Error("status left out", "error", err) // a mistake in this program
	}
	return b
}

// announceGaps turns what the buffer knows to be lost into events, and forgets it
// once they are durable.
func (p *publisher) announceGaps() {
	gaps := p.Store.Gaps()
	for i, g := range gaps {
		if err := p.appendGap(telemetry.DataGap(g)); err == nil {
			err = p.Store.ForgetGaps(gaps[i : i+1])
			if err == nil {
				continue
			}
		}
		return // the buffer cannot write now; they are kept and announced later
	}
}

func (p *publisher) appendGap(g telemetry.DataGap) error {
	e := telemetry.Event{Type: "data_gap", Severity: telemetry.Warning, At: p.Clock.Uptime(), Data: g}
	zero, quality := p.Clock.Zero()
	r, err := e.Seal(p.VehicleID, p.Clock.BootID, zero, quality)
	if err != nil {
		return err
	}
	payload, err := r.Marshal()
	if err != nil {
		return err
	}
	// In memory alone it may be lost, and with it what it names: that is kept until the disk
	// is well.
	if trouble, bad := p.Store.Trouble(); bad {
		return trouble.Err
	}
	if _, err = p.Store.Append(spool.Event, payload); err != nil {
		return err
	}
	if trouble, bad := p.Store.Trouble(); bad {
		return trouble.Err
	}
	return nil
}

// givenUp is said of each record that no broker will get.
const givenUp = "a record is given up, and named in a data_gap"

// refuse names a record that no broker will get as a gap, so that it does not block the
// rest.
func (p *publisher) refuse(bad parcel, why error) {
	p.Log.Error(givenUp, "stream_id", bad.record.StreamID, "seq", bad.record.Seq, "error", why)
	if err := p.Store.SetAside(bad.lsn, spool.Refused); err != nil {
		p.Log.Warn("it could not be set aside", "error", err)
	}
	err := p.appendGap(telemetry.DataGap{StreamID: bad.record.StreamID, FirstSeq: bad.record.Seq, LastSeq: bad.record.Seq, Reason: spool.Refused})
	if err == nil {
		p.lanes.acknowledged(bad.lsn)
		p.suspects.clear(bad.lsn)
	}
}

// clash is a broker that ends each connection: MQTT 3.1.1 gives no reason, and the usual
// one is that the id is in use (3.1.4).
func clash(clientID string, b Broker) telemetry.Condition {
	return telemetry.Condition{Code: "client_id_clash", Severity: telemetry.Warning,
		Title:  fmt.Sprintf("%s ends each connection soon: another client may use the id %s", b, clientID),
		Remedy: "give each vehicle an id of its own (--vehicle-id, or --client-id). If they have, a rule may deny a topic (AWS IoT ends the connection then), or messages are too large (--max-message): look into the broker's log"}
}

// topicDenied is a broker that takes nothing on some topics.
func topicDenied(b Broker, topics []string) telemetry.Condition {
	all := strings.Join(topics, " and ")
	return telemetry.Condition{Code: "topic_denied", Severity: telemetry.Warning,
		Title:  fmt.Sprintf("%s ends the connection at each message on %s", b, all),
		Remedy: fmt.Sprintf("Allow this account to write %s (AWS IoT: iot:Publish in the policy). What goes there waits in the buffer, and is tried again every hour", all)}
}

func unreadable(err error) telemetry.Condition {
	return telemetry.Condition{Code: "buffer_unreadable", Severity: telemetry.Warning,
		Title:  fmt.Sprintf("The buffer cannot be read: %v", err),
		Remedy: "check the card or disk that the state directory is on"}
}
