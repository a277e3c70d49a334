package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("SPOOL_TEST_APPEND"); dir != "" {
		appendForEver(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, dir, stream string, size int64) *Spool {
	t.Helper()
	s, err := Open(dir, Options{StreamID: stream, MaxBytes: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// openOn is open on a disk of the test's.
func openOn(t testing.TB, dir, stream string, disk fsys) *Spool {
	t.Helper()
	s, err := Open(dir, Options{StreamID: stream, fs: disk})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mustAppend(t testing.TB, s *Spool, c Class, payload string) Record {
	t.Helper()
	r, err := s.Append(c, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// drain reads all that waits in a class.
func drain(t testing.TB, s *Spool, c Class) (all []Record) {
	t.Helper()
	for after := uint64(0); ; {
		r, ok, err := s.Next(c, after)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return all
		}
		if r.LSN <= after {
			t.Fatalf("Next(%d) returned LSN %d", after, r.LSN)
		}
		after = r.LSN
		all = append(all, r)
	}
}

func TestStreamsChain(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "one", 0)
	if _, _, ok := s.Previous(); ok {
		t.Error("the first stream has a predecessor")
	}
	mustAppend(t, s, Event, "start")
	if r := mustAppend(t, s, Telemetry, "a"); r.Seq != 2 || r.StreamID != "one" {
		t.Errorf("%+v", r)
	}
	s.Close()

	s = open(t, dir, "silent", 0) // ends without a record: nobody hears of it
	s.Close()

	s = open(t, dir, "two", 0)
	if id, last, ok := s.Previous(); !ok || id != "one" || last != 2 {
		t.Errorf("Previous = %s %d %v", id, last, ok)
	}
	if r := mustAppend(t, s, Telemetry, "b"); r.Seq != 1 || r.LSN != 3 {
		t.Errorf("%+v", r)
	}
	got := drain(t, s, Telemetry)
	if len(got) != 2 || got[0].StreamID != "one" || got[0].Seq != 2 || string(got[0].Payload) != "a" || got[1].StreamID != "two" {
		t.Errorf("%+v", got)
	}
	for _, r := range append(got, drain(t, s, Event)...) {
		s.Ack(r.LSN)
	}
	s.Close()

	s = open(t, dir, "three", 0) // all acknowledged: positions and the chain go on
	if id, last, ok := s.Previous(); !ok || id != "two" || last != 1 {
		t.Errorf("Previous = %s %d %v", id, last, ok)
	}
	if r := mustAppend(t, s, Telemetry, "c"); r.LSN != 4 || r.Seq != 1 {
		t.Errorf("%+v", r)
	}
	if n := len(drain(t, s, Telemetry)) + len(drain(t, s, Event)); n != 1 {
		t.Errorf("%d records wait", n)
	}
}

// The spool against a plain model, over any order of appends, acknowledgements and
// starts.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "spool")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		start := 0
		reopen := func(s *Spool) *Spool {
			if s != nil {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			start++
			s, err := Open(dir, Options{StreamID: fmt.Sprint("stream", start)})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := reopen(nil)
		defer func() { s.Close() }()
		var model []Record
		last, seq := uint64(0), uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				c := Class(rapid.IntRange(0, 1).Draw(t, "class"))
				payload := rapid.SliceOfN(rapid.Byte(), 1, 9000).Draw(t, "payload")
				for range rapid.IntRange(1, 8).Draw(t, "times") {
					r, err := s.Append(c, payload)
					if err != nil {
						t.Fatal(err)
					}
					last, seq = last+1, seq+1
					if r.LSN != last || r.Seq != seq || r.StreamID != fmt.Sprint("stream", start) {
						t.Fatalf("position %d/%d, want %d/%d", r.LSN, r.Seq, last, seq)
					}
					r.Payload = bytes.Clone(payload)
					model = append(model, r)
				}
			},
			"ack": func(t *rapid.T) {
				if len(model) == 0 {
					t.Skip("nothing waits")
				}
				from := rapid.IntRange(0, len(model)-1).Draw(t, "from")
				n := rapid.IntRange(1, len(model)-from).Draw(t, "n")
				for _, r := range model[from : from+n] {
					s.Ack(r.LSN)
				}
				model = slices.Delete(model, from, from+n)
			},
			"reopen": func(t *rapid.T) {
				s = reopen(s)
				seq = 0
			},
			"": func(t *rapid.T) {
				for c := range numClasses {
					after := uint64(0)
					for _, want := range model {
						if want.Class != c {
							continue
						}
						got, ok, err := s.Next(c, after)
						if err != nil || !ok || got.LSN != want.LSN || got.Seq != want.Seq || got.StreamID != want.StreamID || !bytes.Equal(got.Payload, want.Payload) {
							t.Fatalf("Next(%v, %d) = %d %v %v, want %d", c, after, got.LSN, ok, err, want.LSN)
						}
						after = got.LSN
					}
					if got, ok, err := s.Next(c, after); ok || err != nil {
						t.Fatalf("%v: record %d too many, %v", c, got.LSN, err)
					}
				}
				if st := s.Stats(); st.Records != uint64(len(model)) || st.LastSeq != seq {
					t.Fatalf("Stats %+v, want %d records, last seq %d", st, len(model), seq)
				}
				if g := s.Gaps(); len(g) > 0 {
					t.Fatalf("gaps %v", g)
				}
			},
		})
	})
}

// At the bound the oldest telemetry goes, events stay, and all that goes is named.
func TestEviction(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "one", minBytes)
	payload := strings.Repeat("x", 4000)
	events := map[uint64]bool{}
	var lastSeq uint64
	for i := range 1000 {
		c := Telemetry
		if i%100 == 0 {
			c = Event
		}
		r := mustAppend(t, s, c, payload)
		lastSeq = r.Seq
		if c == Event {
			events[r.Seq] = true
		}
		if st := s.Stats(); st.Bytes > minBytes {
			t.Fatalf("%d bytes, the bound is %d", st.Bytes, int64(minBytes))
		}
	}
	check := func(s *Spool) {
		t.Helper()
		have := map[uint64]string{}
		for _, r := range append(drain(t, s, Telemetry), drain(t, s, Event)...) {
			have[r.Seq] = "present"
		}
		for seq := range events {
			if have[seq] == "" {
				t.Errorf("event %d is gone", seq)
			}
		}
		for _, g := range s.Gaps() {
			if g.StreamID != "one" || g.Reason != Evicted {
				t.Errorf("gap %+v", g)
			}
			for seq := g.FirstSeq; seq <= g.LastSeq; seq++ {
				if have[seq] != "" {
					t.Errorf("seq %d is %s and named in a gap", seq, have[seq])
				}
				have[seq] = "named"
			}
		}
		for seq := uint64(1); seq <= lastSeq; seq++ {
			if have[seq] == "" {
				t.Errorf("seq %d is neither present nor named", seq)
			}
		}
	}
	check(s)
	s.Close()
	s = open(t, dir, "two", minBytes)
	check(s)
	if err := s.ForgetGaps(s.Gaps()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, dir, "three", minBytes)
	if g := s.Gaps(); len(g) != 0 {
		t.Errorf("gaps after ForgetGaps: %v", g)
	}
	drain(t, s, Telemetry)
	if g := s.Gaps(); len(g) != 0 {
		t.Errorf("gaps after reading: %v", g)
	}
}

