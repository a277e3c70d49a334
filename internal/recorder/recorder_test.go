package recorder

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// store keeps what is appended, with the time of it.
type store struct {
	mu     sync.Mutex
	began  time.Time
	broken error
	got    []string
	at     []time.Duration
	set    int
	clear  int
}

func (s *store) Append(c spool.Class, payload []byte) (spool.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return spool.Record{}, s.broken
	}
	r, err := telemetry.ParseRecord(payload)
	if err != nil {
		return spool.Record{}, err
	}
	s.got = append(s.got, c.String()+" "+string(r.Message("s", 1)))
	s.at = append(s.at, time.Since(s.began))
	return spool.Record{}, nil
}

func (s *store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = err
}

func (s *store) Set(string, telemetry.Condition) { s.set++ }
func (s *store) Clear(string, string)            { s.clear++ }

func recording(t *testing.T, body func(r *Recorder, s *store, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &store{began: time.Now()}
		clock := telemetry.NewClock(telemetry.ClockConfig{BootID: "boot", Uptime: func() time.Duration { return time.Since(s.began) }, System: func() telemetry.SystemTime { return telemetry.SystemTime{Now: time.Now(), Synced: true} }})
		r := New(Config{VehicleID: "van-1", Clock: clock, Store: s, Interval: 5 * time.Second, Health: s, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.Run(ctx) })
		stop := func() {
			synctest.Wait()
			cancel()
			running.Wait()
		}
		body(r, s, stop)
		stop()
	})
}

func reading(text string) telemetry.Reading {
	r := telemetry.Reading{}
	r.AddText("fix", text)
	return r
}

// A batch is closed one interval after its first reading, not by a clock of its own.
func TestInterval(t *testing.T) {
	recording(t, func(r *Recorder, s *store, stop func()) {
		time.Sleep(3 * time.Second)
		r.Deliver(reading("one"))
		time.Sleep(4 * time.Second)
		r.Deliver(reading("two"))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if len(s.got) != 1 || s.at[0] != 8*time.Second || !strings.Contains(s.got[0], "two") {
			t.Errorf("%v at %v", s.got, s.at)
		}
	})
}

func TestSizeLimit(t *testing.T) {
	recording(t, func(r *Recorder, s *store, stop func()) {
		for range 40 {
			r.Deliver(reading(strings.Repeat("x", 4000)))
		}
		synctest.Wait()
		if len(s.got) < 2 {
			t.Errorf("%d batches", len(s.got))
		}
		for _, b := range s.got {
			if len(b) > telemetry.MaxBatchBytes+5000 {
				t.Errorf("a batch of %d bytes", len(b))
			}
		}
	})
}

// The end closes the open batch; what comes after it does not block.
func TestStop(t *testing.T) {
	recording(t, func(r *Recorder, s *store, stop func()) {
		r.Deliver(reading("last"))
		r.Event(telemetry.Event{Type: "bell"})
		stop()
		if len(s.got) != 2 {
			t.Errorf("%v", s.got)
		}
		for range 2 * arriving {
			r.Deliver(reading("late"))
		}
	})
}

// A failing buffer is tried again; order is kept, memory is bounded.
func TestFailingStore(t *testing.T) {
	recording(t, func(r *Recorder, s *store, stop func()) {
		s.fail(errors.New("no space left on device"))
		for _, text := range []string{"one", "two", "three"} {
			r.Deliver(reading(text))
			time.Sleep(6 * time.Second)
		}
		synctest.Wait()
		if len(s.got) != 0 || s.set == 0 {
			t.Errorf("%v, %d", s.got, s.set)
		}
		s.fail(nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		all := strings.Join(s.got, "")
		if len(s.got) != 3 || strings.Index(all, "one") > strings.Index(all, "two") || strings.Index(all, "two") > strings.Index(all, "three") || s.clear == 0 {
			t.Errorf("%v", s.got)
		}
		s.fail(errors.New("input/output error"))
		for range 2000 {
			r.Deliver(reading(strings.Repeat("x", 8000)))
		}
		synctest.Wait()
		if r.bytes > waitingBytes || r.givenUp == 0 {
			t.Errorf("%d bytes wait, %d given up", r.bytes, r.givenUp)
		}
		s.fail(nil)
	})
}

// A correction that was given up, because the buffer failed for too long, is told when it
// takes data again.
func TestCorrectionGivenUp(t *testing.T) {
	s := &store{began: time.Now()}
	system := telemetry.SystemTime{Now: time.Unix(60, 0)}
	clock := telemetry.NewClock(telemetry.ClockConfig{BootID: "boot", Uptime: func() time.Duration { return time.Minute }, System: func() telemetry.SystemTime { return system }})
	r := New(Config{VehicleID: "van-1", Clock: clock, Store: s, Interval: 5 * time.Second, Health: s, Log: slog.New(slog.DiscardHandler)})
	r.Begin(telemetry.Event{Type: "stream_start", Severity: telemetry.Info, At: time.Minute})
	s.fail(errors.New("no space left on device"))
	system = telemetry.SystemTime{Now: time.Now(), Synced: true, MaxError: time.Millisecond}
	for r.correct(); r.givenUp == 0; {
		r.add(reading(strings.Repeat("x", 20000)))
	}
	s.fail(nil)
	for range 3 {
		r.correct()
		r.store()
	}
	if n := strings.Count(strings.Join(s.got, ""), "clock_correction"); n != 1 {
		t.Errorf("%d corrections", n)
	}
	if _, owed := clock.Correction(); owed {
		t.Error("another one is owed")
	}
}
