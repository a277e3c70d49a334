package spool

import (
	"encoding/binary"
	"slices"
	"sort"
	"time"
)

// segment is one segment file. Its fields but f and end are guarded by
// Spool.mu; f and end of the active one are changed under wmu and mu both.
type segment struct {
	head   header
	headed bool      // the header was read; before, class and first of it are known by the name
	bad    bool      // there is none: no record can be read
	failed time.Time // when it could not be read; zero: never
	path   string
	size   int64  // on disk
	limit  uint64 // no record with a higher LSN in here counts
	f      file   // open while the index is in memory
	b      []byte // its bytes, where they were read whole
	idx    []entry
	loaded bool
	left   int   // records not settled; -1 unknown
	zeroAt int64 // version of settled at which left became 0
	end    int64 // where the next frame goes
}

// drop lets go of the index and the file.
func (g *segment) drop() {
	if g.f != nil {
		_ = g.f.Close()
	}
	g.f, g.b, g.idx, g.loaded = nil, nil, nil, false
}

// find returns the index of the first entry with an LSN of at least lsn.
func (g *segment) find(lsn uint64) int {
	return sort.Search(len(g.idx), func(i int) bool { return g.idx[i].lsn >= lsn })
}

// reach is the range of LSNs for which segment i of a log is the place to
// look: from its first to the next segment's. The first also answers for what
// lay before it and was not acknowledged.
func (s *Spool) reach(c Class, i int) span {
	r := span{s.logs[c][i].head.first, s.durable}
	if i == 0 {
		r.lo = s.settled.absent(1)
	}
	if i+1 < len(s.logs[c]) {
		r.hi = s.logs[c][i+1].head.first - 1
	}
	return r
}

// load brings segment i into memory, names what is missing in its reach and sets aside what
// cannot be read. The caller holds mu.
func (s *Spool) load(c Class, i int) error {
	seg := s.logs[c][i]
	if !seg.loaded {
		f, b, idx, bad, err := s.scanFile(c, i)
		if err != nil {
			return err
		}
		seg.f, seg.b, seg.idx, seg.loaded = f, b, idx, true
		named := s.nameHoles(c, i)
		switch {
		case named && seg.bad:
			s.putAside(seg, [][2]int{{0, len(b)}}) // of a dead one nothing is left
		case named && len(bad) == 0 && int(seg.end) < len(b)-headerSize: // it was at the end, or all of it
			s.putAside(seg, [][2]int{{int(seg.end), len(b) - headerSize}})
		case named:
			s.putAside(seg, bad)
		}
		s.recount(seg)
	}
	if seg != s.active[c] {
		s.keep(c, seg)
	}
	return nil
}

func (s *Spool) recount(seg *segment) {
	seg.left = 0
	for _, e := range seg.idx {
		if !s.settled.has(e.lsn) {
			seg.left++
		}
	}
	if seg.left == 0 {
		s.emptied(seg)
	}
}

// lessLeft notes that one record less waits in seg.
func (s *Spool) lessLeft(seg *segment) {
	if seg.left--; seg.left == 0 {
		s.emptied(seg)
	}
}

// emptied notes that nothing in seg waits for delivery any more.
func (s *Spool) emptied(seg *segment) {
	seg.zeroAt = s.version
	s.wake()
}

// keep notes the use of seg's index, and lets go of the one not used longest.
func (s *Spool) keep(c Class, seg *segment) {
	l := slices.DeleteFunc(s.cache[c], func(g *segment) bool { return g == seg })
	l = append(l, seg)
	if len(l) > cachedIdx {
		l[0].drop()
		l = slices.Delete(l, 0, 1)
	}
	s.cache[c] = l
}

