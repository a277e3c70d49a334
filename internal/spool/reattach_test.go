package spool

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A directory that is removed is made anew; what was in it is named, what is in memory goes on.
func TestDirectoryRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir, "one", 0)
	mustAppend(t, s, Telemetry, "gone")
	done := mustAppend(t, s, Event, "delivered")
	s.Ack(done.LSN)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, Telemetry, "held")
	if trouble, ok := s.Trouble(); !ok || trouble.State != Gone {
		t.Fatalf("%v %v", trouble, ok)
	}
	again(s)
	if trouble, ok := s.Trouble(); ok {
		t.Fatal(trouble)
	}
	mustAppend(t, s, Event, "after")
	check := func() {
		t.Helper()
		if got := waitingIn(t, s); !slices.Equal(got, []string{"3:held", "4:after"}) {
			t.Errorf("%v", got)
		}
		if g := s.Gaps(); len(g) != 1 || g[0] != (Gap{"one", 1, 1, Damaged}) {
			t.Errorf("%v", g)
		}
	}
	check()
	if _, err := Open(dir, Options{StreamID: "other"}); err == nil {
		t.Error("the new directory is not locked")
	}
	s.Close()
	s = open(t, dir, "two", 0)
	check()
}

// A directory that was away for a while, as on a disk that was pulled, is gone on with.
func TestDirectoryAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir, "one", 0)
	mustAppend(t, s, Telemetry, "before")
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // nor can it be made
		t.Fatal(err)
	}
	mustAppend(t, s, Telemetry, "meanwhile")
	again(s)
	if trouble, ok := s.Trouble(); !ok || trouble.State != Gone {
		t.Fatalf("%v %v", trouble, ok)
	}
	if err := errors.Join(os.Remove(dir), os.Rename(dir+".away", dir)); err != nil {
		t.Fatal(err)
	}
	again(s)
	if trouble, ok := s.Trouble(); ok {
		t.Fatal(trouble)
	}
	mustAppend(t, s, Telemetry, "after")
	want := []string{"1:before", "2:meanwhile", "3:after"}
	if got := waitingIn(t, s); !slices.Equal(got, want) || len(s.Gaps()) > 0 {
		t.Errorf("%v %v", got, s.Gaps())
	}
	s.Close()
	s = open(t, dir, "two", 0)
	if got := waitingIn(t, s); !slices.Equal(got, want) || len(s.Gaps()) > 0 {
		t.Errorf("%v %v", got, s.Gaps())
	}
}

// A directory that comes back with another run's records is not written to.
func TestDirectoryOfAnother(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir, "one", 0)
	mustAppend(t, s, Telemetry, "ours")
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	other := open(t, dir, "other", 0)
	mustAppend(t, other, Telemetry, "theirs")
	other.Close()
	mustAppend(t, s, Telemetry, "held")
	again(s)
	trouble, ok := s.Trouble()
	if _, foreign := errors.AsType[*ForeignError](trouble.Err); !ok || !foreign {
		t.Errorf("%v %v", trouble, ok)
	}
	if r, ok, err := s.Next(Telemetry, 1); err != nil || !ok || string(r.Payload) != "held" {
		t.Errorf("%v %v %v", r, ok, err)
	}
	if err := s.Close(); err == nil {
		t.Error("closed without a word")
	}
}
