package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// What is damaged or refused is never sent and never in the way; it is set aside for a person
// to look at, in files of its own.

const (
	asideName = "aside"
	maxAside  = 32       // files; the oldest go
	maxPiece  = 64 << 10 // bytes of one
	// Refused is the reason of what no broker takes.
	Refused = "refused"
)

// piece is something to be set aside.
type piece struct {
	name string
	b    []byte
}

// keepPiece notes something to be set aside with the next upkeep. The caller holds mu.
func (s *Spool) keepPiece(c Class, lsn uint64, reason string, b []byte) {
	if len(s.pieces) < maxAside {
		name := fmt.Sprintf("%c-%016x.%s", "te"[c], lsn, reason)
		s.pieces = append(s.pieces, piece{name, slices.Clone(b[:min(len(b), maxPiece)])})
		s.wake()
	}
}

// putAside notes the bytes of a segment that are no record. The caller holds mu.
func (s *Spool) putAside(seg *segment, bad [][2]int) {
	for _, r := range bad {
		b := seg.b[r[0]:r[1]]
		if len(b) < page && r[1]%page == 0 && r[0] != headerSize {
			continue // left free for the next record to begin a page
		}
		if !slices.ContainsFunc(b, func(x byte) bool { return x != 0 }) {
			continue // nothing is left of it
		}
		lsn := seg.head.first
		if k := slices.IndexFunc(seg.idx, func(e entry) bool { return int(e.off) >= r[1] }); k > 0 {
			lsn = seg.idx[k-1].lsn + 1
		} else if k < 0 && len(seg.idx) > 0 {
			lsn = seg.idx[len(seg.idx)-1].lsn + 1
		}
		s.keepPiece(seg.head.class, lsn, Damaged, b)
	}
}

// SetAside keeps a copy of a record that is not acknowledged, for a reason that ends the
// file's name. The record itself stays as it is.
func (s *Spool) SetAside(lsn uint64, reason string) error {
	r, ok, err := s.Get(lsn)
	if err != nil || !ok {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keepPiece(r.Class, lsn, reason, r.Payload)
	return nil
}

// setAside writes what was noted. It is for people, and no promise: where the disk fails, it
// is left. The caller holds wmu.
func (s *Spool) setAside() {
	s.mu.Lock()
	pieces := s.pieces
	s.pieces = nil
	s.mu.Unlock()
	if len(pieces) == 0 {
		return
	}
	dir := filepath.Join(s.dir, asideName)
	err := s.fs.mkdirAll(dir)
	for _, p := range pieces {
		if err != nil {
			break
		}
		var f file
		if f, err = writeNew(s.fs, dir, filepath.Join(dir, p.name), p.b); err == nil {
			_ = f.Close()
			s.log.Warn("spool: set aside what cannot be sent", "file", filepath.Join(dir, p.name), "bytes", len(p.b))
		}
	}
	if err != nil {
		s.log.Warn("spool: what cannot be sent could not be set aside", "dir", dir, "error", err)
	}
	s.countAside()
}

// countAside counts the files set aside and removes the oldest beyond the bound.
func (s *Spool) countAside() {
	dir := filepath.Join(s.dir, asideName)
	names, err := s.fs.list(dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("spool: what was set aside cannot be counted", "dir", dir, "error", err)
		}
		return
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(a[min(1, len(a)):], b[min(1, len(b)):]) }) // by LSN
	for len(names) > maxAside {
		_ = s.fs.remove(filepath.Join(dir, names[0]))
		names = names[1:]
	}
	s.mu.Lock()
	s.aside = len(names)
	s.mu.Unlock()
}
