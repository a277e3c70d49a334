package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// contents is every file of dir, with its time of change.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	names, err := osFS{}.list(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = fmt.Sprint(info.ModTime(), string(b))
	}
	return all
}

// A view shows what waits, beside the owner, and leaves no trace.
func TestView(t *testing.T) {
	dir := t.TempDir()
	if _, err := View(dir, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a view of nothing: %v", err)
	}
	if names, _ := segmentNames(dir); len(names) > 0 {
		t.Error("it made files")
	}
	s := open(t, dir, "one", 0)
	for i := range 100 {
		r := mustAppend(t, s, Class(i%2), strings.Repeat("x", 5000)+fmt.Sprint(i))
		if i < 10 {
			s.Ack(r.LSN)
		}
	}
	s.wmu.Lock()
	if err := s.save(false); err != nil {
		t.Fatal(err)
	}
	s.wmu.Unlock()
	before := contents(t, dir)
	for range 2 {
		v, err := View(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		waiting := drain(t, v, Telemetry)
		if st := v.Stats(); len(waiting) != 45 || st.Records != 90 || len(v.Gaps()) != 0 || st.LastSeq != 0 {
			t.Errorf("%d records of telemetry, %+v, gaps %v", len(waiting), st, v.Gaps())
		}
		if last := waiting[44]; last.StreamID != "one" || last.Seq != 99 || !strings.HasSuffix(string(last.Payload), "x98") {
			t.Errorf("the last is %s %d", last.StreamID, last.Seq)
		}
		for _, r := range waiting {
			v.Ack(r.LSN)
		}
		if _, err := v.Append(Event, []byte("x")); err == nil {
			t.Error("a view took a record")
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
	if after := contents(t, dir); !maps.Equal(before, after) {
		t.Error("the view changed files")
	}
	s.Close()
	v, err := View(dir, nil) // of a daemon that does not run
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if n := len(drain(t, v, Event)); n != 45 {
		t.Errorf("%d events", n)
	}
}

// Beside an owner that appends, acknowledges, evicts and removes, a view names nothing as
// lost and shows no wrong record.
func TestViewOfMoving(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "one", 2<<20)
	mustAppend(t, s, Telemetry, "1")
	stop := make(chan struct{})
	var owner sync.WaitGroup
	owner.Go(func() {
		for n := uint64(2); ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			r, err := s.Append(Telemetry, fmt.Appendf(nil, "%d%s", n, strings.Repeat(" ", int(n%4000))))
			if err != nil || r.LSN != n {
				t.Errorf("append %d: %v", n, err)
				return
			}
			if n%3 > 0 {
				s.Ack(n - n%100)
			}
		}
	})
	for range 50 {
		v, err := View(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range v.Gaps() {
			if g.Reason != Evicted {
				t.Errorf("%+v", g)
			}
		}
		n := 0
		for after := uint64(0); n < 300; n++ {
			r, ok, err := v.Next(Telemetry, after)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if text := strings.TrimRight(string(r.Payload), " "); text != fmt.Sprint(r.LSN) {
				t.Errorf("record %d is %q", r.LSN, text)
			}
			after = r.LSN
		}
		if n == 0 {
			t.Error("nothing in the view")
		}
		v.Close()
	}
	close(stop)
	owner.Wait()
}
