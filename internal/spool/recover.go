package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	versionName  = "format"
	formatPrefix = "telemetryd spool "
)

var formatLine = formatPrefix + strconv.Itoa(formatVersion) + "\n"

// streamAt is a stream and the epoch of the word for it: of two streams with
// one base the later had the records.
type streamAt struct {
	stream
	epoch uint64
}

// Open takes the directory, makes it where it is missing, finds what is in it,
// and begins a new stream. Errors: [*LockedError], [*FormatError], and those of
// the file system, as they are.
func Open(dir string, o Options) (_ *Spool, err error) {
	if len(o.StreamID) > maxStreamID {
		return nil, fmt.Errorf("spool: stream id %q has more than %d bytes", o.StreamID, maxStreamID)
	}
	s := &Spool{
		dir: dir, fs: o.fs, log: o.Log, max: o.MaxBytes, id: o.StreamID, segment: o.segment,
		changed: make(chan struct{}, 1), kick: make(chan struct{}, 1), stop: make(chan struct{}),
		slotVer: [2]int64{-1, -1},
	}
	if s.fs == nil {
		s.fs = osFS{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.max == 0 {
		s.max = defaultBytes
	}
	if s.segment == 0 {
		s.segment = segmentSize
		s.max = max(s.max, minBytes)
	}
	if err := s.take(); err != nil {
		return nil, err
	}
	if err := s.recover(); err != nil {
		_ = s.letGo()
		if fe := (*FormatError)(nil); errors.As(err, &fe) {
			fe.Dir = dir
			return nil, fe
		}
		return nil, wrap("open", dir, err)
	}
	s.done.Go(s.maintain)
	return s, nil
}

// take makes the directory where it is missing, and locks it.
func (s *Spool) take() (err error) {
	if err := s.fs.mkdirAll(s.dir); err != nil {
		return wrap("make the directory", s.dir, err)
	}
	s.lock, err = s.fs.lock(s.lockPath())
	if le, ok := errors.AsType[*LockedError](err); ok {
		le.Dir = s.dir
		return le
	}
	return wrap("lock", s.dir, err)
}

// recover builds the state from what is on disk, and from nothing else. That the disk cannot
// be written is no reason not to begin: see hold.go.
func (s *Spool) recover() error {
	s.opening = true
	ack, useless, err := s.look()
	if err != nil {
		return err
	}
	found := s.durable
	if err := s.beginStream(); err != nil {
		return err
	}
	s.durable = s.last
	s.nameTail(found, ack.clean)
	s.nameCut()
	s.countFirst()
	s.countAside()
	if err := s.try(s.save(false)); err != nil {
		return err
	}
	for _, path := range useless {
		if err := s.fs.remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			if err := s.try(err); err != nil {
				return err
			}
		}
	}
	_, err = s.reclaim()
	return s.try(err)
}

// try passes an error of writing on only where a person has to mend it before all else.
func (s *Spool) try(err error) error {
	if err == nil || errors.Is(err, fs.ErrPermission) {
		return err
	}
	s.fail(err)
	return nil
}

// look reads what is on disk: durable is then the newest record found, last the highest LSN
// known to have been used. useless are files to be removed.
func (s *Spool) look() (ack ackState, useless []string, err error) {
	if err := s.checkFormat(); err != nil {
		return ack, nil, err
	}
	err = s.fs.syncDir(s.dir) // a name that was removed must not come back once its LSNs are given out anew
	s.shaky = err != nil
	if err := s.try(err); err != nil {
		return ack, nil, err
	}
	if useless, err = s.listSegments(); err != nil {
		return ack, nil, err
	}
	if ack, err = s.openAcks(); err != nil {
		return ack, nil, err
	}
	if err := s.openGaps(); err != nil {
		return ack, nil, err
	}
	found, err := s.findNewest()
	if err != nil {
		return ack, nil, err
	}
	s.durable, s.last, s.known = found, max(s.last, found), ack.durable
	if s.blind > 0 {
		s.blind = s.last
		s.log.Error("spool: the record of acknowledgements is lost: records that are not there count as delivered", "dir", s.dir)
	}
	s.knowStreams(ack) // an empty segment may be all that tells of one
	useless = append(useless, s.dropEmpty()...)
	return ack, useless, nil
}

// checkFormat refuses a directory of another format, and marks a new one.
func (s *Spool) checkFormat() error {
	path := filepath.Join(s.dir, versionName)
	text, err := s.fs.readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s.try(s.writeFormat())
	}
	if err != nil {
		return err
	}
	if string(text) == formatLine {
		return nil
	}
	found, ok := strings.CutPrefix(strings.TrimSpace(string(text)), formatPrefix)
	if !ok || len(found) > 20 {
		found = strconv.Quote(string(text[:min(len(text), 40)]))
	}
	return &FormatError{Found: found}
}

