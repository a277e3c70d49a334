package spool

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// Small files, so that much happens in few records.
const (
	cutSegment = 8 << 10
	cutBytes   = 10 * cutSegment
)

// ledger is what was promised to the caller up to a moment.
type ledger struct {
	mu       sync.Mutex
	promised map[uint64]string // payload by LSN: durable
	tried    map[uint64]string // payload that was handed in for an LSN
	done     map[uint64]bool   // acknowledged, or its gap passed on, or about to be
	lives    []stream          // in order
	last     uint64            // up to here it is known which are promised
	top      uint64            // highest promised
	used     uint64            // highest handed in

	coin   *rand.Rand
	seen   map[uint64]int // by digest: the moment of the caller's at which it was checked
	moment int            // rises with whatever changes above
	images int
	mend   bool // the format has no checksums
	bad    []string
}

func newLedger(seed uint64) *ledger {
	return &ledger{promised: map[uint64]string{}, tried: map[uint64]string{}, done: map[uint64]bool{},
		coin: rand.New(rand.NewPCG(seed, 2)), seen: map[uint64]int{}}
}

func (l *ledger) fault(format string, args ...any) {
	l.bad = append(l.bad, fmt.Sprintf("image %d: ", l.images)+fmt.Sprintf(format, args...))
}

// lock holds the ledger for a change.
func (l *ledger) lock() {
	l.mu.Lock()
	l.moment++
}

// streamOf is the stream that an LSN is of.
func (l *ledger) streamOf(lsn uint64) (of stream) {
	for _, st := range l.lives {
		if st.base < lsn {
			of = st
		}
	}
	return of
}

func (l *ledger) baseOf(id string) uint64 {
	return l.lives[slices.IndexFunc(l.lives, func(st stream) bool { return st.id == id })].base
}

// durable notes that records up to the LSN are promised.
func (l *ledger) durable(lsn uint64) {
	l.lock()
	defer l.mu.Unlock()
	for ; l.last < lsn; l.last++ {
		if payload, ok := l.tried[l.last+1]; ok {
			l.promised[l.last+1] = payload
			l.top = l.last + 1
		}
	}
}

// TestPowerCut cuts the power before each effect on the disk, several ways. TORTURE_SEEDS
// makes it long: `make torture`.
func TestPowerCut(t *testing.T) {
	images, distinct := 0, 0
	seeds := uint64(4) // without and with failing effects
	if n, err := strconv.ParseUint(os.Getenv("TORTURE_SEEDS"), 10, 16); err == nil {
		seeds = n
	}
	for seed := range seeds {
		disk, l := newMemFS(), newLedger(seed)
		disk.moment = func() {
			for range 2 {
				l.cut(disk)
			}
		}
		if seed%2 == 1 {
			failures(disk, seed)
		}
		live(t, disk, l, seed)
		images += l.images
		distinct += len(l.seen)
		if len(l.bad) > 0 {
			t.Fatalf("seed %d: %s", seed, l.bad[0])
		}
	}
	t.Logf("%d images, %d distinct", images, distinct)
	if distinct < 5000 {
		t.Errorf("%d distinct images, want 5000 at least", distinct)
	}
}

// failures make some syncs and some new files fail.
func failures(disk *memFS, seed uint64) {
	coin := rand.New(rand.NewPCG(seed, 3))
	var mu sync.Mutex
	oneOf := func(n int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return coin.IntN(n) == 0
		}
	}
	disk.fail, disk.full = oneOf(12), oneOf(5)
}

// Each of these mistakes is found by the images.
func TestSeededBugs(t *testing.T) {
	for name, seeded := range map[string]func(*memFS, *ledger) fsys{
		"none":                   func(m *memFS, _ *ledger) fsys { return m },
		"no sync":                func(m *memFS, _ *ledger) fsys { return noSync{m, true} },
		"no sync of acks, gaps":  func(m *memFS, _ *ledger) fsys { return noSync{m, false} },
		"no sync of directories": func(m *memFS, _ *ledger) fsys { return noDirSync{m} },
		"no checksums":           func(m *memFS, l *ledger) fsys { l.mend = true; return m },
		"removal too early":      func(m *memFS, _ *ledger) fsys { return &removeFirst{m, map[*memFile]bool{}} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			images := 0
			for seed := range uint64(6) {
				disk, l := newMemFS(), newLedger(seed)
				disk.moment = func() {
					if len(l.bad) == 0 {
						l.cut(disk)
					}
				}
				live(t, seeded(disk, l), l, seed)
				images += l.images
				if len(l.bad) > 0 {
					if name == "none" {
						t.Fatal(l.bad[0])
					}
					t.Logf("found after %d images: %s", images, l.bad[0])
					return
				}
				if name == "none" {
					return
				}
			}
			t.Errorf("not found in %d images", images)
		})
	}
}

