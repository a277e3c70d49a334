package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// A disk that writes down what is asked of it, so that every disk which a power cut at
// any moment could have left can be built: what was synced is there; of each later
// 512-byte sector, size and name, a coin decides.

const sector = 512

// inode is a file: what it holds now, and what a power cut cannot take.
type inode struct {
	now, safe []byte
}

type memFS struct {
	mu     sync.Mutex
	now    map[string]*inode
	safe   map[string]*inode
	fail   func() bool // whether the next datasync fails
	moment func()      // called before each effect
}

type memFile struct {
	fs *memFS
	in *inode
}

var errDisk = errors.New("input/output error")

func (m *memFS) effect(do func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.moment != nil {
		m.moment()
	}
	do()
}

func (m *memFS) mkdirAll(string) error { return nil }

func (m *memFS) list(string) (names []string, _ error) {
	m.effect(func() {
		for path := range m.now {
			names = append(names, filepath.Base(path))
		}
	})
	return names, nil
}

func (m *memFS) create(path string) (file, error) {
	in := &inode{}
	m.effect(func() { m.now[path] = in })
	return &memFile{m, in}, nil
}

func (m *memFS) open(path string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	in := m.now[path]
	if in == nil {
		return nil, fs.ErrNotExist
	}
	return &memFile{m, in}, nil
}

func (m *memFS) remove(path string) error {
	m.effect(func() { delete(m.now, path) })
	return nil
}

func (m *memFS) rename(from, to string) error {
	m.effect(func() { m.now[to] = m.now[from]; delete(m.now, from) })
	return nil
}

func (m *memFS) syncDir(string) error {
	m.effect(func() { m.safe = maps.Clone(m.now) })
	return nil
}

func (m *memFS) lock(string) (release, error) { return func() error { return nil }, nil }

func (m *memFS) readFile(path string) ([]byte, error) {
	f, err := m.open(path)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(f.(*memFile).in.now), nil
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if off >= int64(len(f.in.now)) {
		return 0, io.EOF
	}
	n := copy(b, f.in.now[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	f.fs.effect(func() {
		grown := make([]byte, max(len(f.in.now), int(off)+len(b)))
		copy(grown, f.in.now)
		copy(grown[off:], b)
		f.in.now = grown // never written in place: images share it
	})
	return len(b), nil
}

func (f *memFile) Close() error { return nil }

func (f *memFile) size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.in.now)), nil
}

func (f *memFile) sync() error {
	f.fs.effect(func() { f.in.safe = f.in.now })
	return nil
}

func (f *memFile) datasync() error {
	if f.fs.fail != nil && f.fs.fail() {
		return errDisk
	}
	return f.sync()
}