func (s *Spool) writeFormat() error {
	f, err := writeNew(s.fs, s.dir, filepath.Join(s.dir, versionName), []byte(formatLine))
	if err != nil {
		return err
	}
	return f.Close()
}

// listSegments finds all segments by their names. useless is what an unfinished write left.
func (s *Spool) listSegments() (useless []string, err error) {
	names, err := s.fs.list(s.dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		path := filepath.Join(s.dir, name)
		if strings.HasSuffix(name, tmpSuffix) {
			useless = append(useless, path)
			continue
		}
		c, first, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		size, err := s.fs.size(path)
		if err != nil {
			return nil, err
		}
		s.logs[c] = append(s.logs[c], &segment{head: header{class: c, first: first}, path: path, size: size, limit: maxLSN, left: -1})
		s.bytes += size
		s.last = max(s.last, first-1)
	}
	for c := range numClasses {
		slices.SortFunc(s.logs[c], func(a, b *segment) int { return cmp.Compare(a.head.first, b.head.first) })
	}
	return useless, nil
}

// openAcks reads the newest valid slot of the file acks.
func (s *Spool) openAcks() (a ackState, err error) {
	var bodies [][]byte
	if s.acks, bodies, err = openSlots(s.fs, s.dir, ackName, ackMagic, ackRoom); err != nil {
		return a, err
	}
	ok := false
	for i, body := range bodies {
		if a, ok = decodeAcks(body); ok {
			slot := 1 - s.acks.next // of the newest
			if i > 0 {
				slot = s.acks.next
			}
			s.slotVer[slot], s.slotCut[slot] = 0, maxLSN
			break
		}
	}
	if !ok && (s.acks.f != nil || len(s.logs[Telemetry])+len(s.logs[Event]) > 0) {
		s.blind = 1
	}
	s.settled = a.settled
	s.last = max(s.last, a.highest)
	return a, nil
}

// openGaps reads the newest valid slot of the file gaps. What a gap names is
// settled: an eviction that a crash cut short ends here.
func (s *Spool) openGaps() (err error) {
	var bodies [][]byte
	if s.gapFile, bodies, err = openSlots(s.fs, s.dir, gapName, gapMagic, gapRoom); err != nil {
		return err
	}
	s.gapsDirty = s.gapFile.f == nil // it is made with the first save
	for _, body := range bodies {
		if l, ok := decodeGaps(body); ok {
			s.gaps = l
			break
		}
	}
	for _, g := range s.gaps {
		if !g.wide && len(s.settled.without(g.span)) > 0 {
			s.settled.add(g.lo, g.hi)
			s.version = 1
		}
		s.last = max(s.last, g.hi)
	}
	return nil
}

// findNewest reads the last segments of both logs for the newest record. They
// are synced first: what a killed process wrote may so far be in memory only,
// and must not vanish once it was counted.
func (s *Spool) findNewest() (found uint64, err error) {
	s.durable = maxLSN // no bound while looking
	for c := range numClasses {
		for i := len(s.logs[c]) - 1; i >= 0; i-- {
			g := s.logs[c][i]
			f, _, idx, _, err := s.scanFile(c, i)
			if err != nil {
				return 0, err
			}
			if !g.bad {
				s.epoch = max(s.epoch, g.head.epoch)
			}
			if f == nil {
				continue
			}
			err = f.datasync()
			_ = f.Close()
			s.shaky = s.shaky || err != nil
			if err := s.try(err); err != nil {
				return 0, err
			}
			if i == len(s.logs[c])-1 {
				s.total[c] = g.head.before + uint64(len(idx))
			}
			if len(idx) > 0 {
				s.newestLSN[c] = idx[len(idx)-1].lsn
				s.diskLSN[c] = s.newestLSN[c]
				if s.newestLSN[c] > found {
					found, s.newest = s.newestLSN[c], g
				}
				break
			}
		}
	}
	return found, nil
}