// Acknowledged segments give their space back.
func TestSpaceComesBack(t *testing.T) {
	s := open(t, t.TempDir(), "one", 0)
	for range 2000 {
		s.Ack(mustAppend(t, s, Telemetry, strings.Repeat("x", 1000)).LSN)
	}
	s.wmu.Lock()
	err := s.upkeep()
	s.wmu.Unlock()
	if st := s.Stats(); err != nil || st.Bytes > (2+maxSpares)*segmentSize || st.Records != 0 {
		t.Errorf("%v, %+v", err, st)
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, "one", 0)
	_, err := Open(dir, Options{StreamID: "two"})
	if le, ok := errors.AsType[*LockedError](err); !ok || le.PID != os.Getpid() {
		t.Errorf("Open = %v", err)
	}
}

func TestOtherFormat(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "format"), []byte("telemetryd spool 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir, Options{StreamID: "two"})
	if fe, ok := errors.AsType[*FormatError](err); !ok || !strings.Contains(err.Error(), "format 2") || fe.Dir != dir {
		t.Errorf("Open = %v", err)
	}
}

func TestNoPermission(t *testing.T) {
	_, err := Open("/dir", Options{StreamID: "one", fs: &denied{}})
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Open = %v", err)
	}
}

type denied struct{ osFS }

func (denied) mkdirAll(string) error { return fs.ErrPermission }
