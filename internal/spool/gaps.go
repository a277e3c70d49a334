package spool

import (
	"encoding/binary"
	"slices"
)

const (
	gapName  = "gaps"
	gapMagic = "tlmd.gap"
	gapRoom  = 256 << 10 // bytes per slot: maxGaps entries, each of its own stream
	maxGaps  = 2048
)

// Reasons of a [Gap].
const (
	Evicted     = "evicted"       // to keep the bound
	Damaged     = "damaged"       // the bytes on disk are not those that were written
	LostInCrash = "lost_in_crash" // synced, yet not there after an unclean end
)

var reasons = [...]string{Evicted, Damaged, LostInCrash}

// Gap names records of one stream that were accepted and will never be
// delivered: FirstSeq to LastSeq, both included.
type Gap struct {
	StreamID string
	FirstSeq uint64
	LastSeq  uint64
	Reason   string
}

// stream is an identity and the LSN before its first record.
type stream struct {
	id   string
	base uint64
}

// gap is a Gap as it is kept: in LSNs.
type gap struct {
	span
	stream stream
	reason uint8
	// wide: the list was full and this entry names too much: what lies in it
	// may have been delivered, or may still be.
	wide bool
}

// gapList is sorted by LSN, its neighbours merged.
type gapList []gap

func (l *gapList) add(g gap) {
	i, _ := slices.BinarySearchFunc(*l, g.lo, func(e gap, lo uint64) int {
		if e.lo < lo {
			return -1
		}
		return 1
	})
	*l = slices.Insert(*l, i, g)
	for _, k := range []int{i, i - 1} { // with the one after, with the one before
		if k >= 0 && k+1 < len(*l) && (*l)[k].joins((*l)[k+1]) {
			l.merge(k)
		}
	}
}

func (g gap) joins(next gap) bool {
	return g.stream == next.stream && g.reason == next.reason && g.wide == next.wide && next.lo <= g.hi+1
}

// merge makes one of entries k and k+1.
func (l *gapList) merge(k int) {
	(*l)[k].hi = max((*l)[k].hi, (*l)[k+1].hi)
	*l = slices.Delete(*l, k+1, k+2)
}

// squeeze brings the list down to its bound by joining the entries that lie
// closest: it names too much then, never too little.
func (l *gapList) squeeze() (dropped int) {
	for len(*l) > maxGaps {
		best, dist := -1, uint64(maxLSN)
		for k := 0; k+1 < len(*l); k++ {
			a, b := (*l)[k], (*l)[k+1]
			if a.stream == b.stream && b.lo-a.hi < dist {
				best, dist = k, b.lo-a.hi
			}
		}
		if best < 0 { // each of another stream
			*l = slices.Delete(*l, 0, 1)
			dropped++
			continue
		}
		(*l)[best].wide = true
		l.merge(best)
	}
	return dropped
}

// forget takes seqs of a stream out of the list, as far as entries end by cutoff.
func (l *gapList) forget(id string, first, last, cutoff uint64) {
	var out gapList
	for _, g := range *l {
		lo, hi := g.stream.base+min(first, maxLSN), g.stream.base+min(last, maxLSN)
		if g.stream.id != id || lo > hi || g.hi > cutoff || g.hi < lo || g.lo > hi {
			out = append(out, g)
			continue
		}
		if g.lo < lo {
			part := g
			part.hi = lo - 1
			out = append(out, part)
		}
		if g.hi > hi {
			part := g
			part.lo = hi + 1
			out = append(out, part)
		}
	}
	*l = out
}

