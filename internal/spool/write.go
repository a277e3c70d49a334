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

// page is what a card is written by.
const page = 4096

var errNoRoom = errors.New("no room within the bound")

// placed is where a frame was written.
type placed struct {
	seg *segment
	entry
}

// write puts records on disk in order of LSN and returns how many are durable. They share a
// sync as far as they share a segment. The caller holds wmu.
func (s *Spool) write(group []held) (durable int, err error) {
	var written []placed
	commit := func() error {
		if err := s.sync(written); err != nil {
			return err
		}
		s.accept(written)
		durable += len(written)
		written = written[:0]
		return nil
	}
	for _, r := range group {
		frame := int64(frameHeader + len(r.payload))
		seg := s.active[r.class]
		if seg != nil && seg.end+frame > seg.size-headerSize {
			err := commit()
			if err == nil { // the next start has to look at what comes after this alone
				err = s.save(false)
			}
			if err != nil {
				return durable, err
			}
			s.retire(seg)
			seg = nil
		}
		if seg == nil {
			if seg, err = s.open(r.class, frame, r.lsn); err != nil {
				for _, p := range slices.Backward(written) { // not synced: the place is written again
					p.seg.end = int64(p.off)
				}
				return durable, err
			}
		}
		s.align(seg, frame)
		s.wbuf = putFrame(s.wbuf[:0], seg.head.crc, r.lsn, r.payload)
		_, err = seg.f.WriteAt(s.wbuf, seg.end)
		if cap(s.wbuf) > segmentSize {
			s.wbuf = nil
		}
		if err != nil {
			s.distrust()
			return durable, err
		}
		written = append(written, placed{seg, entry{r.lsn, uint32(seg.end), uint32(len(r.payload))}})
		seg.end += frame
	}
	return durable, commit()
}

// align moves the place of the next frame to a new page where fewer are written then: a card
// wears by pages. It costs space, and is done while nothing waits, for then the segment is
// soon spent. The gap is skipped like damage in which no record was.
func (s *Spool) align(seg *segment, frame int64) {
	pages := func(from int64) int64 { return (from+frame-1)/page - from/page }
	if at := (seg.end + page - 1) / page * page; pages(at) < pages(seg.end) && at+frame <= seg.size-headerSize && s.idle() {
		seg.end = at
	}
}

// idle says whether all before what is written now was delivered, or nearly.
func (s *Spool) idle() bool {
	const few = 8
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.durable-min(s.durable, s.settled.floor()) <= few
}

// sync makes what was written durable. A file whose name does not lead to it any more keeps
// nothing.
func (s *Spool) sync(written []placed) error {
	for c := range numClasses {
		if seg := s.active[c]; seg != nil && slices.ContainsFunc(written, func(p placed) bool { return p.seg == seg }) {
			err := seg.f.datasync()
			if err == nil {
				err = s.fs.stands(seg.path, seg.f)
			}
			if err != nil {
				s.distrust()
				return err
			}
		}
	}
	return nil
}

// accept makes durable records known.
func (s *Spool) accept(written []placed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range written {
		c := p.seg.head.class
		p.seg.idx = append(p.seg.idx, p.entry)
		if s.settled.has(p.lsn) { // delivered from memory meanwhile
			if p.seg.left == 0 {
				s.emptied(p.seg)
			}
		} else {
			p.seg.left++
		}
		s.total[c]++
		s.newestLSN[c] = max(s.newestLSN[c], p.lsn)
		s.diskLSN[c] = p.lsn
		s.newest = p.seg
		s.durable = p.lsn
		s.last = max(s.last, p.lsn)
		if i, ok := s.heldIndex(p.lsn); ok {
			s.letHeld(i)
		}
	}
	s.synced = time.Now()
}

// retire ends the writing into a segment that is full.
func (s *Spool) retire(g *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := g.head.class
	s.active[c] = nil
	if g.left == 0 {
		s.emptied(g)
	}
	s.keep(c, g)
}

// open returns a new segment for a frame of a class whose first record will be lsn. Its
// content and its name are durable on return: what is written into it later changes neither
// size nor place, so that a sync has no metadata to write.
func (s *Spool) open(c Class, frame int64, lsn uint64) (*segment, error) {
	size := max(s.segment, (frame+2*headerSize+page-1)/page*page)
	if len(s.spares) == 0 { // a spent segment costs less than a new one, and can be had on a full disk
		if _, err := s.reclaim(); err != nil {
			return nil, err
		}
	}
	if err := s.makeRoom(size); err != nil {
		return nil, err
	}
	g := &segment{
		head: header{
			size: uint32(size), class: c, first: lsn, base: s.base,
			epoch: s.epoch, fence: s.fence, before: s.total[c], stream: s.id,
		},
		path: filepath.Join(s.dir, segmentName(c, lsn)), size: size, limit: maxLSN, headed: true, loaded: true, end: headerSize,
	}
	made := s.create
	if size == s.segment && len(s.spares) > 0 {
		made = s.recycle
	}
	var err error
	if g.f, err = made(g); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs[c] = append(s.logs[c], g)
	s.active[c] = g
	return g, nil
}

