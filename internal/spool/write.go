package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
)

// writable returns the segment that takes the next frame of a class, a new
// one when there is none or it is full. The caller holds wmu.
func (s *Spool) writable(c Class, frame int64) (*segment, error) {
	if g := s.active[c]; g != nil {
		if g.end+frame <= g.size-headerSize {
			return g, nil
		}
		s.mu.Lock()
		s.active[c] = nil
		s.keep(c, g)
		s.mu.Unlock()
	}
	const block = 4096
	size := max(segmentSize, (frame+2*headerSize+block-1)/block*block)
	if err := s.makeRoom(size); err != nil {
		return nil, err
	}
	return s.create(c, size)
}

// create makes a segment whose first record will be the next. Its content,
// zeros and header, and its name are durable on return: what is written into
// it later changes neither size nor place, so that fdatasync has no metadata
// to write.
func (s *Spool) create(c Class, size int64) (*segment, error) {
	h := header{
		size: uint32(size), class: c, first: s.last + 1, base: s.base,
		epoch: s.epoch, fence: s.fence, before: s.total[c], stream: s.id,
	}
	b := make([]byte, size)
	copy(b, h.encode())
	copy(b[size-headerSize:], b[:headerSize])
	path := filepath.Join(s.dir, segmentName(c, h.first))
	if err := writeNew(s.fs, s.dir, path, b); err != nil {
		return nil, err
	}
	f, err := s.fs.open(path)
	if err != nil {
		return nil, err
	}
	g := &segment{head: h, path: path, size: size, limit: maxLSN, f: f, loaded: true, end: headerSize}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs[c] = append(s.logs[c], g)
	s.active[c] = g
	s.bytes += size
	return g, nil
}

// distrust follows a failed write or sync. What of it reaches the disk, and
// when, nobody knows; so nothing is appended to either active segment any
// more, and the fence of the new epoch says that from here on only its own
// segments count. The caller holds wmu.
func (s *Spool) distrust() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.fence = s.last + 1
	for c := range numClasses {
		g := s.active[c]
		if g == nil {
			continue
		}
		s.active[c] = nil
		g.drop()
		if g.end == headerSize { // nothing accepted in it; Open removes what stays
			s.detach(g)
			s.bytes -= g.size
			_ = s.fs.remove(g.path)
		}
	}
	for c := range numClasses {
		for _, g := range s.logs[c] {
			g.limit = min(g.limit, s.last)
		}
	}
}

// detach takes a segment out of its log. The caller holds mu.
func (s *Spool) detach(g *segment) {
	c := g.head.class
	g.drop()
	same := func(o *segment) bool { return o == g }
	s.logs[c] = slices.DeleteFunc(s.logs[c], same)
	s.cache[c] = slices.DeleteFunc(s.cache[c], same)
}

// makeRoom removes segments until another of the given size fits the bound:
// those with nothing to deliver, then the oldest telemetry, then the oldest
// events. The caller holds wmu.
func (s *Spool) makeRoom(size int64) error {
	if err := s.finish(); err != nil {
		return err
	}
	for s.bytes+size > s.max {
		freed, err := s.reclaim()
		if err != nil {
			return err
		}
		if freed {
			continue
		}
		g := s.victim()
		if g == nil {
			return fmt.Errorf("no room for a segment of %d bytes within %d: give the buffer more", size, s.max)
		}
		if err := s.evict(g); err != nil {
			return err
		}
	}
	return nil
}

// victim is the segment to give up next. The one with the newest record stays.
func (s *Spool) victim() *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range numClasses {
		for _, g := range s.logs[c] {
			if g != s.active[c] && g != s.newest {
				return g
			}
		}
	}
	return nil
}

// evict gives up a segment and names what in it was not delivered. The names
// are durable before the file goes.
func (s *Spool) evict(g *segment) error {
	s.mu.Lock()
	if err := s.load(g.head.class, slices.Index(s.logs[g.head.class], g)); err != nil {
		s.mu.Unlock()
		return err
	}
	var lost spans
	for _, e := range g.idx {
		if !s.settled.has(e.lsn) {
			lost.add(e.lsn, e.lsn)
		}
	}
	for _, r := range lost {
		s.name(r.lo, r.hi, reasonEvicted)
	}
	s.detach(g)
	s.doomed = append(s.doomed, g)
	s.mu.Unlock()
	s.log.Warn("spool: bound reached, oldest records given up", "dir", s.dir,
		"class", g.head.class, "stream_id", g.head.stream, "records", lost.count())
	return s.finish()
}

// finish removes evicted segments once the gaps that name their records are
// durable, and the acknowledgements too: a record that was delivered lately
// must not look missing when its file is gone.
func (s *Spool) finish() error {
	if len(s.doomed) == 0 {
		return nil
	}
	s.mu.Lock()
	dirty := s.gapsDirty
	s.mu.Unlock()
	if dirty {
		if err := s.persistGaps(); err != nil {
			return err
		}
	}
	if err := s.cover(); err != nil {
		return err
	}
	for len(s.doomed) > 0 {
		if err := s.unlink(s.doomed[0]); err != nil {
			return err
		}
		s.doomed = s.doomed[1:]
	}
	return nil
}

func (s *Spool) unlink(g *segment) error {
	if err := s.fs.remove(g.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.mu.Lock()
	s.bytes -= g.size
	s.mu.Unlock()
	return nil
}

// reclaim removes the segments in which nothing waits for delivery, after
// both slots of the file acks say so. It keeps the last of each log and the
// one with the newest record, and with it the counter of LSNs and the name
// of its stream. The caller holds wmu.
func (s *Spool) reclaim() (freed bool, err error) {
	if err := s.finish(); err != nil {
		return false, err
	}
	type spent struct {
		*segment
		hi uint64
	}
	var found []spent
	s.mu.Lock()
	for c := range numClasses {
		for i := range len(s.logs[c]) - 1 {
			g := s.logs[c][i]
			r := span{g.head.first, s.reach(c, i).hi}
			if g.left != 0 && len(s.settled.without(r)) == 0 {
				g.left, g.zeroAt = 0, s.version
			}
			if g.left == 0 && g != s.active[c] && g != s.newest {
				found = append(found, spent{g, r.hi})
			}
		}
	}
	s.mu.Unlock()
	if len(found) == 0 {
		return false, nil
	}
	if err := s.cover(); err != nil {
		return false, err
	}
	for _, g := range found {
		if !s.covered(g.zeroAt, g.hi) {
			continue
		}
		s.mu.Lock()
		s.detach(g.segment)
		s.mu.Unlock()
		if err := s.unlink(g.segment); err != nil {
			s.doomed = append(s.doomed, g.segment)
			return freed, err
		}
		freed = true
	}
	return freed, nil
}

// upkeep makes what changed in memory durable and removes spent segments.
// The caller holds wmu.
func (s *Spool) upkeep() error {
	if _, err := s.reclaim(); err != nil {
		return wrap("remove delivered records", s.dir, err)
	}
	s.mu.Lock()
	due := s.unsaved > 0 || s.gapsDirty
	s.mu.Unlock()
	if due {
		return s.persistAcks(false)
	}
	return nil
}
