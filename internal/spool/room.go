package spool

import (
	"errors"
	"path/filepath"
	"slices"
)

// ErrFull is an Append for which no room can be made within the bound.
var ErrFull = errors.New("the bound leaves no room")

// writable returns the segment of a class that takes a frame of need bytes, making
// one if necessary. The caller holds wmu.
func (s *Spool) writable(c Class, need int64) (*segment, error) {
	if seg := s.active[c]; seg != nil && seg.end+need <= seg.size-headerSize {
		return seg, nil
	}
	size := max(segmentSize, (need+2*headerSize+4095)/4096*4096)
	if err := s.makeRoom(size); err != nil {
		return nil, err
	}
	head := header{
		size: uint32(size), class: c, first: s.last + 1, base: s.base,
		epoch: s.epoch, fence: s.fence, before: s.total[c], stream: s.id,
	}
	content := make([]byte, size) // zero-filled: its blocks are there before a record counts on them
	copy(content, head.encode())
	copy(content[size-headerSize:], content[:headerSize])
	path := filepath.Join(s.dir, segmentName(c, head.first))
	if err := writeNew(s.fs, s.dir, path, content); err != nil {
		return nil, err
	}
	f, err := s.fs.open(path)
	if err != nil {
		return nil, err
	}
	seg := &segment{head: head, path: path, size: size, limit: maxLSN, f: f, loaded: true, end: headerSize}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retire(c)
	if l := s.logs[c]; len(l) > 0 && l[len(l)-1].head.first == head.first { // an empty one that the new file replaced
		s.forgetSegment(c, l[len(l)-1])
		s.bytes -= l[len(l)-1].size
	}
	s.logs[c] = append(s.logs[c], seg)
	s.active[c] = seg
	s.bytes += size
	return seg, nil
}

// retire ends the writing of the active segment of a class. The caller holds mu.
func (s *Spool) retire(c Class) {
	seg := s.active[c]
	if seg == nil {
		return
	}
	s.active[c] = nil
	if seg.left == 0 {
		s.emptied(seg)
	}
	s.keep(c, seg)
}

// forgetSegment takes a segment out of the state; its file is another matter. The
// caller holds mu.
func (s *Spool) forgetSegment(c Class, seg *segment) {
	same := func(g *segment) bool { return g == seg }
	s.logs[c] = slices.DeleteFunc(s.logs[c], same)
	s.cache[c] = slices.DeleteFunc(s.cache[c], same)
	if s.newest == seg {
		s.newest = nil
	}
	seg.drop()
}

// distrust is called after a failed write or sync: whether its bytes ever reach the
// disk is unknown, so nothing more is written there. A new epoch begins: what older
// segments hold from the next LSN on never counts. The caller holds wmu.
func (s *Spool) distrust() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.fence = s.last + 1
	for c := range numClasses {
		s.retire(c)
		for _, seg := range s.logs[c] {
			seg.limit = min(seg.limit, s.last)
		}
	}
}

// makeRoom evicts the oldest telemetry, or where there is none but that being
// written, the oldest events, until size bytes fit in the bound. The caller holds wmu.
func (s *Spool) makeRoom(size int64) error {
	if s.sizeWith(size) <= s.max {
		return nil
	}
	if err := s.upkeep(); err != nil { // what is acknowledged goes first
		return err
	}
	for s.sizeWith(size) > s.max {
		if err := s.evict(); err != nil {
			return err
		}
		if err := s.cover(); err != nil { // the gaps, what is settled, and the highest LSN
			return err
		}
		if err := s.bury(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spool) sizeWith(more int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes + more
}

// evict names the undelivered records of the oldest segment as a gap and dooms it.
func (s *Spool) evict() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range []Class{Telemetry, Event} {
		if len(s.logs[c]) == 0 || s.logs[c][0] == s.active[c] {
			continue
		}
		if err := s.load(c, 0); err != nil {
			return err
		}
		seg := s.logs[c][0]
		for _, e := range seg.idx {
			if !s.settled.has(e.lsn) {
				s.name(e.lsn, e.lsn, reasonEvicted)
			}
		}
		s.forgetSegment(c, seg)
		s.doomed = append(s.doomed, seg)
		return nil
	}
	return ErrFull
}

// bury removes the files of doomed segments. The gaps that name their records are
// durable. The caller holds wmu.
func (s *Spool) bury() error {
	for len(s.doomed) > 0 {
		seg := s.doomed[0]
		if err := s.fs.remove(seg.path); err != nil {
			return err
		}
		s.doomed = s.doomed[1:]
		s.mu.Lock()
		s.bytes -= seg.size
		s.mu.Unlock()
	}
	return s.fs.syncDir(s.dir)
}

// upkeep makes gaps and acknowledgements durable and removes segments of which
// nothing waits any more. The caller holds wmu.
func (s *Spool) upkeep() error {
	s.mu.Lock()
	gaps, acks := s.gapsDirty, s.unsaved > 0
	s.mu.Unlock()
	if gaps {
		if err := s.persistGaps(); err != nil {
			return err
		}
	}
	if acks {
		if err := s.persistAcks(false); err != nil {
			return err
		}
	}
	if !s.anyEmpty() && len(s.doomed) == 0 {
		return nil
	}
	if err := s.cover(); err != nil {
		return err
	}
	s.mu.Lock()
	for c := range numClasses {
		for i := len(s.logs[c]) - 1; i >= 0; i-- {
			seg := s.logs[c][i]
			if s.removable(c, seg) && s.covered(seg.zeroAt, s.reach(c, i).hi) {
				s.forgetSegment(c, seg)
				s.doomed = append(s.doomed, seg)
			}
		}
	}
	s.mu.Unlock()
	if len(s.doomed) == 0 {
		return nil
	}
	return s.bury()
}

// removable segments hold nothing to deliver, are not written to, and do not keep the
// highest LSN in use: whoever removes that could give it out again.
func (s *Spool) removable(c Class, seg *segment) bool {
	return seg.left == 0 && seg != s.active[c] && seg != s.newest
}

func (s *Spool) anyEmpty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range numClasses {
		for _, seg := range s.logs[c] {
			if s.removable(c, seg) {
				return true
			}
		}
	}
	return false
}
