package spool

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Class is the kind of a record. Each has its own log; when the bound is
// reached, telemetry goes before events.
type Class uint8

// The classes.
const (
	Telemetry Class = iota
	Event
	numClasses
)

func (c Class) String() string {
	switch c {
	case Telemetry:
		return "telemetry"
	case Event:
		return "event"
	}
	return fmt.Sprintf("class %d", uint8(c))
}

const (
	minBytes     = 1 << 20
	defaultBytes = 256_000_000
	cachedIdx    = 2 // segments kept in memory per class, besides that being written
	maxSpares    = 2 // spent segments kept to be written anew

	// Acknowledgements are put down with an append when the last time is saveWithAppend ago,
	// after saveLatest in any case, and after saveSoonest when there are saveMany of them.
	saveWithAppend = 50 * time.Second
	saveLatest     = time.Minute
	saveSoonest    = time.Second
	saveMany       = 64
	// deadAfter is how long a segment cannot be read until it is given up.
	deadAfter = time.Minute
	// ageEvery is how often records are looked at that may be too old.
	ageEvery = time.Minute
)

// ErrClosed is returned by the methods of a closed Spool.
var ErrClosed = errors.New("spool: closed")

// FormatError is returned by [Open] when the directory was written in a
// format that this version does not know. Nothing in it was touched.
type FormatError struct {
	Dir   string
	Found string // the version found, or the text in its place
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("spool: %s has format %s, this version knows format %d: run the version that wrote it, "+
		"or move the directory away to start an empty one (its unsent records stay in it)", e.Dir, e.Found, formatVersion)
}

// Options of [Open].
type Options struct {
	// StreamID is the identity of the records appended from now on: 1 to 64
	// bytes, never used before. Empty: for reading and acknowledging only.
	StreamID string
	// MaxBytes bounds the segment files together; 0 means 256 MB, the least
	// is 1 MiB. The files acks and gaps take another 576 KiB, what is set aside 2 MiB.
	MaxBytes int64
	Log      *slog.Logger // nil: no log

	fs      fsys  // nil: the operating system's
	segment int64 // size of a segment; 0: segmentSize
}

// Record is one record and its position. Seq counts from 1 without a hole
// over both classes of a stream.
type Record struct {
	LSN      uint64
	StreamID string
	Seq      uint64
	Class    Class
	Payload  []byte
}

// Entry is what is appended: its payload holds 1 byte to 1 MiB, at most a quarter of MaxBytes,
// and must not change afterwards.
type Entry struct {
	Class   Class
	Payload []byte
}

// Stats is a picture of the spool at one moment.
type Stats struct {
	Records          uint64 // not acknowledged, both classes
	Bytes            int64  // of segment files on disk
	Limit            int64  // of Bytes
	OldestUnackedLSN uint64 // 0: all acknowledged
	LastSeq          uint64 // of this stream, 0: no record yet
	OldestUnackedSeq uint64 // of this stream, 0: none
	// Exact for segments read or written since Open; for those of earlier
	// runs that were acknowledged in part, an upper bound until they are read.
	UnackedTelemetry uint64
	UnackedEvents    uint64
	Evicted          uint64 // records given up for the bound, since Open
	Damaged          uint64 // records found damaged or missing, since Open
	Held             int    // records in memory alone, for the disk does not take them
	HeldBytes        int    // of them
	Aside            int    // damaged or refused pieces set aside
}