// dropEmpty takes out segments in which nothing can have been accepted.
func (s *Spool) dropEmpty() (paths []string) {
	for c := range numClasses {
		for _, g := range s.logs[c] {
			g.limit = min(g.limit, s.last)
		}
		s.logs[c] = slices.DeleteFunc(s.logs[c], func(g *segment) bool {
			if g.limit >= g.head.first {
				return false
			}
			paths = append(paths, g.path)
			s.bytes -= g.size
			return true
		})
	}
	return paths
}

// knowStreams notes which stream begins after which LSN, as far as headers do not tell.
func (s *Spool) knowStreams(ack ackState) {
	for _, g := range s.gaps {
		s.addStream(streamAt{g.stream, maxLSN})
	}
	if ack.stream.id != "" {
		s.addStream(streamAt{ack.stream, maxLSN})
	}
}

func (s *Spool) addStream(st streamAt) {
	i, found := slices.BinarySearchFunc(s.streams, st.base, func(e streamAt, base uint64) int {
		return cmp.Compare(e.base, base)
	})
	switch {
	case !found:
		s.streams = slices.Insert(s.streams, i, st)
	case st.epoch >= s.streams[i].epoch:
		s.streams[i] = st
	}
}

// streamOf returns the stream of an LSN, and the highest LSN that can be its.
func (s *Spool) streamOf(lsn uint64) (st stream, hi uint64) {
	i, _ := slices.BinarySearchFunc(s.streams, lsn, func(e streamAt, lsn uint64) int {
		return cmp.Compare(e.base, lsn)
	})
	hi = maxLSN
	if i < len(s.streams) {
		hi = s.streams[i].base
	}
	if i > 0 {
		st = s.streams[i-1].stream
	}
	return st, hi
}

// beginStream puts the new stream after the last LSN. It leaves no trace on
// disk before its first record.
func (s *Spool) beginStream() error {
	for _, st := range s.streams {
		if s.id != "" && st.id == s.id {
			return fmt.Errorf("stream id %q was used before: each start needs a new one", s.id)
		}
	}
	if s.last > 0 {
		s.prevStream, _ = s.streamOf(s.last)
		s.prevLast = s.last
	}
	s.base = s.last
	s.epoch++
	s.fence = s.last + 1
	if s.id != "" {
		s.addStream(streamAt{stream{s.id, s.base}, maxLSN})
	}
	return nil
}

// nameTail names what was known to be used but lies beyond the newest record
// that is there.
func (s *Spool) nameTail(found uint64, clean bool) {
	lo := max(found, s.blind) + 1
	if s.blind > found {
		s.settle(found+1, s.blind)
	}
	if len(s.logs[Telemetry])+len(s.logs[Event]) == 0 {
		lo = s.blind + 1 // no segment will ever be read that could tell
		s.settle(1, s.blind)
	}
	reason := uint8(reasonCrash)
	if clean {
		reason = reasonDamaged
	}
	for _, r := range s.settled.without(span{lo, s.last}) {
		s.log.Error("spool: newest records are missing", "dir", s.dir, "first_lsn", r.lo, "last_lsn", r.hi)
		s.name(r.lo, r.hi, reason)
	}
}

// nameCut reads the segments with records of which acks did not know yet: what is missing
// among those was written, if at all, when the crash came. Later it would look damaged.
func (s *Spool) nameCut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range numClasses {
		for i := len(s.logs[c]) - 1; i >= 0 && s.blind == 0 && s.reach(c, i).hi > s.known; i-- {
			_ = s.load(c, i)    // an error shows again when it is read
			s.logs[c][i].drop() // its other holes are named then, too
		}
	}
	s.opening = false
}

// countFirst reads the first segment of each log where it was acknowledged in
// part, so that the counts of Stats begin exact.
func (s *Spool) countFirst() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range numClasses {
		if len(s.logs[c]) == 0 {
			continue
		}
		_ = s.head(s.logs[c][0]) // an error shows again when it is read
		if s.reach(c, 0).lo > s.logs[c][0].head.first {
			_ = s.load(c, 0)
		}
	}
}
