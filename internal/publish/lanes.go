package publish

import (
	"errors"
	"slices"
	"sync"
	"time"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// Store is the buffer as the publisher sees it.
type Store interface {
	Append(c spool.Class, payload []byte) (spool.Record, error)
	Next(c spool.Class, after uint64) (spool.Record, bool, error)
	Get(lsn uint64) (spool.Record, bool, error)
	Newest(c spool.Class) (lsn uint64, ok bool)
	Ack(lsn uint64)
	SetAside(lsn uint64, reason string) error
	Gaps() []spool.Gap
	ForgetGaps([]spool.Gap) error
	Stats() spool.Stats
	Trouble() (spool.Trouble, bool)
	Changed() <-chan struct{}
}

// lane is the way of a message. Its text ends the topic.
type lane string

const (
	live     lane = "telemetry"
	event    lane = "events"
	backfill lane = "backfill"
	statusOf lane = "status"
	besideOf lane = "" // a Retained: it has a topic of its own
	// responses are no records: they come from the Outbox.
	responses lane = "response"
)

// rank is an order of sending; the first goes first. Emergencies are events, and leave as
// such.
type rank int

const (
	emergencies rank = iota
	timely           // live batches, then events
	backlog
)

const (
	// fresh is how old the newest sample of a batch may be when it is first offered
	// live.
	fresh = 30 * time.Second
	// mostUrgent is how many emergencies are known at a time: more than may be under way,
	// so that there is always one to send next. Further ones stay in the buffer.
	mostUrgent = 256
)

// lanes chooses the next record to send. It follows the end of the buffer whether
// or not there is a connection.
type lanes struct {
	store  Store
	uptime func() time.Duration
	bootID string

	mu       sync.Mutex
	tail     uint64    // telemetry up to here has been looked at
	young    []younger // batches not yet offered that may go live, oldest first
	lookedAt uint64    // events up to here have been looked at for emergencies
	urgent   []uint64  // emergencies among them that are not acknowledged
	left     []lane    // topics on which nothing is to be sent
	skipped  bool      // something that the disk did not give; it is looked for again
	// Per connection:
	urgentSent               int // of urgent, how many from the start were sent
	eventsFrom, backfillFrom uint64
	// under are the records sent on this connection, and not acknowledged, that their class
	// has not come to yet: live batches and emergencies.
	under map[uint64]bool
}

type younger struct {
	lsn    uint64
	newest time.Duration
}

// parcel is a record ready to be sent.
type parcel struct {
	lane    lane
	lsn     uint64
	record  spool.Record
	message telemetry.Record
	urgent  bool     // an emergency
	beside  *besides // of a message past the buffer
	answer  *answer  // to a command; there is no record then
	invalid error    // the record is none: a mistake that must not block the rest
}

func newLanes(store Store, clock *telemetry.Clock) *lanes {
	l := &lanes{store: store, uptime: clock.Uptime, bootID: clock.BootID}
	l.tail, _ = store.Newest(spool.Telemetry) // what is there already is backlog
	return l
}

// connected forgets what was sent on the connection before: it is sent again.
func (l *lanes) connected() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.urgentSent, l.eventsFrom, l.backfillFrom, l.under = 0, 0, 0, map[uint64]bool{}
}

// again looks anew for what the disk did not give.
func (l *lanes) again() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.skipped {
		l.skipped, l.eventsFrom, l.backfillFrom = false, 0, 0
	}
}

// leave tells on which topics nothing is to be sent.
func (l *lanes) leave(denied []lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(denied) < len(l.left) { // what was passed over on the others is looked for again
		l.eventsFrom, l.backfillFrom, l.urgentSent = 0, 0, 0
	}
	l.left = denied
}

// get is one record, out of its turn.
func (l *lanes) get(lsn uint64, to lane) (parcel, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok, err := l.store.Get(lsn)
	if err != nil || !ok || l.under[lsn] {
		return parcel{}, false
	}
	l.under[lsn] = true
	return l.take(to, r), true
}

// read is the next record of a class. What the disk does not give now is skipped where there
// is one behind it that can be read: it must not keep that one back.
func (l *lanes) read(c spool.Class, after uint64) (spool.Record, bool, error) {
	r, ok, err := l.store.Next(c, after)
	if ok && err != nil {
		l.skipped, err = true, nil
	}
	return r, ok, err
}

// follow looks at what was appended and lets go of what is no longer fresh.
func (l *lanes) follow() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.followLocked()
}

