package spool

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// deadSpot is a disk on which one file cannot be read.
type deadSpot struct {
	osFS
	name atomic.Value // of the file
}

type deadFile struct {
	osFile
	disk *deadSpot
}

func (d *deadSpot) open(path string) (file, error) {
	f, err := d.osFS.open(path)
	if err != nil {
		return nil, err
	}
	return deadFile{f.(osFile), d}, nil
}

func (f deadFile) ReadAt(b []byte, off int64) (int, error) {
	if filepath.Base(f.Name()) == f.disk.name.Load() {
		return 0, syscall.EIO
	}
	return f.osFile.ReadAt(b, off)
}

// A segment that the card does not give any more holds up those behind it for a while only,
// costs no event that it did not hold, and does not keep a start from succeeding.
func TestDeadSegment(t *testing.T) {
	dir := t.TempDir()
	disk := &deadSpot{}
	disk.name.Store("")
	s, err := Open(dir, Options{StreamID: "one", MaxBytes: 4 << 20, fs: disk})
	if err != nil {
		t.Fatal(err)
	}
	payload := strings.Repeat("x", 5000)
	for range 400 {
		mustAppend(t, s, Telemetry, payload)
	}
	segments := s.logs[Telemetry]
	disk.name.Store(filepath.Base(segments[0].path))
	if _, ok, err := s.Next(Telemetry, 0); ok || !errors.Is(err, syscall.EIO) {
		t.Fatalf("Next = %v %v", ok, err)
	}
	s.Ack(1) // a PUBACK comes late
	event := mustAppend(t, s, Event, "precious")
	if r, ok, err := s.Next(Event, 0); err != nil || !ok || r.LSN != event.LSN {
		t.Errorf("Next = %v %v %v", r.LSN, ok, err)
	}
	s.mu.Lock()
	segments[0].failed = time.Now().Add(-2 * deadAfter)
	second := segments[1].head.first
	s.mu.Unlock()
	if r, ok, err := s.Next(Telemetry, 0); err != nil || !ok || r.LSN != second {
		t.Errorf("Next = %v %v %v, want %d", r.LSN, ok, err, second)
	}
	if g := s.Gaps(); len(g) != 1 || g[0] != (Gap{"one", 2, second - 1, Damaged}) {
		t.Errorf("gaps %v", g)
	}
	newest := filepath.Base(segments[len(segments)-1].path)
	s.Close()
	disk.name.Store(newest)
	s = openOn(t, dir, "two", disk)
	if id, last, ok := s.Previous(); !ok || id != "one" || last != event.Seq {
		t.Errorf("previous %s %d", id, last)
	}
	if r, ok, err := s.Next(Event, 0); err != nil || !ok || string(r.Payload) != "precious" {
		t.Errorf("Next = %v %v %v", r.LSN, ok, err)
	}
}

// A smaller bound is kept to by and by.
func TestSmallerBound(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "one", 0)
	payload := strings.Repeat("x", 5000)
	for range 1500 {
		mustAppend(t, s, Telemetry, payload)
	}
	s.Close()
	s = open(t, dir, "two", 2<<20)
	for range 100 {
		mustAppend(t, s, Telemetry, payload)
	}
	if st := s.Stats(); st.Bytes > 2<<20 {
		t.Errorf("%+v", st)
	}
}

// A disk that is full, then broken, costs nothing that lies on it.
func TestFullThenBroken(t *testing.T) {
	disk := &faulty{calm: true}
	s := openOn(t, t.TempDir(), "one", disk)
	payload := strings.Repeat("x", 5000)
	for range 500 {
		mustAppend(t, s, Telemetry, payload)
	}
	disk.set(syscall.ENOSPC)
	for range 830 {
		mustAppend(t, s, Telemetry, payload)
	}
	segments := len(s.logs[Telemetry])
	disk.mu.Lock()
	disk.calm = false
	disk.mu.Unlock()
	for range 60 {
		mustAppend(t, s, Telemetry, payload)
	}
	if n := len(s.logs[Telemetry]); n != segments || len(s.doomed) > 0 {
		t.Errorf("%d segments of %d are left", n, segments)
	}
	disk.set(nil)
}

// A stop on a full disk keeps what is newest.
func TestCloseOnFull(t *testing.T) {
	dir := t.TempDir()
	disk := &faulty{calm: true}
	s := openOn(t, dir, "one", disk)
	payload := strings.Repeat("x", 5000)
	for range 500 {
		mustAppend(t, s, Telemetry, payload)
	}
	disk.set(syscall.ENOSPC)
	for range 200 {
		mustAppend(t, s, Telemetry, payload)
	}
	if s.Stats().Held == 0 {
		t.Fatal("nothing is in memory")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, "two", 0)
	all := drain(t, s, Telemetry)
	if last := all[len(all)-1]; last.Seq != 700 || slices.ContainsFunc(s.Gaps(), func(g Gap) bool { return g.Reason != Evicted }) {
		t.Errorf("the last is %d; gaps %v", last.Seq, s.Gaps())
	}
}
