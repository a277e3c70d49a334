package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// faulty is the operating system's file system; while it is broken, writing fails.
type faulty struct {
	osFS
	mu     sync.Mutex
	broken error
	calm   bool // only what is new fails: a full disk
	torn   bool // a failed sync has reached the disk
}

type faultyFile struct {
	file
	fs *faulty
}

func (f *faulty) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = err
}

func (f *faulty) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.broken
}

func (f *faulty) create(path string) (file, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	g, err := f.osFS.create(path)
	if err != nil {
		return nil, err
	}
	return &faultyFile{g, f}, nil
}

func (f *faulty) open(path string) (file, error) {
	g, err := f.osFS.open(path)
	if err != nil {
		return nil, err
	}
	return &faultyFile{g, f}, nil
}

func (f *faulty) remove(path string) error {
	if err := f.err(); err != nil && !f.calm {
		return err
	}
	return f.osFS.remove(path)
}

func (f *faulty) stands(path string, g file) error { return f.osFS.stands(path, g.(*faultyFile).file) }

func (f *faultyFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.fs.err(); err != nil && !f.fs.calm && !f.fs.torn {
		return 0, err
	}
	return f.file.WriteAt(b, off)
}

func (f *faultyFile) datasync() error {
	if err := f.fs.err(); err != nil && !f.fs.calm {
		return err
	}
	return f.file.datasync()
}

// waiting is all that waits, as "seq:payload", in order.
func waitingIn(t testing.TB, s *Spool) []string {
	t.Helper()
	all := append(drain(t, s, Telemetry), drain(t, s, Event)...)
	slices.SortFunc(all, func(a, b Record) int { return int(a.LSN) - int(b.LSN) })
	var texts []string
	for _, r := range all {
		texts = append(texts, fmt.Sprintf("%d:%s", r.Seq, r.Payload[:min(len(r.Payload), 20)]))
	}
	return texts
}

// again is a try of the disk, as upkeep makes them.
func again(s *Spool) {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	s.tend()
}

// While the disk fails, whichever way, records are offered from memory; when it is back they
// are written, but those that were delivered meanwhile.
func TestDiskFails(t *testing.T) {
	for name, test := range map[string]struct {
		err        error
		calm, torn bool
		state      State
	}{
		"full":                       {syscall.ENOSPC, true, false, Full},
		"read-only":                  {syscall.EROFS, false, false, ReadOnly},
		"failing":                    {syscall.EIO, false, false, Failing},
		"failing after it was there": {syscall.EIO, false, true, Failing},
		"quota":                      {syscall.EDQUOT, true, false, Full},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			disk := &faulty{calm: test.calm, torn: test.torn}
			s := openOn(t, dir, "one", disk)
			var want []string
			for round := range 3 {
				want = append(want, fmt.Sprintf("%d:good%d", mustAppend(t, s, Telemetry, fmt.Sprint("good", round)).Seq, round))
				disk.set(test.err)
				if test.calm { // the segment that is there takes more; a new one cannot be made
					s.wmu.Lock()
					s.retire(s.active[Telemetry])
					s.wmu.Unlock()
				}
				mustAppend(t, s, Telemetry, fmt.Sprint("held", round))
				delivered := mustAppend(t, s, Event, fmt.Sprint("delivered", round))
				event := mustAppend(t, s, Event, fmt.Sprint("event", round))
				if trouble, ok := s.Trouble(); !ok || trouble.State != test.state || !errors.Is(trouble.Err, test.err) {
					t.Fatalf("trouble %+v %v", trouble, ok)
				}
				if st := s.Stats(); st.Held != 3 {
					t.Fatalf("%+v", st)
				}
				again(s)
				if r, ok, err := s.Get(event.LSN); err != nil || !ok || string(r.Payload) != fmt.Sprint("event", round) {
					t.Fatalf("Get = %v %v %v", r, ok, err)
				}
				s.Ack(delivered.LSN)
				want = append(want, fmt.Sprintf("%d:held%d", event.Seq-2, round), fmt.Sprintf("%d:event%d", event.Seq, round))
				if got := waitingIn(t, s); !slices.Equal(got, want) {
					t.Fatalf("while it fails %v, want %v", got, want)
				}
				disk.set(nil)
				again(s)
				if trouble, ok := s.Trouble(); ok {
					t.Fatalf("trouble %v", trouble)
				}
				if st := s.Stats(); st.Held != 0 || st.Records != uint64(len(want)) {
					t.Fatalf("%+v, want %d records", st, len(want))
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir, "two", 0)
			if got := waitingIn(t, s); !slices.Equal(got, want) || len(s.Gaps()) > 0 {
				t.Errorf("afterwards %v, want %v, gaps %v", got, want, s.Gaps())
			}
		})
	}
}