// Spool is the store. Its methods may be called from any goroutine.
type Spool struct {
	dir     string
	fs      fsys
	log     *slog.Logger
	max     int64
	segment int64
	base    uint64 // LSN before the first of this stream
	id      string

	prevStream stream
	prevLast   uint64 // LSN

	changed chan struct{}
	kick    chan struct{} // wakes maintain
	stop    chan struct{}
	done    sync.WaitGroup

	// wmu orders all writing: appends, segments, acks, gaps. It is held while
	// the disk syncs; readers and Ack do not take it. Taken before mu.
	wmu     sync.Mutex
	closed  bool // written under both mutexes
	lock    lock
	acks    *slots
	gapFile *slots
	slotVer [2]int64  // version of settled in each slot of acks, -1 unknown
	slotCut [2]uint64 // LSN up to which the slot is complete
	epoch   uint64
	fence   uint64
	doomed  []*segment // evicted, to be removed once the gaps are durable
	spares  []*segment // spent, to be written anew
	wbuf    []byte
	saved   time.Time // when acknowledgements were last put down

	// mu guards the state below. It is never held while the disk writes or syncs.
	mu        sync.Mutex
	logs      [numClasses][]*segment // by first LSN
	active    [numClasses]*segment   // the one appended to, last of its log
	cache     [numClasses][]*segment // in memory, newest use last
	total     [numClasses]uint64     // records of the class ever, for header.before
	newestLSN [numClasses]uint64
	diskLSN   [numClasses]uint64 // newest on disk
	newest    *segment           // holds the record of the highest LSN on disk
	last      uint64             // highest LSN used
	durable   uint64             // beyond it there are held records alone
	held      []held             // by LSN
	heldBytes int
	trouble   *Trouble      // why the disk does not take records; nil: it does
	retry     time.Duration // how long to wait until it is tried again
	bytes     int64         // of segment files, spares and doomed included
	streams   []streamAt
	settled   spans
	blind     uint64    // up to here it is not known what was acknowledged
	opening   bool      // Open looks around
	synced    time.Time // when the disk took records last
	shaky     bool      // what was found at the start could not be synced
	known     uint64    // LSN up to which the run before knew its records to be on disk
	version   int64     // of settled
	unsaved   int       // changes of settled since they were last written
	gaps      gapList
	gapsDirty bool
	evicted   uint64
	damaged   uint64
	expired   func(payload []byte) bool // nil: no record is too old
	aged      time.Time                 // when the oldest records were last looked at; zero: there are more
	pieces    []piece                   // to be set aside
	aside     int                       // files set aside
}

// Append stores a record: it is durable on return or, while the disk fails, in memory; see
// [Spool.Trouble]. An error is a mistake of the caller, and nothing was accepted.
func (s *Spool) Append(c Class, payload []byte) (Record, error) {
	all, err := s.AppendAll([]Entry{{c, payload}})
	if err != nil {
		return Record{}, err
	}
	return all[0], nil
}

// AppendAll stores records in the same way; they share a sync.
func (s *Spool) AppendAll(entries []Entry) ([]Record, error) {
	if s.id == "" {
		return nil, fmt.Errorf("spool: append: %s was opened without a stream id, for reading only", s.dir)
	}
	for _, e := range entries {
		if e.Class >= numClasses {
			return nil, fmt.Errorf("spool: append: unknown %v", e.Class)
		}
		if n, most := int64(len(e.Payload)), min(maxPayload, s.max/4); n == 0 || n > most {
			return nil, fmt.Errorf("spool: append a record of %d bytes: a record has 1 to %d", n, most)
		}
	}
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	records := make([]Record, len(entries))
	group := make([]held, len(entries))
	for i, e := range entries {
		lsn := s.last + 1 + uint64(i) // last changes under wmu only
		group[i] = held{lsn, e.Class, e.Payload}
		records[i] = Record{LSN: lsn, StreamID: s.id, Seq: lsn - s.base, Class: e.Class, Payload: e.Payload}
	}
	if s.trouble == nil {
		n, err := s.write(group)
		if err == nil {
			err = s.saveAlong()
		}
		if err != nil {
			s.fail(err)
		}
		group = group[n:]
	}
	s.hold(group)
	s.signal()
	return records, nil
}

// saveAlong puts acknowledgements down when some time has passed: just after an append it
// costs least.
func (s *Spool) saveAlong() error {
	if time.Since(s.saved) < saveWithAppend || !s.owed() {
		return nil
	}
	return s.save(false)
}

// owed says whether something changed in memory that is to be durable.
func (s *Spool) owed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unsaved > 0 || s.gapsDirty
}

func (s *Spool) signal() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Changed is signalled after an Append. It holds one signal: who receives it
// reads on until Next finds nothing.
func (s *Spool) Changed() <-chan struct{} { return s.changed }

// Previous returns the stream before this one that has at least one record,
// and the seq of its last. It is not ok for the first stream of a spool.
func (s *Spool) Previous() (streamID string, lastSeq uint64, ok bool) {
	if s.prevStream.id == "" {
		return "", 0, false
	}
	return s.prevStream.id, s.prevLast - s.prevStream.base, true
}

