package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
)

const (
	formatName = "format"
	formatText = "telemetryd spool 1\n"
	lockName   = "lock"
)

// streamAt is a stream that is known of; its records lie after base, up to the base
// of the next.
type streamAt = stream

// streamOf returns the stream that an LSN belongs to, and the last LSN of which the
// same holds. Without an id it is not known. The caller holds mu.
func (s *Spool) streamOf(lsn uint64) (st stream, upTo uint64) {
	upTo = maxLSN
	for _, known := range s.streams {
		if known.base >= lsn {
			return st, known.base
		}
		st = known
	}
	return st, upTo
}

// learn notes a stream.
func (s *Spool) learn(st stream) {
	if st.id == "" || slices.Contains(s.streams, st) {
		return
	}
	s.streams = append(s.streams, st)
	slices.SortStableFunc(s.streams, func(a, b stream) int { return cmp.Compare(a.base, b.base) })
}

// Open opens the spool in dir, making it when it is not there, and begins a new
// stream. What is on disk alone decides what is found. It returns a *LockedError when
// the directory is in use, a *FormatError when it was written in another format, and
// an error that is fs.ErrPermission when permission lacks.
func Open(dir string, o Options) (_ *Spool, err error) {
	if len(o.StreamID) > maxStreamID {
		return nil, fmt.Errorf("spool: open %s: a stream id has 1 to %d bytes", dir, maxStreamID)
	}
	s := &Spool{
		dir: dir, fs: o.fs, log: o.Log, id: o.StreamID,
		max:     max(cmp.Or(o.MaxBytes, defaultBytes), minBytes),
		changed: make(chan struct{}, 1), kick: make(chan struct{}, 1), stop: make(chan struct{}),
		slotVer: [2]int64{-1, -1},
	}
	if s.fs == nil {
		s.fs = osFS{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.fs.mkdirAll(dir); err != nil {
		return nil, wrap("make", dir, err)
	}
	if s.unlock, err = s.fs.lock(filepath.Join(dir, lockName)); err != nil {
		return nil, err
	}
	if err := s.recover(); err != nil {
		_ = s.letGo()
		if fe, ok := errors.AsType[*FormatError](err); ok {
			fe.Dir = dir
			return nil, fe
		}
		return nil, wrap("open", dir, err)
	}
	s.done.Go(s.maintain)
	return s, nil
}

// recover builds the state from what is on disk. Only the newest segments are read;
// of the others, the headers.
func (s *Spool) recover() error {
	if err := s.checkFormat(); err != nil {
		return err
	}
	names, err := s.fs.list(s.dir)
	if err != nil {
		return err
	}
	if err := s.openSegments(names); err != nil {
		return err
	}
	acks, known, err := s.openAcks()
	if err != nil {
		return err
	}
	if err := s.openGaps(); err != nil {
		return err
	}
	s.settled = acks.settled
	s.last = maxLSN // while the newest records are looked for
	found := uint64(0)
	for c := range numClasses {
		lsn, err := s.findNewest(c)
		if err != nil {
			return err
		}
		found = max(found, lsn)
	}
	s.last = max(found, acks.highest)
	for c := range numClasses {
		for _, seg := range s.logs[c] {
			s.last = max(s.last, seg.head.first-1)
		}
	}
	if !known {
		s.forgetAcks()
	}
	s.learn(acks.stream)
	for _, g := range s.gaps {
		s.learn(g.stream)
		if !g.wide {
			s.settled.add(g.lo, min(g.hi, s.last))
		}
	}
	if s.last > 0 {
		if s.prevStream, _ = s.streamOf(s.last); s.prevStream.id != "" {
			s.prevLast = s.last
		}
	}
	s.base = s.last
	s.learn(stream{s.id, s.base})
	s.epoch++
	s.fence = s.last + 1
	return nil
}

// checkFormat reads the version of the directory's format, or writes it.
func (s *Spool) checkFormat() error {
	path := filepath.Join(s.dir, formatName)
	b, err := s.fs.readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return writeNew(s.fs, s.dir, path, []byte(formatText))
	}
	if err != nil {
		return err
	}
	if text := string(b); text != formatText {
		found := strings.TrimSpace(text)
		if version, ok := strings.CutPrefix(found, "telemetryd spool "); ok {
			found = version
		}
		return &FormatError{Found: fmt.Sprintf("%.40q", found)}
	}
	return nil
}

// openSegments reads the header of every segment. One without a valid header cannot
// be read; what it held is named when its place in the order is passed.
func (s *Spool) openSegments(names []string) error {
	for _, name := range names {
		path := filepath.Join(s.dir, name)
		if strings.HasSuffix(name, tmpSuffix) { // not finished when the power went
			if err := s.fs.remove(path); err != nil {
				return err
			}
			continue
		}
		c, first, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		f, err := s.fs.open(path)
		if err != nil {
			return err
		}
		head, size, err := readHeader(f, c, first)
		_ = f.Close()
		if _, format := errors.AsType[*FormatError](err); format {
			return err
		}
		if err != nil {
			s.log.Error("spool: segment cannot be read", "file", path, "error", err)
			continue
		}
		s.logs[c] = append(s.logs[c], &segment{head: head, path: path, size: size, limit: maxLSN, left: -1})
		s.bytes += size
		s.epoch = max(s.epoch, head.epoch)
		s.learn(stream{head.stream, head.base})
	}
	for c := range numClasses {
		slices.SortFunc(s.logs[c], func(a, b *segment) int { return cmp.Compare(a.head.first, b.head.first) })
	}
	s.limitEpochs()
	return nil
}

// limitEpochs makes every segment end where a later epoch begins: see doc.go.
func (s *Spool) limitEpochs() {
	for c := range numClasses {
		for _, seg := range s.logs[c] {
			for other := range numClasses {
				for _, later := range s.logs[other] {
					if later.head.epoch > seg.head.epoch {
						seg.limit = min(seg.limit, later.head.fence-1)
					}
				}
			}
		}
	}
}

// openAcks reads what was acknowledged; known is false when nothing tells.
func (s *Spool) openAcks() (a ackState, known bool, err error) {
	fresh, _ := encodeAcks(ackState{})
	var bodies [][]byte
	var made bool
	if s.acks, bodies, made, err = openSlots(s.fs, s.dir, ackName, ackMagic, ackRoom, fresh); err != nil {
		return a, false, err
	}
	for _, body := range bodies {
		if a, ok := decodeAcks(body); ok {
			return a, true, nil
		}
	}
	return ackState{}, made && len(s.logs[Telemetry])+len(s.logs[Event]) == 0, nil
}

// forgetAcks is the state without the file acks: everything that is there is sent
// again, and nothing that is not there is called missing.
func (s *Spool) forgetAcks() {
	s.blind = s.last
	first := s.last + 1
	for c := range numClasses {
		if len(s.logs[c]) > 0 {
			first = min(first, s.logs[c][0].head.first)
		}
	}
	if first > 1 {
		s.settled.add(1, first-1)
	}
	s.log.Warn("spool: what was acknowledged is not known, all is sent again", "dir", s.dir)
}

func (s *Spool) openGaps() error {
	var bodies [][]byte
	var err error
	if s.gapFile, bodies, _, err = openSlots(s.fs, s.dir, gapName, gapMagic, gapRoom, encodeGaps(nil)); err != nil {
		return err
	}
	for _, body := range bodies {
		if l, ok := decodeGaps(body); ok {
			s.gaps = l
			return nil
		}
	}
	s.log.Warn("spool: the list of gaps cannot be read", "dir", s.dir)
	return nil
}

// findNewest reads the segments of a log from its end until one has a record.
func (s *Spool) findNewest(c Class) (lsn uint64, err error) {
	for i := len(s.logs[c]) - 1; i >= 0; i-- {
		seg := s.logs[c][i]
		f, idx, err := s.scanFile(c, i)
		if err != nil {
			return 0, err
		}
		if f != nil {
			_ = f.Close()
		}
		if i == len(s.logs[c])-1 {
			s.total[c] = seg.head.before
		}
		if len(idx) == 0 {
			continue
		}
		s.total[c] = max(s.total[c], seg.head.before+uint64(len(idx)))
		lsn = idx[len(idx)-1].lsn
		s.newestLSN[c] = lsn
		if lsn == max(s.newestLSN[Telemetry], s.newestLSN[Event]) {
			s.newest = seg
		}
		return lsn, nil
	}
	return 0, nil
}