// Memory is bounded: the oldest telemetry goes, named; events stay.
func TestHeldIsBounded(t *testing.T) {
	disk := &faulty{}
	s := openOn(t, t.TempDir(), "one", disk)
	disk.set(syscall.EIO)
	mustAppend(t, s, Event, "event")
	for range 100 {
		mustAppend(t, s, Telemetry, strings.Repeat("x", 60_000))
	}
	st := s.Stats()
	if st.HeldBytes > maxHeld || st.HeldBytes < maxHeld-60_000 || st.Evicted == 0 {
		t.Errorf("%+v", st)
	}
	gaps := s.Gaps()
	if len(gaps) != 1 || gaps[0] != (Gap{"one", 2, 1 + st.Evicted, Evicted}) {
		t.Errorf("gaps %v", gaps)
	}
	if n := len(drain(t, s, Event)); n != 1 {
		t.Errorf("%d events", n)
	}
	if n := len(drain(t, s, Telemetry)); uint64(n) != 100-st.Evicted {
		t.Errorf("%d telemetry", n)
	}
	disk.set(nil)
	again(s)
	if st := s.Stats(); st.Held != 0 || st.Records != 101-st.Evicted {
		t.Errorf("%+v", st)
	}
}

// On a full disk the place of the oldest telemetry takes the newest, once memory is full.
func TestFullDiskRotates(t *testing.T) {
	dir := t.TempDir()
	disk := &faulty{calm: true}
	s := openOn(t, dir, "one", disk)
	payload := strings.Repeat("x", 60_000)
	for range 20 {
		mustAppend(t, s, Telemetry, payload)
	}
	size := s.Stats().Bytes
	disk.set(syscall.ENOSPC)
	for range 100 {
		mustAppend(t, s, Telemetry, payload)
	}
	st := s.Stats()
	if st.Bytes > size || st.HeldBytes > maxHeld {
		t.Errorf("%+v", st)
	}
	last := s.durable
	if last < 40 {
		t.Errorf("on disk up to %d of 120", last)
	}
	crash(s)
	_ = s.letGo()
	s = open(t, dir, "two", 0) // what was in memory alone is named, for the disk could tell of it
	have := map[uint64]string{}
	for _, r := range drain(t, s, Telemetry) {
		have[r.Seq] = "there"
	}
	for _, g := range s.Gaps() {
		for seq := g.FirstSeq; seq <= g.LastSeq; seq++ {
			if have[seq] != "" {
				t.Errorf("seq %d is %s and %s", seq, have[seq], g.Reason)
			}
			have[seq] = g.Reason
		}
	}
	for seq := uint64(1); seq <= last; seq++ {
		if have[seq] != "there" && have[seq] != Evicted {
			t.Errorf("seq %d is %q", seq, have[seq])
		}
	}
}

// While all is delivered, a full disk is not even noticed: what is spent is written anew.
func TestFullDiskWhileDelivered(t *testing.T) {
	disk := &faulty{calm: true}
	s := openOn(t, t.TempDir(), "one", disk)
	for n := range 200 {
		if n == 20 {
			disk.set(syscall.ENOSPC)
		}
		s.Ack(mustAppend(t, s, Telemetry, strings.Repeat("x", 60_000)).LSN)
		if trouble, ok := s.Trouble(); ok {
			t.Fatalf("after %d: %v", n, trouble)
		}
	}
	if st := s.Stats(); st.Bytes > 5*segmentSize {
		t.Errorf("%+v", st)
	}
}

