package spool

import (
	"bytes"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// What is too old goes, oldest first, and is named; what comes behind a record whose age is
// not known stays.
func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := func(payload []byte) bool { return bytes.HasPrefix(payload, []byte("old")) }
		s, err := Open("/d", Options{StreamID: "one", fs: newMemFS()})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.Expire(old)
		for _, text := range []string{"old", "old", "young", "old"} {
			mustAppend(t, s, Telemetry, text)
		}
		mustAppend(t, s, Event, "old")
		time.Sleep(ageEvery + time.Second)
		synctest.Wait()
		if got := waitingIn(t, s); !slices.Equal(got, []string{"3:young", "4:old"}) {
			t.Errorf("%v", got)
		}
		if g := s.Gaps(); !slices.Equal(g, []Gap{{"one", 1, 2, Evicted}, {"one", 5, 5, Evicted}}) {
			t.Errorf("%v", g)
		}
		s.Ack(3)
		time.Sleep(2 * ageEvery)
		synctest.Wait()
		if got := waitingIn(t, s); len(got) > 0 {
			t.Errorf("%v", got)
		}
	})
}

// So does what is in memory alone.
func TestAgeOfHeld(t *testing.T) {
	disk := &faulty{}
	s := openOn(t, t.TempDir(), "one", disk)
	disk.set(syscall.EIO)
	mustAppend(t, s, Telemetry, "old")
	s.Expire(func([]byte) bool { return true })
	s.wmu.Lock()
	s.aged = time.Time{}
	s.giveUpOld()
	s.wmu.Unlock()
	if st := s.Stats(); st.Held != 0 || len(s.Gaps()) != 1 {
		t.Errorf("%+v %v", st, s.Gaps())
	}
	disk.set(nil)
}