// Stats returns figures for health and metrics. It does not touch the disk.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{
		Bytes: s.bytes, Limit: s.max, LastSeq: s.last - s.base,
		UnackedTelemetry: s.unacked(Telemetry), UnackedEvents: s.unacked(Event),
		Evicted: s.evicted, Damaged: s.damaged, Held: len(s.held), HeldBytes: s.heldBytes, Aside: s.aside,
	}
	st.Records = st.UnackedTelemetry + st.UnackedEvents
	if lsn := s.settled.absent(1); lsn <= s.last {
		st.OldestUnackedLSN = lsn
	}
	if lsn := s.settled.absent(s.base + 1); lsn <= s.last {
		st.OldestUnackedSeq = lsn - s.base
	}
	return st
}

func (s *Spool) unacked(c Class) (n uint64) {
	for _, r := range s.held {
		if r.class == c {
			n++
		}
	}
	log := s.logs[c]
	for i := 0; i < len(log); {
		g := log[i]
		if g.left >= 0 {
			n += uint64(g.left)
			i++
			continue
		}
		j := i + 1 // segments of which nothing is known are counted together
		for j < len(log) && log[j].left < 0 && !log[j].headed {
			j++
		}
		open := s.settled.without(span{s.reach(c, i).lo, s.reach(c, j-1).hi}).count()
		before := s.total[c]
		if j < len(log) {
			before = log[j].head.before
		}
		if g.headed && !g.bad && (j == len(log) || !log[j].bad) {
			open = min(open, before-min(before, g.head.before))
		}
		n += open
		i = j
	}
	return n
}

// wake asks for upkeep soon.
func (s *Spool) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// maintain does the upkeep when it is due.
func (s *Spool) maintain() {
	timer := time.NewTimer(0)
	timer.Stop()
	var at time.Time // when it fires; zero: it does not
	arm := func() {
		due, any := s.due()
		if next := time.Now().Add(due); any && (at.IsZero() || next.Before(at)) {
			at = next
			timer.Reset(due)
		}
	}
	arm()
	for {
		select {
		case <-s.stop:
			timer.Stop()
			return
		case <-s.kick:
		case <-timer.C:
			at = time.Time{}
			s.wmu.Lock()
			s.tend()
			s.wmu.Unlock()
		}
		arm()
	}
}

// due is how long upkeep may wait; not any when there is none to do.
func (s *Spool) due() (wait time.Duration, any bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.trouble != nil:
		return s.retry, true
	case len(s.pieces) > 0, s.unsaved >= saveMany, s.expired != nil && s.aged.IsZero():
		return saveSoonest, true
	case s.unsaved > 0 || s.gapsDirty:
		return saveLatest, true
	}
	return ageEvery, s.expired != nil
}

// tend is one upkeep, or one more try where the disk fails. The caller holds wmu.
func (s *Spool) tend() {
	err := error(nil)
	if s.trouble != nil {
		err = s.restore()
	}
	if err == nil {
		err = s.upkeep()
	}
	if err != nil {
		s.fail(err)
	}
}

// Close makes durable what is in memory and lets go of the directory, also when that fails.
// Closing again does nothing.
func (s *Spool) Close() error {
	s.wmu.Lock()
	if s.closed {
		s.wmu.Unlock()
		return nil
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.wmu.Unlock()
	close(s.stop)
	s.done.Wait()
	s.wmu.Lock()
	defer s.wmu.Unlock()
	err := error(nil)
	if s.trouble != nil {
		err = s.restore()
		for len(s.held) > 0 && s.trouble != nil && s.trouble.State == Full && s.rotate() == nil { // what is newest is worth more
			err = nil
		}
	}
	if n := len(s.held); n > 0 {
		err = fmt.Errorf("%d records were in memory alone and are lost: %w", n, err)
	}
	s.setAside()
	return errors.Join(err, s.save(len(s.held) == 0), s.letGo())
}

// letGo closes every file and gives the lock back.
func (s *Spool) letGo() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
	return s.lock.release()
}

// close closes every file. The caller holds mu.
func (s *Spool) close() {
	for c := range numClasses {
		for _, seg := range s.logs[c] {
			seg.drop()
		}
	}
	for _, sl := range []*slots{s.acks, s.gapFile} {
		if sl != nil {
			sl.close()
		}
	}
}

func wrap(what, dir string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("spool: %s in %s: %w", what, dir, err)
}
