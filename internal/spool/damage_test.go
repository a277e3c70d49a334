package spool

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A buffer of two segments of records, one of which damage is done to.
const (
	damagedRecords = 400
	damagedFrame   = frameHeader + 700
)

func damagedPayload(seq uint64) string { return fmt.Sprintf("%0700d", seq) }

// places are where the frames of each segment begin.
func places(s *Spool) (at [][]int) {
	for _, seg := range s.logs[Telemetry] {
		var offs []int
		for _, e := range seg.idx {
			offs = append(offs, int(e.off))
		}
		at = append(at, offs)
	}
	return at
}

// TestDamage does what happens to a card to a buffer, at random places: it opens, no wrong
// record comes, at most what was touched is lost, and that is named. The newest record alone
// may be lost without a name: it looks like one that was never written whole, and the next
// stream_start tells the last that is there.
func TestDamage(t *testing.T) {
	pristine := t.TempDir()
	s := open(t, pristine, "one", 0)
	for seq := range uint64(damagedRecords) {
		mustAppend(t, s, Telemetry, damagedPayload(seq+1))
	}
	frames := places(s)
	crash(s) // acks know of none of them
	_ = s.letGo()
	segments, err := segmentNames(pristine)
	if err != nil || len(segments) != 2 {
		t.Fatal(segments, err)
	}
	coin := rand.New(rand.NewPCG(1, 2))
	clearing := func(n int) func(b []byte, end int) (lo, hi int) {
		return func(b []byte, end int) (lo, hi int) {
			lo = coin.IntN(end/n+1) * n
			hi = min(lo+n, len(b))
			clear(b[lo:hi])
			return lo, hi
		}
	}
	for name, damage := range map[string]func(b []byte, end int) (lo, hi int){
		"bit flip": func(b []byte, end int) (lo, hi int) {
			at := coin.IntN(end)
			b[at] ^= 1 << coin.IntN(8)
			return at, at + 1
		},
		"512 bytes zeroed": clearing(512),
		"4 KiB zeroed":     clearing(4096),
		"tail zeroed": func(b []byte, end int) (lo, hi int) {
			lo = end - coin.IntN(8*damagedFrame)
			clear(b[lo:])
			return lo, len(b)
		},
		"tail torn off": func(b []byte, end int) (lo, hi int) {
			return end - coin.IntN(8*damagedFrame), -1
		},
	} {
		t.Run(name, func(t *testing.T) {
			lostInAll, worst := 0, 0
			for range 200 {
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(pristine)); err != nil {
					t.Fatal(err)
				}
				which := coin.IntN(2)
				path := filepath.Join(dir, segments[which])
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				at := frames[which]
				last := at[len(at)-1]
				lo, hi := damage(b, last+damagedFrame)
				if hi < 0 {
					b, hi = b[:lo], len(b)
				}
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
				touched := 0
				for _, at := range at {
					if at < hi && at+damagedFrame > lo {
						touched++
					}
				}
				lost := afterDamage(t, dir, which == 1 && hi > last)
				lostInAll, worst = lostInAll+lost, max(worst, lost)
				if lost > touched {
					t.Fatalf("bytes %d to %d of segment %d: %d records lost, %d touched", lo, hi, which, lost, touched)
				}
			}
			t.Logf("200 places: %d records lost, at most %d at once", lostInAll, worst)
		})
	}
}

// afterDamage opens a damaged buffer and returns how many records are lost.
func afterDamage(t *testing.T, dir string, newestHit bool) (lost int) {
	s := open(t, dir, "two", 0)
	defer s.Close()
	mustAppend(t, s, Telemetry, "after")
	_, last, ok := s.Previous()
	if !ok || last > damagedRecords || !newestHit && last != damagedRecords {
		t.Fatalf("previous: %d %v", last, ok)
	}
	seen := map[uint64]bool{}
	for _, r := range drain(t, s, Telemetry) {
		if r.StreamID != "one" {
			continue
		}
		seen[r.Seq] = true
		if string(r.Payload) != damagedPayload(r.Seq) {
			t.Errorf("seq %d has wrong bytes", r.Seq)
		}
	}
	lost = damagedRecords - len(seen)
	for _, g := range s.Gaps() {
		for seq := g.FirstSeq; seq <= g.LastSeq; seq++ {
			if seen[seq] || g.StreamID != "one" {
				t.Errorf("seq %d of %s is named and there", seq, g.StreamID)
			}
			seen[seq] = true
		}
	}
	for seq := uint64(1); seq <= last; seq++ {
		if !seen[seq] {
			t.Errorf("seq %d of %d is neither there nor named", seq, last)
		}
	}
	return lost
}

// What is left of a damaged record is set aside, within a bound, and so is what is refused.
func TestSetAside(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "one", 0)
	for seq := range uint64(100) {
		mustAppend(t, s, Telemetry, damagedPayload(seq+1))
	}
	if err := s.SetAside(7, Refused); err != nil {
		t.Fatal(err)
	}
	at := places(s)[0]
	s.Close()
	path := filepath.Join(dir, segmentName(Telemetry, 1))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for k := 1; k < 99; k += 2 {
		b[at[k]+300] ^= 1
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	aside := func() (names []string) {
		entries, err := os.ReadDir(filepath.Join(dir, asideName))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	if got := aside(); !slices.Equal(got, []string{"t-0000000000000007.refused"}) {
		t.Errorf("%v", got)
	}
	s = open(t, dir, "two", 0)
	if n := len(drain(t, s, Telemetry)); n != 100-49 {
		t.Errorf("%d records", n)
	}
	s.Close()
	names := aside()
	if len(names) != maxAside || s.Stats().Aside != maxAside {
		t.Errorf("%d set aside, %d counted: %v", len(names), s.Stats().Aside, names)
	}
	piece, err := os.ReadFile(filepath.Join(dir, asideName, names[len(names)-1]))
	if err != nil || len(piece) != damagedFrame || !strings.HasSuffix(names[0], ".damaged") {
		t.Errorf("%d bytes, %v, %v", len(piece), err, names)
	}
}

// A segment of which both headers are gone is set aside, and its records are named.
func TestHeaderless(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "one", 0)
	for seq := range uint64(damagedRecords) {
		mustAppend(t, s, Telemetry, damagedPayload(seq+1))
	}
	s.Close()
	path := filepath.Join(dir, segmentName(Telemetry, 1))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(b[:headerSize])
	clear(b[len(b)-headerSize:])
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, "two", 0)
	n := len(drain(t, s, Telemetry))
	if g := s.Gaps(); len(g) != 1 || g[0].Reason != Damaged || int(g[0].LastSeq)+n != damagedRecords {
		t.Errorf("%d records, gaps %v", n, g)
	}
	s.Close()
	if st := s.Stats(); st.Aside != 1 {
		t.Errorf("%+v", st)
	}
}
