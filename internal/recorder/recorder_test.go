package recorder

import (
	"context"
	"errors"
	"log/slog"
	"slices"
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
	mu        sync.Mutex
	began     time.Time
	trouble   spool.Trouble
	got       []string
	at        []time.Duration
	groups    int
	condition string
}

func (s *store) AppendAll(entries []spool.Entry) ([]spool.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		r, err := telemetry.ParseRecord(e.Payload)
		if err != nil {
			return nil, err
		}
		s.got = append(s.got, e.Class.String()+" "+string(r.Message("s", 1)))
		s.at = append(s.at, time.Since(s.began))
	}
	s.groups++
	return nil, nil
}

func (s *store) Trouble() (spool.Trouble, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble, s.trouble.Err != nil
}

func (s *store) fail(t spool.Trouble) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = t
}

func (s *store) Set(_ string, c telemetry.Condition) { s.condition = c.Code }
func (s *store) Clear(string, string)                { s.condition = "" }

func recording(t *testing.T, body func(r *Recorder, s *store, stop func())) {
	t.Helper()
	recordingFew(t, nil, body)
}

func recordingFew(t *testing.T, few func() bool, body func(r *Recorder, s *store, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &store{began: time.Now()}
		running(t, New(Config{VehicleID: "van-1", Clock: ofTest(s), Store: s, Interval: 5 * time.Second, Few: few, Health: s, Log: slog.New(slog.DiscardHandler)}),
			func(r *Recorder, stop func()) { body(r, s, stop) })
	})
}

// running runs a recorder in a bubble. stop lets it take what was delivered and ends it.
func running(t *testing.T, r *Recorder, body func(r *Recorder, stop func())) {
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { r.Run(ctx) })
	stop := func() {
		synctest.Wait()
		cancel()
		done.Wait()
	}
	body(r, stop)
	stop()
}

func ofTest(s *store) *telemetry.Clock {
	return telemetry.NewClock(telemetry.ClockConfig{BootID: "boot", Uptime: func() time.Duration { return time.Since(s.began) },
		System: func() telemetry.SystemTime { return telemetry.SystemTime{Now: time.Now(), Synced: true} }})
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

// A batch is closed before a reading would take it over the limit, and the next one has an
// interval of its own. A reading that no batch can hold is left out.
func TestSizeLimit(t *testing.T) {
	recording(t, func(r *Recorder, s *store, stop func()) {
		for range 40 {
			time.Sleep(200 * time.Millisecond)
			fix := reading(strings.Repeat("x", 4000))
			fix.Arrived = time.Since(s.began)
			r.Deliver(fix)
		}
		r.Deliver(reading(strings.Repeat("x", telemetry.MaxBatchBytes)))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if len(s.got) != 3 {
			t.Fatalf("%d batches", len(s.got))
		}
		for i, b := range s.got {
			b = strings.TrimPrefix(b, "telemetry ")
			if n := strings.Count(b, `"fix"`); len(b) > telemetry.MaxBatchBytes || n != []int{16, 16, 8}[i] {
				t.Errorf("a batch of %d bytes and %d readings", len(b), n)
			}
		}
		// The first one begins at 0.2 s, the next at the reading that had no room, each 16
		// readings later; the last one waits for its interval.
		if want := []time.Duration{3400 * time.Millisecond, 6600 * time.Millisecond, 11600 * time.Millisecond}; !slices.Equal(s.at, want) {
			t.Errorf("closed at %v, want %v", s.at, want)
		}
	})
}

// A limit that is lower, for what a broker takes, is kept to as exactly.
func TestLowerLimit(t *testing.T) {
	recording(t, func(r *Recorder, s *store, stop func()) {
		r.Limit = 4096 // nothing was delivered yet
		for range 20 {
			time.Sleep(100 * time.Millisecond)
			fix := reading(strings.Repeat("x", 1000))
			fix.Arrived = time.Since(s.began)
			r.Deliver(fix)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if len(s.got) != 7 {
			t.Errorf("%d batches", len(s.got))
		}
		for _, b := range s.got {
			if b = strings.TrimPrefix(b, "telemetry "); len(b) > 4096 {
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

// What comes at once is handed over at once, so that it shares a sync.
func TestEventsAtOnce(t *testing.T) {
	s := &store{began: time.Now()}
	r := New(Config{VehicleID: "van-1", Clock: ofTest(s), Store: s, Interval: 5 * time.Second, Health: s, Log: slog.New(slog.DiscardHandler)})
	for range 5 {
		r.Event(telemetry.Event{Type: "dtc_appeared"})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	for len(r.events) > 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	running.Wait()
	if len(s.got) != 5 || s.groups != 1 {
		t.Errorf("%d events in %d groups", len(s.got), s.groups)
	}
}

// A disk that fails is told of, whichever way it does, until it is back; readings go on.
func TestFailingStore(t *testing.T) {
	recording(t, func(r *Recorder, s *store, stop func()) {
		for state, code := range map[spool.State]string{
			spool.Full: "disk_full", spool.ReadOnly: "disk_read_only", spool.Gone: "state_dir_gone", spool.Denied: "state_dir_denied", spool.Failing: "buffer_failing",
		} {
			before := len(s.got)
			s.fail(spool.Trouble{State: state, Err: errors.New("it fails")})
			r.Deliver(reading("one"))
			time.Sleep(6 * time.Second)
			synctest.Wait()
			if s.condition != code || len(s.got) != before+1 {
				t.Errorf("%s: condition %q, %d batches", state, s.condition, len(s.got)-before)
			}
			s.fail(spool.Trouble{})
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if s.condition != "" {
				t.Errorf("%s: condition %q stays", state, s.condition)
			}
		}
	})
}

// A correction is told once.
func TestCorrection(t *testing.T) {
	s := &store{began: time.Now()}
	system := telemetry.SystemTime{Now: time.Unix(60, 0)}
	clock := telemetry.NewClock(telemetry.ClockConfig{BootID: "boot", Uptime: func() time.Duration { return time.Minute }, System: func() telemetry.SystemTime { return system }})
	r := New(Config{VehicleID: "van-1", Clock: clock, Store: s, Interval: 5 * time.Second, Health: s, Log: slog.New(slog.DiscardHandler)})
	r.Begin(telemetry.Event{Type: "stream_start", Severity: telemetry.Info, At: time.Minute})
	system = telemetry.SystemTime{Now: time.Now(), Synced: true, MaxError: time.Millisecond}
	for range 3 {
		r.correct()
	}
	if n := strings.Count(strings.Join(s.got, ""), "clock_correction"); n != 1 {
		t.Errorf("%d corrections", n)
	}
	if _, owed := clock.Correction(); owed {
		t.Error("another one is owed")
	}
}