// image builds one disk that a power cut now could leave. The caller holds mu.
func (m *memFS) image(coin *rand.Rand) *memFS {
	heads := func() bool { return coin.IntN(2) == 0 }
	after := map[*inode]*inode{}
	survive := func(in *inode) *inode {
		if after[in] != nil {
			return after[in]
		}
		b := in.safe
		if !bytes.Equal(in.safe, in.now) {
			b = bytes.Clone(in.safe)
			if len(in.now) > len(b) && heads() {
				b = append(b, make([]byte, len(in.now)-len(b))...)
			}
			for off := 0; off < len(b); off += sector {
				if end := min(off+sector, len(b)); heads() {
					copy(b[off:end], in.now[min(off, len(in.now)):])
				}
			}
		}
		after[in] = &inode{b, b}
		return after[in]
	}
	out := map[string]*inode{}
	names := slices.Sorted(maps.Keys(m.now))
	for name := range m.safe {
		if m.now[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		in := m.safe[name]
		if now := m.now[name]; in != now && heads() {
			in = now
		}
		if in != nil {
			out[name] = survive(in)
		}
	}
	return &memFS{now: out, safe: maps.Clone(out)}
}

// ledger is what was promised to the caller up to a moment.
type ledger struct {
	mu       sync.Mutex
	promised map[uint64]string   // payload by LSN
	tried    map[uint64][]string // payloads that were handed in for an LSN
	done     map[uint64]bool     // acknowledged, or its gap passed on, or about to be
	streams  []string            // those with a promised record, in order
	last     uint64
	first    map[string]uint64 // LSN of the first record of a stream
}

// TestPowerCut cuts the power before each effect on the disk. TORTURE_SEEDS makes it
// long: `make torture`.
func TestPowerCut(t *testing.T) {
	images := 0
	seeds := uint64(2) // without and with failing effects
	if n, err := strconv.ParseUint(os.Getenv("TORTURE_SEEDS"), 10, 16); err == nil {
		seeds = n
	}
	for seed := range seeds {
		coin := rand.New(rand.NewPCG(seed, 1))
		l := &ledger{promised: map[uint64]string{}, tried: map[uint64][]string{}, done: map[uint64]bool{}, first: map[string]uint64{}}
		disk := &memFS{now: map[string]*inode{}, safe: map[string]*inode{}}
		cut := rand.New(rand.NewPCG(seed, 2))
		disk.moment = func() {
			if t.Failed() {
				return // one broken image tells enough
			}
			images++
			l.check(t, disk.image(cut), seed, images)
		}
		if seed%2 == 1 {
			faults := rand.New(rand.NewPCG(seed, 3))
			var mu sync.Mutex
			disk.fail = func() bool {
				mu.Lock()
				defer mu.Unlock()
				return faults.IntN(12) == 0
			}
		}
		live(t, disk, l, coin)
	}
	t.Logf("%d images", images)
}

// live is a few starts of a spool that is used in every way.
func live(t *testing.T, disk *memFS, l *ledger, coin *rand.Rand) {
	for life := range 3 {
		id := fmt.Sprintf("life-%d", life)
		s, err := Open("/d", Options{StreamID: id, MaxBytes: minBytes, fs: disk})
		for ; err != nil; s, err = Open("/d", Options{StreamID: id, MaxBytes: minBytes, fs: disk}) {
			if !errors.Is(err, errDisk) {
				t.Fatal(err)
			}
		}
		// A record whose sync failed last may be there all the same: it counts now.
		if r, ok, err := s.Get(l.last + 1); err == nil && ok {
			l.mu.Lock()
			l.last++
			l.promised[l.last] = string(r.Payload)
			if l.first[r.StreamID] == 0 {
				l.first[r.StreamID] = r.LSN
				l.streams = append(l.streams, r.StreamID)
			}
			l.mu.Unlock()
		}
		for n := range 60 {
			c := Class(coin.IntN(4) / 3)
			next := l.last + 1
			payload := fmt.Sprintf("%s %d %d %0*d", id, next, n, 1+coin.IntN(40_000), next)
			l.mu.Lock()
			l.tried[next] = append(l.tried[next], payload)
			l.mu.Unlock()
			r, err := s.Append(c, []byte(payload))
			if err != nil && !errors.Is(err, errDisk) {
				t.Fatal(err)
			}
			if err == nil {
				l.mu.Lock()
				if l.first[id] == 0 {
					l.first[id] = r.LSN
					l.streams = append(l.streams, id)
				}
				if r.LSN != next || r.Seq != r.LSN-l.first[id]+1 {
					t.Fatalf("%s: position %d/%d, want %d", id, r.LSN, r.Seq, next)
				}
				l.promised[r.LSN], l.last = payload, r.LSN
				l.mu.Unlock()
			}
			if coin.IntN(3) == 0 {
				if r, ok, err := s.Next(Class(coin.IntN(2)), uint64(coin.IntN(int(l.last)+1))); err == nil && ok {
					l.mu.Lock()
					l.done[r.LSN] = true
					l.mu.Unlock()
					s.Ack(r.LSN)
				}
			}
			if coin.IntN(9) == 0 {
				s.wmu.Lock()
				_ = s.upkeep()
				s.wmu.Unlock()
			}
			if gaps := s.Gaps(); len(gaps) > 0 && coin.IntN(15) == 0 {
				l.mu.Lock()
				for _, g := range gaps {
					for seq := g.FirstSeq; seq <= g.LastSeq; seq++ {
						l.done[l.first[g.StreamID]+seq-1] = true
					}
				}
				l.mu.Unlock()
				_ = s.ForgetGaps(gaps)
			}
		}
		_ = s.Close()
	}
}

// check opens a disk after the power cut: what was promised and is not done is there or
// named as evicted, nothing is there that was not handed in, and positions go on.
func (l *ledger) check(t *testing.T, disk *memFS, seed uint64, image int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	bad := func(format string, args ...any) {
		t.Errorf("seed %d, image %d: %s", seed, image, fmt.Sprintf(format, args...))
	}
	s, err := Open("/d", Options{StreamID: "after", MaxBytes: minBytes, fs: disk})
	if err != nil {
		bad("Open: %v", err)
		return
	}
	defer s.Close()
	id, lastSeq, ok := s.Previous()
	if len(l.streams) > 0 {
		prev := l.streams[len(l.streams)-1]
		want := l.last - l.first[prev] + 1
		// One that was written and not yet promised may count.
		newer := id != prev && lastSeq == 1
		if !ok || !newer && (id != prev || lastSeq < want || lastSeq > want+1) {
			bad("previous %s %d %v, want %s %d", id, lastSeq, ok, prev, want)
		}
	}
	present := map[uint64]bool{}
	for c := range numClasses {
		for _, r := range drain(t, s, c) {
			present[r.LSN] = true
			want, promised := l.promised[r.LSN]
			switch {
			case promised && string(r.Payload) != want:
				bad("LSN %d holds %.30q, promised was %.30q", r.LSN, r.Payload, want)
			case !promised && (r.LSN > l.last+1 || !slices.Contains(l.tried[r.LSN], string(r.Payload))):
				bad("LSN %d holds %.30q, last promised was %d", r.LSN, r.Payload, l.last)
			}
		}
	}
	named := map[uint64]bool{}
	for _, g := range s.Gaps() {
		for seq := g.FirstSeq; seq <= g.LastSeq; seq++ {
			lsn := l.first[g.StreamID] + seq - 1
			named[lsn] = true
			if g.Reason != Evicted {
				bad("LSN %d (%s %d) is named %s", lsn, g.StreamID, seq, g.Reason)
			}
			if present[lsn] {
				bad("LSN %d is there and named", lsn)
			}
		}
	}
	for lsn := range l.promised {
		if !present[lsn] && !named[lsn] && !l.done[lsn] {
			bad("LSN %d was promised and is neither there nor named", lsn)
		}
	}
	r, err := s.Append(Telemetry, []byte("new"))
	if err != nil || r.LSN <= l.last || r.LSN > l.last+2 || r.Seq != 1 {
		bad("Append = %d/%d %v, last promised was %d", r.LSN, r.Seq, err, l.last)
	}
}