func encodeGaps(l gapList) []byte {
	var streams []stream
	for _, g := range l {
		if !slices.Contains(streams, g.stream) {
			streams = append(streams, g.stream)
		}
	}
	b := binary.AppendUvarint(nil, uint64(len(streams)))
	for _, st := range streams {
		b = putStream(b, st)
	}
	prev := uint64(0)
	for _, g := range l {
		b = binary.AppendUvarint(b, uint64(slices.Index(streams, g.stream)))
		kind := g.reason
		if g.wide {
			kind |= 0x80
		}
		b = append(b, kind)
		b = binary.AppendUvarint(b, g.lo-prev)
		b = binary.AppendUvarint(b, g.hi-g.lo)
		prev = g.lo
	}
	return b
}

func decodeGaps(body []byte) (gapList, bool) {
	r := reader{b: body}
	n := r.lsn()
	if n > maxGaps {
		return nil, false
	}
	streams := make([]stream, n)
	for i := range streams {
		streams[i] = r.stream()
	}
	var l gapList
	prev := uint64(0)
	for len(r.b) > 0 && !r.bad {
		i := r.lsn()
		kind := r.u8()
		lo := prev + r.lsn()
		hi := lo + r.lsn()
		if r.bad || i >= n || int(kind&0x7f) >= len(reasons) || hi > maxLSN ||
			lo <= streams[i].base || len(l) >= maxGaps {
			return nil, false
		}
		l = append(l, gap{span{lo, hi}, streams[i], kind & 0x7f, kind&0x80 != 0})
		prev = lo
	}
	return l, !r.bad
}

// Gaps returns what was lost and not yet forgotten, sorted by position.
func (s *Spool) Gaps() []Gap {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Gap, 0, len(s.gaps))
	for _, g := range s.gaps {
		out = append(out, Gap{g.stream.id, g.lo - g.stream.base, g.hi - g.stream.base, reasons[g.reason]})
	}
	return out
}

// ForgetGaps removes gaps that were passed on, by stream and range of seq;
// what became part of a gap meanwhile stays. It is durable on return. Before,
// the records of the gaps are put down as settled: no later start may take
// them for missing. Where that state is too ragged to be written down whole,
// some gaps stay, and are reported again.
func (s *Spool) ForgetGaps(gaps []Gap) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.cover(); err != nil {
		return err
	}
	s.mu.Lock()
	for _, g := range gaps {
		s.gaps.forget(g.StreamID, g.FirstSeq, g.LastSeq, min(s.slotCut[0], s.slotCut[1]))
	}
	s.gapsDirty = true
	s.mu.Unlock()
	return s.saveGaps()
}

// name notes LSNs that are lost, one entry for each stream in the range, and
// settles them. The caller holds mu; the gap becomes durable with the next
// saveGaps or save.
func (s *Spool) name(lo, hi uint64, reason uint8) {
	for at := lo; at <= hi; {
		st, next := s.streamOf(at)
		end := min(hi, next)
		if st.id != "" {
			s.gaps.add(gap{span: span{at, end}, stream: st, reason: reason})
		} else {
			s.log.Error("records are lost and their stream is unknown", "dir", s.dir, "first_lsn", at, "last_lsn", end)
		}
		at = end + 1
	}
	if len(s.gaps) > 2*maxGaps { // the disk does not take them
		s.gaps.squeeze()
	}
	n := hi - lo + 1
	if reason == reasonEvicted {
		s.evicted += n
	} else {
		s.damaged += n
	}
	s.gapsDirty = true
	s.settle(lo, hi)
}

const (
	reasonEvicted = iota
	reasonDamaged
	reasonCrash
)

// saveGaps makes the list durable. The caller holds wmu.
func (s *Spool) saveGaps() error {
	s.mu.Lock()
	if n := s.gaps.squeeze(); n > 0 {
		s.log.Error("more gaps than can be kept: the oldest are dropped", "dir", s.dir, "dropped", n)
	}
	body := encodeGaps(s.gaps)
	s.gapsDirty = false
	s.mu.Unlock()
	if _, _, err := s.gapFile.write(body); err != nil {
		s.mu.Lock()
		s.gapsDirty = true
		s.mu.Unlock()
		return wrap("save gaps", s.dir, err)
	}
	return nil
}