// A start on a disk that cannot be written begins in memory.
func TestStartOnReadOnly(t *testing.T) {
	for _, fresh := range []bool{false, true} {
		dir := t.TempDir()
		if !fresh {
			s := open(t, dir, "one", 0)
			mustAppend(t, s, Telemetry, "old")
			s.Close()
		}
		disk := &faulty{broken: syscall.EROFS}
		s := openOn(t, dir, "two", disk)
		mustAppend(t, s, Event, "new")
		want := []string{"1:new"}
		if !fresh {
			want = []string{"1:old", "1:new"}
		}
		if got := waitingIn(t, s); !slices.Equal(got, want) {
			t.Errorf("fresh %v: %v", fresh, got)
		}
		if trouble, ok := s.Trouble(); !ok || trouble.State != ReadOnly {
			t.Errorf("%v %v", trouble, ok)
		}
		disk.set(nil)
		again(s)
		if trouble, ok := s.Trouble(); ok {
			t.Error(trouble)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		s = open(t, dir, "three", 0)
		if got := waitingIn(t, s); !slices.Equal(got, want) {
			t.Errorf("fresh %v, afterwards: %v", fresh, got)
		}
	}
}

// What cannot be read, in place of what can be, does not keep records in memory back.
func TestUnreadable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	disk := &unreadable{}
	s := openOn(t, dir, "one", disk)
	old := mustAppend(t, s, Event, "old")
	s.Close()
	s = openOn(t, dir, "two", disk)
	disk.set(syscall.EIO)
	held := mustAppend(t, s, Event, "held")
	r, ok, err := s.Next(Event, 0)
	if !ok || string(r.Payload) != "held" || !errors.Is(err, syscall.EIO) {
		t.Errorf("%v %v %v", r, ok, err)
	}
	s.Ack(held.LSN)
	disk.set(nil)
	again(s)
	if r, ok, err = s.Next(Event, 0); err != nil || !ok || r.LSN != old.LSN {
		t.Errorf("%v %v %v", r, ok, err)
	}
}

// unreadable cannot even be read while it is broken.
type unreadable struct{ faulty }

func (u *unreadable) open(path string) (file, error) {
	if err := u.err(); err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return u.faulty.open(path)
}

// The same on a file system that the kernel has made read-only, where root may do that.
func TestStartOnReadOnlyMount(t *testing.T) {
	if os.Getenv("SPOOL_TEST_MOUNT") == "" {
		cmd := exec.Command("unshare", "--mount", os.Args[0], "-test.run=^TestStartOnReadOnlyMount$", "-test.v")
		cmd.Env = append(os.Environ(), "SPOOL_TEST_MOUNT="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if os.Geteuid() != 0 {
			t.Logf("needs root: %s", out)
			return
		}
		if err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	top := os.Getenv("SPOOL_TEST_MOUNT")
	if err := unix.Mount("none", top, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("", top, "", unix.MS_REMOUNT|flags, "size=8m"); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(top, "state")
	s := open(t, dir, "one", 0)
	mustAppend(t, s, Telemetry, "old")
	s.Close()
	remount(unix.MS_RDONLY)
	s = open(t, dir, "two", 0)
	delivered := mustAppend(t, s, Event, "delivered")
	mustAppend(t, s, Event, "new")
	s.Ack(delivered.LSN)
	want := []string{"1:old", "2:new"}
	if got := waitingIn(t, s); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if trouble, ok := s.Trouble(); !ok || trouble.State != ReadOnly {
		t.Errorf("%+v %v", trouble, ok)
	}
	remount(0)
	again(s)
	if trouble, ok := s.Trouble(); ok {
		t.Errorf("%+v", trouble)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s = open(t, dir, "three", 0)
	if got := waitingIn(t, s); !slices.Equal(got, want) || len(s.Gaps()) > 0 {
		t.Errorf("%v %v", got, s.Gaps())
	}
	s.Close()
}

// What was delivered from memory does not look lost when the power fails right after newer
// records reached the disk.
func TestDeliveredFromMemory(t *testing.T) {
	dir := t.TempDir()
	disk := &faulty{}
	s := openOn(t, dir, "one", disk)
	mustAppend(t, s, Event, "before")
	disk.set(syscall.EIO)
	delivered := mustAppend(t, s, Event, "delivered")
	mustAppend(t, s, Event, "held")
	s.Ack(delivered.LSN)
	disk.set(nil)
	s.wmu.Lock()
	err := s.restore()
	s.wmu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	crash(s)
	_ = s.letGo()
	s = open(t, dir, "two", 0)
	if got := waitingIn(t, s); !slices.Equal(got, []string{"1:before", "3:held"}) || len(s.Gaps()) > 0 {
		t.Errorf("%v, gaps %v", got, s.Gaps())
	}
}

// A PUBACK may come while the record is being written from memory.
func TestDeliveredWhileWritten(t *testing.T) {
	disk := &faulty{}
	s := openOn(t, t.TempDir(), "one", disk)
	disk.set(syscall.EIO)
	r := mustAppend(t, s, Event, "delivered")
	mustAppend(t, s, Event, "waits")
	disk.set(nil)
	s.wmu.Lock()
	s.mu.Lock()
	group := slices.Clone(s.held)
	s.mu.Unlock()
	s.Ack(r.LSN) // writeHeld has taken it already
	_, err := s.write(group)
	s.wmu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Records != 1 || st.Held != 0 {
		t.Errorf("%+v", st)
	}
}