// live is a few starts of a spool that is used in every way.
func live(t *testing.T, disk fsys, l *ledger, seed uint64) {
	coin := rand.New(rand.NewPCG(seed, 1))
	for n := range 4 {
		id := fmt.Sprintf("life-%d", n)
		s, err := Open("/d", Options{StreamID: id, MaxBytes: cutBytes, fs: disk, segment: cutSegment})
		if err != nil {
			t.Fatal(err)
		}
		still(s)
		l.begin(s, id)
		for n := range 50 {
			l.append(t, s, coin, fmt.Sprintf("%s %d", id, n))
			if coin.IntN(2) == 0 {
				if r, ok, err := s.Next(Class(coin.IntN(2)), uint64(coin.IntN(int(l.used)+1))); err == nil && ok {
					l.lock()
					l.done[r.LSN] = true
					l.mu.Unlock()
					s.Ack(r.LSN)
				}
			}
			if coin.IntN(6) == 0 {
				s.wmu.Lock()
				s.tend()
				s.wmu.Unlock()
				l.promise(s)
			}
			if gaps := s.Gaps(); len(gaps) > 0 && coin.IntN(10) == 0 {
				l.lock()
				for _, g := range gaps {
					for seq := g.FirstSeq; seq <= g.LastSeq; seq++ {
						l.done[l.baseOf(g.StreamID)+seq] = true
					}
				}
				l.mu.Unlock()
				_ = s.ForgetGaps(gaps)
			}
		}
		if coin.IntN(2) == 0 {
			_ = s.Close()
			continue
		}
		crash(s)
	}
}

// still keeps a spool from doing its upkeep by itself, so that a seed tells all.
func still(s *Spool) {
	close(s.stop)
	s.done.Wait()
	s.stop = make(chan struct{})
}

