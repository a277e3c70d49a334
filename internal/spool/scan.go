package spool

import (
	"errors"
	"io/fs"
	"sort"
	"time"
)

// head reads the header of a segment, if that was not done. The caller holds mu.
func (s *Spool) head(g *segment) error {
	if g.headed {
		return nil
	}
	f, err := s.fs.open(g.path)
	if errors.Is(err, fs.ErrNotExist) {
		g.headed, g.bad = true, true
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	h, err := readHeader(f, g.head.class, g.head.first)
	if err == nil || errors.Is(err, errHeader) {
		s.noteHead(g, h, err == nil)
		return nil
	}
	return err
}

// noteHead notes a header, or that there is none.
func (s *Spool) noteHead(g *segment, h header, ok bool) {
	if g.headed = true; !ok {
		g.bad = true
		s.log.Error("spool: segment without a valid header: its records are lost", "path", g.path)
		return
	}
	g.head = h
	s.addStream(streamAt{stream{h.stream, h.base}, h.epoch})
}

// limitOf is the highest LSN that counts in segment i. Those from the fence of a later epoch
// on are that epoch's, and what stands for them in an earlier segment was never accepted. Only
// the last segment of an epoch can hold such.
func (s *Spool) limitOf(c Class, i int) uint64 {
	g := s.logs[c][i]
	limit := min(g.limit, s.reach(c, i).hi)
	for _, next := range s.logs[c][i+1:] {
		if s.tells(next) {
			if next.head.epoch == g.head.epoch {
				return limit
			}
			limit = min(limit, next.head.fence-1)
			break
		}
	}
	// Epochs rise with the order of a log.
	other := s.logs[numClasses-1-c]
	later := func(k int) *segment { // the first from k on that can tell
		for _, o := range other[k:] {
			if s.tells(o) {
				return o
			}
		}
		return nil
	}
	k := sort.Search(len(other), func(k int) bool {
		o := later(k)
		return o == nil || o.head.epoch > g.head.epoch
	})
	if k < len(other) {
		if o := later(k); o != nil {
			limit = min(limit, o.head.fence-1)
		}
	}
	return limit
}

// tells says whether the header of a segment can be read.
func (s *Spool) tells(g *segment) bool {
	err := s.head(g)
	return err == nil && !g.bad
}

// scanFile reads segment i from its file: its bytes, its index, and what lies between records.
func (s *Spool) scanFile(c Class, i int) (f file, b []byte, idx []entry, bad [][2]int, err error) {
	seg := s.logs[c][i]
	f, err = s.fs.open(seg.path)
	if errors.Is(err, fs.ErrNotExist) {
		seg.headed, seg.bad = true, true
		return nil, nil, nil, nil, nil // someone took it: what was in there is missing
	}
	if err != nil {
		return nil, nil, nil, nil, err
	}
	if b, err = readSegment(f); err != nil {
		_ = f.Close()
		if !s.isDead(seg) {
			return nil, nil, nil, nil, err
		}
		s.noteHead(seg, header{}, false)
		return nil, nil, nil, nil, nil
	}
	if !seg.headed {
		h, ok := headerIn(b, c, seg.head.first)
		s.noteHead(seg, h, ok)
	}
	if seg.bad {
		return f, b, nil, nil, nil
	}
	idx, bad, seg.end = scan(b, seg.head, s.limitOf(c, i))
	return f, b, idx, bad, nil
}

// isDead says of a segment that cannot be read whether it will never be: it could not some
// time ago, and the disk has taken what was written since. Its records are damaged then, and
// must not keep those behind them back.
func (s *Spool) isDead(g *segment) bool {
	if g.failed.IsZero() {
		g.failed = time.Now()
		return s.opening
	}
	return s.trouble == nil && time.Since(g.failed) > deadAfter && s.synced.After(g.failed)
}