// create writes a new file, full of zeros.
func (s *Spool) create(g *segment) (file, error) {
	// A try on a disk that stays full for days must not wear it.
	if free, err := s.fs.free(s.dir); err != nil {
		return nil, err
	} else if free < g.size {
		return nil, fmt.Errorf("%w: %d bytes are free, a segment takes %d", syscall.ENOSPC, free, g.size)
	}
	b := make([]byte, g.size)
	copy(b, g.head.encode())
	copy(b[g.size-headerSize:], b[:headerSize])
	f, err := writeNew(s.fs, s.dir, g.path, b)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.bytes += g.size
	s.mu.Unlock()
	return f, nil
}

// recycle makes a spent segment the new one. Its old frames stay where they are: their
// checksums do not hold under the new header, and until the file has its new name it is still
// spent, or of no use.
func (s *Spool) recycle(g *segment) (file, error) {
	old := s.spares[len(s.spares)-1]
	s.spares = s.spares[:len(s.spares)-1]
	f, err := s.fs.open(old.path)
	if err == nil {
		h := g.head.encode()
		if _, err = f.WriteAt(h, 0); err == nil {
			_, err = f.WriteAt(h, g.size-headerSize)
		}
		if err == nil {
			err = f.datasync()
		}
		if err == nil {
			err = s.fs.rename(old.path, g.path)
		}
		if err == nil {
			if err = s.fs.syncDir(s.dir); err == nil {
				return f, nil
			}
			old.path = g.path
		}
		_ = f.Close()
	}
	_ = s.unlink(old)
	return nil, err
}

// distrust follows a failed write or sync. What of it reaches the disk, and
// when, nobody knows; so nothing is appended to either active segment any
// more, and the fence of the new epoch says that from here on only its own
// segments count. The caller holds wmu.
func (s *Spool) distrust() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beginEpoch(s.epoch)
	for c := range numClasses {
		g := s.active[c]
		if g == nil {
			continue
		}
		s.active[c] = nil
		if len(g.idx) > 0 {
			s.keep(c, g)
			continue
		}
		s.detach(g) // nothing accepted in it; Open removes what stays
		s.bytes -= g.size
		_ = s.fs.remove(g.path)
	}
}

// beginEpoch begins an epoch later than the one given: segments of before count only up to
// what is durable now. The caller holds mu.
func (s *Spool) beginEpoch(after uint64) {
	s.epoch = max(s.epoch, after) + 1
	s.fence = s.durable + 1
	for c := range numClasses {
		for _, g := range s.logs[c] {
			g.limit = min(g.limit, s.durable)
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
		if len(s.spares) > 0 {
			if size == s.segment && s.bytes <= s.max {
				return nil
			}
			if err := s.removeSpare(); err != nil {
				return err
			}
			continue
		}
		freed, err := s.reclaim()
		if err != nil {
			return err
		}
		if freed {
			continue
		}
		g := s.victim()
		if g == nil {
			return fmt.Errorf("%w: a segment of %d bytes, a bound of %d: give the buffer more", errNoRoom, size, s.max)
		}
		if err := s.evict(g); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spool) removeSpare() error {
	g := s.spares[len(s.spares)-1]
	if err := s.unlink(g); err != nil {
		return err
	}
	s.spares = s.spares[:len(s.spares)-1]
	return nil
}

// victim is the segment to give up next. The one with the newest record stays.
func (s *Spool) victim() *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range numClasses {
		for _, g := range s.logs[c] {
			if dying := !g.failed.IsZero() && !g.bad; g != s.active[c] && g != s.newest && !dying {
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
		if err := s.saveGaps(); err != nil {
			return err
		}
	}
	if err := s.cover(); err != nil {
		return err
	}
	for len(s.doomed) > 0 {
		if err := s.spend(s.doomed[0]); err != nil {
			return err
		}
		s.doomed = s.doomed[1:]
	}
	return nil
}

// spend keeps a segment that is not needed any more for the next one, or removes it.
func (s *Spool) spend(g *segment) error {
	if g.size == s.segment && len(s.spares) < maxSpares {
		s.spares = append(s.spares, g)
		return nil
	}
	return s.unlink(g)
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

// reclaim spends the segments in which nothing waits for delivery, after
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
		if err := s.spend(g.segment); err != nil {
			s.doomed = append(s.doomed, g.segment)
			return freed, err
		}
		freed = true
	}
	return freed, nil
}

// upkeep gives up what is too old, makes what changed in memory durable and removes spent
// segments. The caller holds wmu.
func (s *Spool) upkeep() error {
	s.setAside()
	s.giveUpOld()
	if _, err := s.reclaim(); err != nil {
		return wrap("remove delivered records", s.dir, err)
	}
	if s.owed() {
		return s.save(false)
	}
	return nil
}