// nameHoles finds LSNs in the reach of segment i that are neither settled nor
// in either log: they were accepted and are gone.
func (s *Spool) nameHoles(c Class, i int) (named bool) {
	reach := s.reach(c, i)
	if s.opening { // the others are looked for when it is read
		reach.lo = max(reach.lo, s.known+1)
	}
	holes := without(s.settled.without(reach), s.logs[c][i].idx)
	other := numClasses - 1 - c
	for k := range s.logs[other] {
		if len(holes) == 0 {
			return false
		}
		seg := s.logs[other][k]
		if r := s.reach(other, k); r.hi < holes[0].lo || seg.head.first > holes[len(holes)-1].hi {
			continue
		}
		idx := seg.idx
		if !seg.loaded {
			f, _, scanned, _, err := s.scanFile(other, k)
			if err != nil { // it may have them: they are named, if need be, when it is read
				r := s.reach(other, k)
				holes = outside(holes, span{seg.head.first, r.hi})
				continue
			}
			if f != nil {
				_ = f.Close()
			}
			idx = scanned
		}
		holes = without(holes, idx)
	}
	for _, r := range holes {
		if r.lo <= s.blind {
			s.settle(r.lo, min(r.hi, s.blind))
			r.lo = s.blind + 1
		}
		if r.lo > r.hi {
			continue
		}
		s.log.Warn("spool: records are missing", "dir", s.dir, "first_lsn", r.lo, "last_lsn", r.hi)
		named = true
		if r.hi > s.known && r.lo <= s.base { // of a group that a crash cut into
			from := max(r.lo, s.known+1)
			s.name(from, min(r.hi, s.base), reasonCrash)
			if r.lo < from {
				s.name(r.lo, from-1, reasonDamaged)
			}
			r.lo = s.base + 1
		}
		if r.lo <= r.hi {
			s.name(r.lo, r.hi, reasonDamaged)
		}
	}
	return named
}

// outside takes a range out of sorted ranges.
func outside(ranges spans, r span) (out spans) {
	var cut spans
	cut.add(r.lo, r.hi)
	for _, one := range ranges {
		out = append(out, cut.without(one)...)
	}
	return out
}

// without takes the LSNs of idx out of the sorted ranges.
func without(ranges spans, idx []entry) spans {
	var out spans
	k := 0
	for _, r := range ranges {
		for k < len(idx) && idx[k].lsn < r.lo {
			k++
		}
		lo := r.lo
		for ; k < len(idx) && idx[k].lsn <= r.hi; k++ {
			if idx[k].lsn > lo {
				out = append(out, span{lo, idx[k].lsn - 1})
			}
			lo = idx[k].lsn + 1
		}
		if lo <= r.hi {
			out = append(out, span{lo, r.hi})
		}
	}
	return out
}

// Next returns the oldest record of the class after an LSN that is not acknowledged. Records
// that are damaged or missing on the way become gaps. Where the disk cannot be read, it returns
// the error together with the oldest record in memory, if there is one.
func (s *Spool) Next(c Class, after uint64) (Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Record{}, false, ErrClosed
	}
	if c >= numClasses || after >= s.newestLSN[c] {
		return Record{}, false, nil
	}
	r, ok, err := s.nextOnDisk(c, after)
	if !ok {
		r, ok = s.nextHeld(c, max(after, s.durable))
	}
	return r, ok, err
}

// nextOnDisk is Next without the records in memory. The caller holds mu.
func (s *Spool) nextOnDisk(c Class, after uint64) (Record, bool, error) {
	if len(s.logs[c]) == 0 || after >= s.diskLSN[c] {
		return Record{}, false, nil
	}
	for i := s.segmentOf(c, after+1); i < len(s.logs[c]); i++ {
		seg := s.logs[c][i]
		if seg.left == 0 || len(s.settled.without(s.reach(c, i))) == 0 {
			if seg.left != 0 {
				seg.left = 0
				s.emptied(seg)
			}
			continue
		}
		if err := s.load(c, i); err != nil {
			return Record{}, false, wrap("read", seg.path, err)
		}
		for k := seg.find(after + 1); k < len(seg.idx); {
			if lsn := seg.idx[k].lsn; s.settled.has(lsn) {
				k = seg.find(s.settled.absent(lsn))
				continue
			}
			r, ok, err := s.read(seg, k)
			if ok || err != nil {
				return r, ok, err
			}
			k++
		}
	}
	return Record{}, false, nil
}

// segmentOf returns the index of the segment in which lsn would be.
func (s *Spool) segmentOf(c Class, lsn uint64) int {
	i := sort.Search(len(s.logs[c]), func(i int) bool { return s.logs[c][i].head.first > lsn })
	return max(i-1, 0)
}