func (l *lanes) followLocked() error {
	now := l.uptime()
	for len(l.young) > 0 && now-l.young[0].newest > fresh {
		l.young = l.young[1:]
	}
	urgentErr := l.lookForUrgent()
	newest, _ := l.store.Newest(spool.Telemetry)
	for l.tail < newest {
		r, ok, err := l.read(spool.Telemetry, l.tail)
		if err != nil {
			return errors.Join(urgentErr, err)
		}
		if !ok {
			l.tail = newest // what is left has been acknowledged or is gone
			break
		}
		l.tail = r.LSN
		m, err := telemetry.ParseRecord(r.Payload)
		if err == nil && m.BootID == l.bootID && now-m.Newest <= fresh {
			l.young = append(l.young, younger{r.LSN, m.Newest})
		}
	}
	return urgentErr
}

// lookForUrgent looks at events not yet looked at until enough emergencies are known.
func (l *lanes) lookForUrgent() error {
	newest, _ := l.store.Newest(spool.Event)
	for l.lookedAt < newest && len(l.urgent) < mostUrgent {
		r, ok, err := l.read(spool.Event, l.lookedAt)
		if err != nil {
			return err
		}
		if !ok {
			l.lookedAt = newest
			return nil
		}
		l.lookedAt = r.LSN
		if m, err := telemetry.ParseRecord(r.Payload); err == nil && m.Emergency {
			l.urgent = append(l.urgent, r.LSN)
		}
	}
	return nil
}

// next returns the next parcel: emergencies, then live, then events, then backlog; down
// to a rank. That one cannot be read keeps those behind it not back.
func (l *lanes) next(to rank) (parcel, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	unread := l.followLocked()
	for at, next := range []func() (parcel, bool, error){emergencies: l.nextUrgent, timely: l.nextTimely, backlog: l.nextBacklog} {
		if rank(at) > to {
			break
		}
		p, ok, err := next()
		if ok {
			return p, true, nil
		}
		unread = errors.Join(unread, err)
	}
	return parcel{}, false, unread
}

func (l *lanes) nextBacklog() (parcel, bool, error) {
	for !slices.Contains(l.left, backfill) {
		r, ok, err := l.read(spool.Telemetry, l.backfillFrom)
		if err != nil || !ok || r.LSN > l.tail { // beyond the tail it was appended just now and is live
			return parcel{}, false, err
		}
		l.backfillFrom = r.LSN
		if !l.under[r.LSN] {
			return l.take(backfill, r), true, nil
		}
	}
	return parcel{}, false, nil
}

func (l *lanes) nextUrgent() (parcel, bool, error) {
	for l.urgentSent < len(l.urgent) && !slices.Contains(l.left, event) {
		r, ok, err := l.store.Get(l.urgent[l.urgentSent])
		if err != nil {
			return parcel{}, false, err
		}
		if !ok { // evicted, or damaged
			l.urgent = slices.Delete(l.urgent, l.urgentSent, l.urgentSent+1)
			continue
		}
		l.urgentSent++
		l.under[r.LSN] = true
		p := l.take(event, r)
		p.urgent = true
		return p, true, nil
	}
	return parcel{}, false, nil
}

func (l *lanes) nextTimely() (parcel, bool, error) {
	for len(l.young) > 0 && !slices.Contains(l.left, live) {
		lsn := l.young[0].lsn
		l.young = l.young[1:]
		r, ok, err := l.store.Get(lsn)
		if err != nil {
			return parcel{}, false, err
		}
		if ok {
			l.under[lsn] = true
			return l.take(live, r), true, nil
		}
	}
	for l.eventsFrom < l.lookedAt && !slices.Contains(l.left, event) {
		r, ok, err := l.read(spool.Event, l.eventsFrom)
		if err != nil {
			return parcel{}, false, err
		}
		if !ok || r.LSN > l.lookedAt { // beyond, it may be an emergency
			l.eventsFrom = l.lookedAt
			break
		}
		l.eventsFrom = r.LSN
		if !l.under[r.LSN] {
			return l.take(event, r), true, nil
		}
	}
	return parcel{}, false, nil
}

func (l *lanes) take(to lane, r spool.Record) parcel {
	p := parcel{lane: to, lsn: r.LSN, record: r}
	p.message, p.invalid = telemetry.ParseRecord(r.Payload)
	return p
}

// acknowledged lets the buffer forget a record.
func (l *lanes) acknowledged(lsn uint64) {
	l.store.Ack(lsn)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.under, lsn)
	if i := slices.Index(l.urgent[:l.urgentSent], lsn); i >= 0 {
		l.urgent = slices.Delete(l.urgent, i, i+1)
		l.urgentSent--
	}
}
