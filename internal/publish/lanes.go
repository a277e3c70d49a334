package publish

import (
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
	Changed() <-chan struct{}
}

// lane is an order of sending; the first goes first. Its text ends the topic.
type lane string

const (
	live     lane = "telemetry"
	event    lane = "events"
	backfill lane = "backfill"
	statusOf lane = "status"
)

// fresh is how old the newest sample of a batch may be when it is first offered
// live.
const fresh = 30 * time.Second

// lanes chooses the next record to send. It follows the end of the buffer whether
// or not there is a connection.
type lanes struct {
	store  Store
	uptime func() time.Duration
	bootID string

	mu    sync.Mutex
	tail  uint64    // telemetry up to here has been looked at
	young []younger // batches not yet offered that may go live, oldest first
	// Per connection:
	eventsFrom, backfillFrom uint64
	under                    map[uint64]bool // sent on this connection, not acknowledged
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
	invalid error // the record is none: a mistake that must not block the rest
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
	l.eventsFrom, l.backfillFrom, l.under = 0, 0, map[uint64]bool{}
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
	for {
		r, ok, err := l.store.Next(spool.Telemetry, l.tail)
		if err != nil || !ok {
			return err
		}
		l.tail = r.LSN
		m, err := telemetry.ParseRecord(r.Payload)
		if err == nil && m.BootID == l.bootID && now-m.Newest <= fresh {
			l.young = append(l.young, younger{r.LSN, m.Newest})
		}
	}
}

// next returns the next parcel: live, then events, then, if allowed, backlog.
func (l *lanes) next(backlog bool) (parcel, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.followLocked(); err != nil {
		return parcel{}, false, err
	}
	for len(l.young) > 0 {
		lsn := l.young[0].lsn
		l.young = l.young[1:]
		r, ok, err := l.store.Get(lsn)
		if err != nil {
			return parcel{}, false, err
		}
		if ok {
			return l.take(live, r), true, nil
		}
	}
	r, ok, err := l.store.Next(spool.Event, l.eventsFrom)
	if err != nil {
		return parcel{}, false, err
	}
	if ok {
		l.eventsFrom = r.LSN
		return l.take(event, r), true, nil
	}
	if !backlog {
		return parcel{}, false, nil
	}
	for {
		r, ok, err := l.store.Next(spool.Telemetry, l.backfillFrom)
		if err != nil || !ok || r.LSN > l.tail { // beyond the tail it was appended just now and is live
			return parcel{}, false, err
		}
		l.backfillFrom = r.LSN
		if !l.under[r.LSN] {
			return l.take(backfill, r), true, nil
		}
	}
}

func (l *lanes) take(to lane, r spool.Record) parcel {
	l.under[r.LSN] = true
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
}
