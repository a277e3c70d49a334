package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// A disk that fails is no reason to stop: what cannot be written is kept in memory, offered
// from there, and written when the disk is back.

const (
	// maxHeld bounds the bytes of records that are in memory alone.
	maxHeld = 4 << 20
	// The disk is tried again after firstTry, then twice as long each time up to lastTry.
	firstTry = time.Second
	lastTry  = 30 * time.Second
)

// State names what is wrong with the disk.
type State string

// The states.
const (
	Full     State = "full"      // no space, or the quota is used up
	ReadOnly State = "read_only" // the file system is, often after an error
	Gone     State = "gone"      // the directory or its device is not there any more
	Denied   State = "denied"    // no permission
	Failing  State = "failing"   // input/output error, and all else
)

// Trouble is why records are in memory alone. It ends by itself when the disk is back.
type Trouble struct {
	State State
	Err   error
	Since time.Time
}

func stateOf(err error) State {
	is := func(all ...error) bool {
		return slices.ContainsFunc(all, func(e error) bool { return errors.Is(err, e) })
	}
	switch {
	case is(syscall.ENOSPC, syscall.EDQUOT, errNoRoom):
		return Full
	case is(syscall.EROFS):
		return ReadOnly
	case is(fs.ErrNotExist, syscall.ENOTDIR, syscall.ESTALE, syscall.ENODEV, syscall.ENXIO):
		return Gone
	case is(fs.ErrPermission):
		return Denied
	}
	return Failing
}

// held is a record that was accepted and is not on disk.
type held struct {
	lsn     uint64
	class   Class
	payload []byte
}

// Trouble returns what is wrong with the disk; it is not ok while all is well.
func (s *Spool) Trouble() (t Trouble, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trouble == nil {
		return Trouble{}, false
	}
	return *s.trouble, true
}

// fail notes that the disk does not take records. The caller holds wmu.
func (s *Spool) fail(err error) {
	state := stateOf(err)
	s.mu.Lock()
	if s.trouble == nil {
		s.trouble = &Trouble{Since: time.Now()}
		s.retry = firstTry
	}
	known := s.trouble.State == state
	s.trouble.State, s.trouble.Err = state, err
	s.mu.Unlock()
	if !known {
		s.log.Warn("spool: the disk does not take records, they are kept in memory", "dir", s.dir, "state", string(state), "error", err)
	}
	s.wake()
}

// hold keeps records in memory. Beyond the bound the oldest telemetry goes first: on a full
// disk that is what lies there, and its place is written anew; else what is in memory. The
// caller holds wmu.
func (s *Spool) hold(group []held) {
	s.mu.Lock()
	for _, r := range group {
		s.held = append(s.held, r)
		s.heldBytes += len(r.payload)
		s.last = r.lsn
		s.newestLSN[r.class] = r.lsn
	}
	s.mu.Unlock()
	for s.heldTooMuch() {
		if s.trouble.State == Full {
			err := s.rotate()
			if err == nil {
				continue
			}
			if !errors.Is(err, errNoRoom) {
				s.fail(err) // more than full
			}
		}
		s.dropHeld()
	}
}

func (s *Spool) heldTooMuch() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heldBytes > maxHeld
}

// rotate gives up the oldest segment on disk and writes the oldest held records in its place.
func (s *Spool) rotate() error {
	g := s.victim()
	if g == nil || g.head.class == Event && s.holdsTelemetry() {
		return errNoRoom
	}
	if err := s.save(false); err != nil { // nothing is given up on a disk that takes nothing
		return err
	}
	before := s.durable
	if err := s.evict(g); err != nil {
		return err
	}
	if err := s.writeHeld(); s.durable == before {
		return err
	}
	return nil
}

func (s *Spool) holdsTelemetry() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.held, func(r held) bool { return r.class == Telemetry })
}

// dropHeld gives up the oldest telemetry in memory, or event when there is none.
func (s *Spool) dropHeld() {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := max(slices.IndexFunc(s.held, func(r held) bool { return r.class == Telemetry }), 0)
	lsn := s.held[i].lsn
	s.letHeld(i)
	s.name(lsn, lsn, reasonEvicted)
}

// letHeld takes record i out of memory. The caller holds mu.
func (s *Spool) letHeld(i int) {
	s.heldBytes -= len(s.held[i].payload)
	s.held[i].payload = nil
	s.held = slices.Delete(s.held, i, i+1)
	if len(s.held) == 0 {
		s.held = nil
	}
}