// read returns record k of a loaded segment. Where its bytes do not hold, it
// becomes a gap. The caller holds mu.
func (s *Spool) read(seg *segment, k int) (Record, bool, error) {
	e := seg.idx[k]
	record := func(frame []byte) (Record, bool, error) {
		return Record{
			LSN: e.lsn, StreamID: seg.head.stream, Seq: e.lsn - seg.head.base,
			Class: seg.head.class, Payload: frame[frameHeader:],
		}, true, nil
	}
	end := int(e.off + frameHeader + e.n)
	if seg.b != nil { // it held when it was indexed
		return record(seg.b[e.off:end:end])
	}
	b := make([]byte, frameHeader+e.n)
	_, err := seg.f.ReadAt(b, int64(e.off))
	le := binary.LittleEndian
	if err == nil && le.Uint32(b) == e.n && le.Uint64(b[8:]) == e.lsn && le.Uint32(b[4:]) == frameCRC(seg.head.crc, b) {
		return record(b)
	}
	if err != nil {
		// A bad sector is damage; a device that answers nothing is not.
		if _, herr := seg.f.ReadAt(b[:1], 0); herr != nil {
			return Record{}, false, wrap("read", seg.path, err)
		}
	}
	s.log.Warn("spool: record is damaged", "dir", s.dir, "lsn", e.lsn)
	s.keepPiece(seg.head.class, e.lsn, Damaged, b)
	s.name(e.lsn, e.lsn, reasonDamaged)
	s.lessLeft(seg)
	return Record{}, false, nil
}

// locate finds the segment and entry of an LSN; indexes in memory first. The
// caller holds mu.
func (s *Spool) locate(lsn uint64) (*segment, int, error) {
	for _, fromDisk := range []bool{false, true} {
		for c := range numClasses {
			if len(s.logs[c]) == 0 {
				continue
			}
			i := s.segmentOf(c, lsn)
			seg := s.logs[c][i]
			if seg.loaded == fromDisk {
				continue
			}
			if fromDisk {
				if err := s.load(c, i); err != nil {
					return nil, 0, err
				}
			}
			if k := seg.find(lsn); k < len(seg.idx) && seg.idx[k].lsn == lsn {
				return seg, k, nil
			}
		}
	}
	return nil, 0, nil
}

// Get returns one record that is not acknowledged.
func (s *Spool) Get(lsn uint64) (Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Record{}, false, ErrClosed
	}
	if lsn == 0 || lsn > s.last || s.settled.has(lsn) {
		return Record{}, false, nil
	}
	if i, ok := s.heldIndex(lsn); ok {
		return s.heldRecord(i), true, nil
	}
	seg, k, err := s.locate(lsn)
	if err != nil || seg == nil || s.settled.has(lsn) {
		return Record{}, false, wrap("read", s.dir, err)
	}
	return s.read(seg, k)
}

// Ack notes that a record is delivered. It is not offered again by this
// Spool; on disk it is put down within a minute, 1 s where there are many, or by Close,
// so that a crash can bring records back but never take one away.
func (s *Spool) Ack(lsn uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || lsn == 0 || lsn > s.last || s.settled.has(lsn) {
		return
	}
	if i, ok := s.heldIndex(lsn); ok {
		s.letHeld(i)
		s.settle(lsn, lsn)
		return
	}
	seg, _, err := s.locate(lsn)
	if s.settled.has(lsn) { // found damaged on the way
		return
	}
	s.settle(lsn, lsn)
	switch {
	case err != nil: // cannot be read: what is left in there is counted when it can be
		for c := range numClasses {
			if len(s.logs[c]) == 0 {
				continue
			}
			if g := s.logs[c][s.segmentOf(c, lsn)]; !g.loaded {
				g.left = -1
			}
		}
	case seg != nil:
		s.lessLeft(seg)
	}
}

// Newest returns the LSN of the newest record of a class, acknowledged or not.
func (s *Spool) Newest(c Class) (lsn uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c >= numClasses {
		return 0, false
	}
	return s.newestLSN[c], s.newestLSN[c] > 0
}