// crash ends a spool as a killed process does: nothing more is written.
func crash(s *Spool) {
	close(s.stop)
	s.done.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// begin notes a start: what was handed in and not promised before may be there and counts
// then; LSNs that are not used begin anew.
func (l *ledger) begin(s *Spool, id string) {
	l.lock()
	defer l.mu.Unlock()
	for lsn := l.last + 1; lsn <= s.base; lsn++ {
		switch _, ok, err := s.Get(lsn); {
		case err != nil || !ok:
			l.done[lsn] = true
		case !s.shaky: // else the next cut may take it
			l.promised[lsn] = l.tried[lsn]
			l.top = lsn
		}
	}
	for lsn := range l.tried {
		if lsn > s.base {
			delete(l.tried, lsn)
			delete(l.done, lsn)
		}
	}
	l.last, l.used = s.base, s.base
	l.lives = append(l.lives, stream{id, s.base})
}

// append hands in a group of records.
func (l *ledger) append(t *testing.T, s *Spool, coin *rand.Rand, text string) {
	var group []Entry
	l.lock()
	from := l.used
	for range 1 + coin.IntN(5)/2 {
		size := 1 + coin.IntN(2500)
		if coin.IntN(20) == 0 {
			size = 9000 // has a larger segment
		}
		l.used++
		payload := fmt.Sprintf("%s %d %0*d", text, l.used, size, l.used)
		l.tried[l.used] = payload
		group = append(group, Entry{Class(coin.IntN(4) / 3), []byte(payload)})
	}
	l.mu.Unlock()
	records, err := s.AppendAll(group)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range records {
		if want := from + 1 + uint64(i); r.LSN != want || r.Seq != r.LSN-s.base {
			t.Fatalf("position %d/%d, want %d", r.LSN, r.Seq, want)
		}
	}
	l.promise(s)
}

func (l *ledger) promise(s *Spool) {
	s.mu.Lock()
	durable := s.durable
	s.mu.Unlock()
	l.durable(durable)
}

// cut takes a disk that a power cut now could leave, and checks it. The caller holds the
// disk's mu.
func (l *ledger) cut(disk *memFS) {
	l.mu.Lock()
	defer l.mu.Unlock()
	image := disk.image(l.coin)
	if l.mend {
		mendChecksums(image)
	}
	l.images++
	if at, seen := l.seen[image.digest()]; seen && at == l.moment {
		return // the same disk, and the same was promised
	}
	l.seen[image.digest()] = l.moment
	l.check(image)
}

// check opens a disk after the power cut, appends, cuts the power again and opens it once
// more: what was promised and is not done is there or named as evicted, nothing is there that
// was not handed in, and positions go on.
func (l *ledger) check(disk *memFS) {
	l.named(disk)
	open := func(disk *memFS, id string) *Spool {
		s, err := Open("/d", Options{StreamID: id, MaxBytes: cutBytes, fs: disk, segment: cutSegment})
		if err != nil {
			l.fault("Open: %v", err)
		}
		return s
	}
	s := open(disk, "after")
	if s == nil {
		return
	}
	r, err := s.Append(Telemetry, []byte("new"))
	crash(s)
	if err != nil || r.LSN <= l.top || r.LSN > l.used+1 || r.Seq != 1 {
		l.fault("Append = %d/%d %v, last promised was %d", r.LSN, r.Seq, err, l.top)
		return
	}
	disk = disk.image(l.coin)
	if s = open(disk, "again"); s == nil {
		return
	}
	defer crash(s)
	if got, ok, err := s.Get(r.LSN); err != nil || !ok || string(got.Payload) != "new" {
		l.fault("what was appended after the cut is %q %v %v", got.Payload, ok, err)
	}
	if id, seq, ok := s.Previous(); !ok || id != "after" || seq != 1 {
		l.fault("previous is %s %d %v, want after 1", id, seq, ok)
	}
	if r, err := s.Append(Event, []byte("newer")); err != nil || r.LSN <= s.base {
		l.fault("Append = %d %v", r.LSN, err)
	}
}

// named checks that each promised record is there or named.
func (l *ledger) named(disk *memFS) {
	disk = disk.clone() // opening changes it
	s, err := Open("/d", Options{StreamID: "looks", MaxBytes: cutBytes, fs: disk, segment: cutSegment})
	if err != nil {
		l.fault("Open: %v", err)
		return
	}
	defer crash(s)
	if id, seq, ok := s.Previous(); l.top > 0 || ok {
		st := l.streamOf(s.base)
		if !ok || s.base < l.top || s.base > l.used || st.id != id || s.base-st.base != seq {
			l.fault("previous %s %d %v at %d; promised was %d, handed in %d, of %v", id, seq, ok, s.base, l.top, l.used, st)
		}
	}
	present := map[uint64]bool{}
	for c := range numClasses {
		for after := uint64(0); ; {
			r, ok, err := s.Next(c, after)
			if err != nil {
				l.fault("Next: %v", err)
			}
			if err != nil || !ok {
				break
			}
			after = r.LSN
			present[r.LSN] = true
			if want := l.tried[r.LSN]; string(r.Payload) != want {
				l.fault("LSN %d holds %.30q, handed in was %.30q", r.LSN, r.Payload, want)
			}
			if st := l.streamOf(r.LSN); r.StreamID != st.id || r.Seq != r.LSN-st.base {
				l.fault("LSN %d is %s %d", r.LSN, r.StreamID, r.Seq)
			}
		}
	}
	named := map[uint64]bool{}
	for _, g := range s.Gaps() {
		for seq := g.FirstSeq; seq <= g.LastSeq; seq++ {
			lsn := l.baseOf(g.StreamID) + seq
			named[lsn] = true
			if _, promised := l.promised[lsn]; g.Reason != Evicted && (promised && !l.done[lsn] || g.Reason == Damaged) {
				l.fault("LSN %d (%s %d) is named %s", lsn, g.StreamID, seq, g.Reason)
			}
			if present[lsn] {
				l.fault("LSN %d is there and named", lsn)
			}
		}
	}
	for lsn := range l.promised {
		if !present[lsn] && !named[lsn] && !l.done[lsn] {
			l.fault("LSN %d was promised and is neither there nor named", lsn)
		}
	}
}
