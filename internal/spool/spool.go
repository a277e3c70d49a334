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
	ackBatch     = 64              // acknowledgements that make a write due at once
	ackInterval  = 5 * time.Second // and how long fewer of them may wait
	cachedIdx    = 2               // indexes kept per class, besides that being written
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
	// is 1 MiB. The files acks and gaps take another 576 KiB.
	MaxBytes int64
	Log      *slog.Logger // nil: no log

	fs fsys // nil: the operating system's
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
}

// Spool is the store. Its methods may be called from any goroutine.
type Spool struct {
	dir  string
	fs   fsys
	log  *slog.Logger
	max  int64
	base uint64 // LSN before the first of this stream
	id   string

	prevStream stream
	prevLast   uint64 // LSN

	changed chan struct{}
	kick    chan struct{} // wakes maintain
	stop    chan struct{}
	done    sync.WaitGroup
	unlock  release

	// wmu orders all writing: appends, segments, acks, gaps. It is held while
	// the disk syncs; readers and Ack do not take it. Taken before mu.
	wmu     sync.Mutex
	closed  bool // written under both mutexes
	acks    *slots
	gapFile *slots
	slotVer [2]int64  // version of settled in each slot of acks, -1 unknown
	slotCut [2]uint64 // LSN up to which the slot is complete
	epoch   uint64
	fence   uint64
	doomed  []*segment // evicted, to be removed once the gaps are durable
	wbuf    []byte
	failing bool // the last upkeep failed and was logged

	// mu guards the state below. It is never held while the disk writes or syncs.
	mu        sync.Mutex
	logs      [numClasses][]*segment // by first LSN
	active    [numClasses]*segment   // the one appended to, last of its log
	cache     [numClasses][]*segment // with an index in memory, newest use last
	total     [numClasses]uint64     // records of the class ever, for header.before
	newestLSN [numClasses]uint64
	newest    *segment // holds the record of the highest LSN
	last      uint64   // highest LSN used
	bytes     int64    // of segment files, the doomed included
	streams   []streamAt
	settled   spans
	blind     uint64 // up to here it is not known what was acknowledged
	version   int64  // of settled
	unsaved   int    // changes of settled since they were last written
	gaps      gapList
	gapsDirty bool
	evicted   uint64
	damaged   uint64
}

// Append stores a record: it is durable on return. On an error nothing was
// accepted, and the position is given to the next record. The payload holds
// 1 byte to 1 MiB, and at most a quarter of MaxBytes.
func (s *Spool) Append(c Class, payload []byte) (Record, error) {
	if c >= numClasses {
		return Record{}, fmt.Errorf("spool: append: unknown %v", c)
	}
	if n, most := int64(len(payload)), min(maxPayload, s.max/4); n == 0 || n > most {
		return Record{}, fmt.Errorf("spool: append a record of %d bytes: a record has 1 to %d", n, most)
	}
	if s.id == "" {
		return Record{}, fmt.Errorf("spool: append: %s was opened without a stream id, for reading only", s.dir)
	}
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.closed {
		return Record{}, ErrClosed
	}
	seg, err := s.writable(c, int64(frameHeader+len(payload)))
	if err != nil {
		return Record{}, wrap("append", s.dir, err)
	}
	lsn := s.last + 1 // last changes under wmu only
	s.wbuf = putFrame(s.wbuf[:0], seg.head.crc, lsn, payload)
	if _, err = seg.f.WriteAt(s.wbuf, seg.end); err == nil {
		err = seg.f.datasync()
	}
	if cap(s.wbuf) > segmentSize {
		s.wbuf = nil
	}
	if err != nil {
		s.distrust()
		return Record{}, wrap("append", s.dir, err)
	}
	s.accept(seg, lsn, len(payload))
	return Record{LSN: lsn, StreamID: s.id, Seq: lsn - s.base, Class: c, Payload: payload}, nil
}

// accept makes a durable record known.
func (s *Spool) accept(seg *segment, lsn uint64, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := seg.head.class
	seg.idx = append(seg.idx, entry{lsn, uint32(seg.end), uint32(n)})
	seg.end += int64(frameHeader + n)
	seg.left++
	s.total[c]++
	s.newestLSN[c] = lsn
	s.newest = seg
	s.last = lsn
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
		Evicted: s.evicted, Damaged: s.damaged,
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
	for i, seg := range s.logs[c] {
		if seg.left >= 0 {
			n += uint64(seg.left)
			continue
		}
		open := s.settled.without(s.reach(c, i)).count()
		if i+1 < len(s.logs[c]) {
			next, own := s.logs[c][i+1].head.before, seg.head.before
			open = min(open, next-min(next, own))
		}
		n += open
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

// maintain persists acknowledgements and gaps and removes what is not needed
// any more, when there is enough of it or some time has passed.
func (s *Spool) maintain() {
	timer := time.NewTimer(ackInterval)
	timer.Stop()
	armed := false
	for {
		select {
		case <-s.stop:
			timer.Stop()
			return
		case <-s.kick:
			s.mu.Lock()
			due := s.unsaved >= ackBatch
			s.mu.Unlock()
			if !due || s.failing {
				if !armed {
					timer.Reset(ackInterval)
					armed = true
				}
				continue
			}
		case <-timer.C:
			armed = false
		}
		s.wmu.Lock()
		err := s.upkeep()
		switch {
		case err == nil:
			s.failing = false
		case !s.failing:
			s.failing = true
			s.log.Warn("spool: upkeep failed, trying again", "dir", s.dir, "error", err)
		}
		s.wmu.Unlock()
		if err != nil && !armed {
			timer.Reset(ackInterval)
			armed = true
		}
	}
}

// Close makes acknowledgements and gaps durable and lets go of the directory,
// also when that fails. Closing again does nothing.
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
	return errors.Join(s.persistAcks(true), s.letGo())
}

// letGo closes every file and gives the lock back.
func (s *Spool) letGo() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range numClasses {
		for _, seg := range s.logs[c] {
			seg.drop()
		}
	}
	for _, sl := range []*slots{s.acks, s.gapFile} {
		if sl != nil {
			_ = sl.f.Close()
		}
	}
	return s.unlock()
}

func wrap(what, dir string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("spool: %s in %s: %w", what, dir, err)
}