// heldAt returns the index of the first held record with an LSN of at least lsn. The caller
// holds mu.
func (s *Spool) heldAt(lsn uint64) int {
	i, _ := slices.BinarySearchFunc(s.held, lsn, func(r held, lsn uint64) int {
		if r.lsn < lsn {
			return -1
		}
		return 1
	})
	return i
}

// heldIndex returns the index of the held record of an LSN. The caller holds mu.
func (s *Spool) heldIndex(lsn uint64) (i int, ok bool) {
	i = s.heldAt(lsn)
	return i, i < len(s.held) && s.held[i].lsn == lsn
}

// heldRecord is held record i as it is offered. The caller holds mu.
func (s *Spool) heldRecord(i int) Record {
	r := s.held[i]
	return Record{LSN: r.lsn, StreamID: s.id, Seq: r.lsn - s.base, Class: r.class, Payload: r.payload}
}

// nextHeld returns the oldest held record of the class after an LSN. The caller holds mu.
func (s *Spool) nextHeld(c Class, after uint64) (Record, bool) {
	for i := s.heldAt(after + 1); i < len(s.held); i++ {
		if s.held[i].class == c {
			return s.heldRecord(i), true
		}
	}
	return Record{}, false
}

// writeHeld writes what is in memory, oldest first. The caller holds wmu.
func (s *Spool) writeHeld() error {
	s.mu.Lock()
	group := slices.Clone(s.held)
	s.mu.Unlock()
	_, err := s.write(group)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.held) == 0 {
		s.durable = s.last
	}
	return err
}

// restore tries the disk again: what was delivered from memory is put down first, so that it
// does not look lost when newer records are there. The caller holds wmu.
func (s *Spool) restore() error {
	err := s.lock.stands()
	if err != nil {
		err = s.reattach()
	}
	if err == nil {
		err = s.checkFormat()
	}
	if err == nil {
		err = s.cover()
	}
	if err == nil {
		_, err = s.reclaim()
	}
	if err == nil {
		err = s.writeHeld()
	}
	if err == nil {
		err = s.probe()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.retry = min(2*s.retry, lastTry)
		return err
	}
	s.log.Info("spool: the disk takes records again", "dir", s.dir, "after", time.Since(s.trouble.Since).Round(time.Second))
	s.trouble = nil
	s.signal()
	return nil
}

// probe finds out whether the disk takes records when none waits: it makes the segment of
// the next one.
func (s *Spool) probe() error {
	if s.active[Telemetry] != nil {
		return s.save(false)
	}
	_, err := s.open(Telemetry, frameHeader+1, s.last+1)
	return err
}

// ForeignError says that the directory came back with records of somebody else.
type ForeignError struct{ Dir string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("spool: %s was away and holds the records of another run now: restart to use it", e.Dir)
}

// reattach takes a directory that was away, or is another one now, as a start would, and goes
// on with this stream. What was on disk and is not there any more is named. The caller holds
// wmu.
func (s *Spool) reattach() error {
	n := &Spool{dir: s.dir, fs: s.fs, log: s.log, max: s.max, segment: s.segment, slotVer: [2]int64{-1, -1}}
	if err := n.take(); err != nil {
		return err
	}
	_, _, err := n.look()
	if err == nil && n.trouble != nil {
		err = n.trouble.Err
	}
	if err == nil && n.last > 0 {
		theirs, _ := n.streamOf(n.last)
		if ours, _ := s.streamOf(n.last); n.last > s.last || theirs != ours {
			err = &ForeignError{s.dir}
		}
	}
	if err != nil {
		_ = n.letGo()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
	_ = s.lock.release()
	s.lock, s.acks, s.gapFile, s.logs, s.bytes = n.lock, n.acks, n.gapFile, n.logs, n.bytes
	s.active, s.cache, s.spares, s.doomed = [numClasses]*segment{}, [numClasses][]*segment{}, nil, nil
	s.newest, s.diskLSN = n.newest, n.diskLSN
	s.slotVer, s.gapsDirty = [2]int64{-1, -1}, true
	s.beginEpoch(n.epoch)
	for _, r := range n.settled {
		s.settled.add(r.lo, r.hi)
	}
	s.version++
	for _, st := range n.streams {
		s.addStream(st)
	}
	if len(s.logs[Telemetry])+len(s.logs[Event]) == 0 { // nothing is there that reading could miss
		for _, r := range s.settled.without(span{1, s.durable}) {
			s.name(r.lo, r.hi, reasonDamaged)
		}
	}
	return nil
}

// lockPath is the file that tells a second daemon to keep off.
func (s *Spool) lockPath() string { return filepath.Join(s.dir, "lock") }
