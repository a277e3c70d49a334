package publish

import (
	"cmp"
	"context"
	"errors"
	"time"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// Parked says what changes while the vehicle is parked: a month of that is not to cost what a
// day of driving does.
type Parked struct {
	// Is tells whether it is, and when that has changed; nil: it never is.
	Is func() (parked bool, changed <-chan struct{})
	// StatusEvery is how often the status is published then, though nothing changed; 0: 1 h.
	StatusEvery time.Duration
	// KeepAlive is how long the connection may be silent then; 0: 15 min. MQTT fixes it in
	// CONNECT (3.1.2.10), so that a new connection is made for it.
	KeepAlive time.Duration
	// Close closes the connection in between: it is opened for the status, and for events.
	Close bool

	linger time.Duration // 0 means linger
}

const (
	parkedStatusEvery = time.Hour
	// parkedKeepAlive is below what brokers allow (AWS IoT 20 min, Azure Event Grid 1160 s).
	parkedKeepAlive = 15 * time.Minute
	// linger is how long a connection that is to be closed stays for what comes just behind:
	// the batch that is still open, an event.
	linger = 10 * time.Second
	// answersRest is how long a connection is not opened again for answers alone. Retained
	// messages on the topics of commands are refused at each connection, and the sum of what
	// is refused comes when it is closed: so long after, that is forgotten.
	answersRest = 2 * mostAnswerAge
)

// now is Is of a vehicle that may never be parked.
func (p Parked) now() (parked bool, changed <-chan struct{}) {
	if p.Is == nil {
		return false, nil
	}
	return p.Is()
}

func (p *publisher) isParked() bool {
	parked, _ := p.Parked.now()
	return parked
}

// keepAlive is how long a connection may be silent.
func (p *publisher) keepAlive(parked bool) time.Duration {
	usual := cmp.Or(p.Limits.KeepAlive, keepAlive)
	if !parked || p.Parked.Close {
		return usual
	}
	return max(usual, cmp.Or(p.Parked.KeepAlive, parkedKeepAlive))
}

// outlived reports whether a connection has a keep-alive of another mode.
func (p *publisher) outlived(c *connection, parked bool) bool {
	return p.keepAlive(parked) != p.keepAlive(c.parked)
}

// move makes the connection with the keep-alive of the mode, in place of c. It is the same
// broker's, which must not hear that we are offline.
func (p *publisher) move(ctx context.Context, c *connection, leave func(), delivered <-chan error) (*connection, error) {
	c.moved.Store(true)
	leave()
	_ = p.farewell(c, delivered) // that it stopped
	p.untold = &c.broker
	return p.dial(ctx, c.broker)
}

// errResting is a connection that was closed because the vehicle is parked and nothing is to
// be said.
var errResting = errors.New("the vehicle is parked, and all is said")

// rest passes the time in which a parked vehicle has no connection: until the next status is
// due, something happens, a command is answered that came before, or the vehicle is parked no
// longer.
func (p *publisher) rest(ctx context.Context) {
	hour := time.NewTimer(cmp.Or(p.Parked.StatusEvery, parkedStatusEvery))
	defer hour.Stop()
	for {
		newest, _ := p.Store.Newest(spool.Event)
		parked, changed := p.Parked.now()
		if !parked || newest > p.told {
			return
		}
		var answers <-chan time.Time
		if p.Outbox.waits() {
			wait := time.Until(p.forAnswers.Add(answersRest))
			if wait <= 0 {
				p.forAnswers = time.Now()
				return
			}
			answers = time.After(wait)
		}
		select {
		case <-answers:
		case <-p.Outbox.changed:
		case <-p.Store.Changed():
			if err := p.lanes.follow(); err != nil {
				p.Health.Set("buffer_read", unreadable(err))
			}
		case <-hour.C:
			return
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// lastWord returns what says that we go offline where there is no connection but a broker
// believes that we are there: nobody else would, for the will went with the connection. It is
// done farewell after the end of ctx.
func (p *publisher) lastWord(ctx context.Context) func() {
	saying, done := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(farewell, done) })
	return func() {
		defer done()
		defer stop()
		if p.untold == nil {
			return
		}
		c, err := p.dial(saying, *p.untold)
		if err != nil {
			p.Log.Debug("the status stays as it was", "error", err)
			return
		}
		p.sayOffline(saying, c)
		c.lose(errStopped)
		c.client.Disconnect(farewellMS)
	}
}

// parking is what a sender knows of the mode.
type parking struct {
	changed <-chan struct{}
	hour    *time.Ticker // of the status
	since   time.Time    // it may be closed so long after
}

func (s *sender) newParking() parking {
	_, changed := s.Parked.now()
	return parking{changed: changed, hour: time.NewTicker(cmp.Or(s.Parked.StatusEvery, parkedStatusEvery)), since: time.Now()}
}

// turn tells the new mode, unless the connection is to be made anew for it: then the next one
// does.
func (s *sender) turn(p *parking, c *connection) {
	var parked bool
	parked, p.changed = s.Parked.now()
	p.since = time.Now()
	if !s.outlived(c, parked) {
		s.status()
	}
}

// rests reports whether the connection may be closed, and else when to look again.
func (s *sender) rests(p parking) (rests bool, again <-chan time.Time) {
	if !s.Parked.Close || !s.isParked() {
		return false, nil
	}
	if left := cmp.Or(s.Parked.linger, linger) - time.Since(p.since); left > 0 {
		return false, time.After(left)
	}
	return len(s.underway) == 0 && !s.due && s.pace.open() && !s.Outbox.waits(), nil
}

// state is what the status says of a publisher that is not offline.
func (p Parked) state() telemetry.State {
	if parked, _ := p.now(); parked {
		return telemetry.Parked
	}
	return telemetry.Online
}
