package recorder

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// numbering is a store that gives numbers, as the buffer does.
type numbering struct {
	*store
	last uint64
	err  error
}

func (s *numbering) AppendAll(entries []spool.Entry) ([]spool.Record, error) {
	if s.err != nil {
		return nil, s.err
	}
	if _, err := s.store.AppendAll(entries); err != nil {
		return nil, err
	}
	var records []spool.Record
	for _, e := range entries {
		s.last++
		records = append(records, spool.Record{LSN: 100 + s.last, StreamID: "s", Seq: s.last, Class: e.Class, Payload: e.Payload})
	}
	return records, nil
}

// placed is a meaning that knows where the vehicle is.
type placed struct{ nothing }

func (placed) Placed(e telemetry.Event) telemetry.Event {
	e.Position = &telemetry.Position{Latitude: 48, Longitude: 11, AgeMS: 400}
	return e
}

// emitting runs a recorder, and returns what was told of events.
func emitting(t *testing.T, s *numbering, limit int, body func(t *testing.T, r *Recorder, stop func())) (told []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.store = &store{began: time.Now()}
		running(t, New(Config{VehicleID: "van-1", Clock: ofTest(s.store), Store: s, Meaning: placed{}, Interval: 5 * time.Second, Limit: limit, Health: s.store, Log: slog.New(slog.DiscardHandler),
			Happened: func(e telemetry.Event, message []byte) { told = append(told, e.Type+" "+string(message)) }}),
			func(r *Recorder, stop func()) { body(t, r, stop) })
	})
	return told
}

// Who emits an event learns its place when the buffer has it; who wants to hear of events
// gets it as it leaves.
func TestEmit(t *testing.T) {
	s := &numbering{}
	told := emitting(t, s, 0, func(t *testing.T, r *Recorder, stop func()) {
		r.Deliver(reading("3d"))
		r.Event(telemetry.Event{Type: "dtc_appeared", Severity: telemetry.Warning})
		synctest.Wait()
		record, err := r.Emit(t.Context(), telemetry.Event{Type: "emergency", Severity: telemetry.Emergency})
		if err != nil || record.Seq != 2 || record.LSN != 102 || record.StreamID != "s" {
			t.Errorf("%+v, %v", record, err)
		}
		if len(s.got) != 2 { // before the batch is closed
			t.Errorf("it was told of before it was handed over: %q", s.got)
		}
		stop()
		if _, err := r.Emit(t.Context(), telemetry.Event{Type: "late"}); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
	})
	if len(told) != 2 || !strings.HasPrefix(told[0], `dtc_appeared {"schema":1,"vehicle_id":"van-1","stream_id":"s","boot_id":"boot","seq":1,`) ||
		!strings.Contains(told[1], `"seq":2,`) || !strings.Contains(told[1], `"type":"emergency","severity":"emergency","position":{"latitude":48,"longitude":11,"age_ms":400},"data":{}}`) {
		t.Errorf("%q", told)
	}
}

// An event that could not leave is refused, and nobody is told that it happened.
func TestEmitTooLarge(t *testing.T) {
	s := &numbering{}
	told := emitting(t, s, 4096, func(t *testing.T, r *Recorder, _ func()) {
		_, err := r.Emit(t.Context(), telemetry.Event{Type: "emergency", Data: map[string]string{"note": strings.Repeat("x", 4000)}})
		if _, ok := errors.AsType[*TooLargeError](err); !ok {
			t.Errorf("error: %v", err)
		}
		if _, err := r.Emit(t.Context(), telemetry.Event{Type: "emergency", Data: map[string]string{"note": strings.Repeat("x", 3600)}}); err != nil {
			t.Error(err)
		}
	})
	if len(s.got) != 1 || len(told) != 1 || len(told[0]) > len("emergency ")+4096 {
		t.Errorf("recorded %d, told %d", len(s.got), len(told))
	}
}

// What the buffer does not take is no event that happened.
func TestEmitRefusedByBuffer(t *testing.T) {
	s := &numbering{err: errors.New("closed")}
	if told := emitting(t, s, 0, func(t *testing.T, r *Recorder, _ func()) {
		if _, err := r.Emit(t.Context(), telemetry.Event{Type: "emergency"}); !errors.Is(err, s.err) {
			t.Errorf("error: %v", err)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if _, err := r.Emit(ended, telemetry.Event{Type: "emergency"}); err == nil {
			t.Error("no error though nobody waits any more")
		}
	}); told != nil {
		t.Errorf("%q", told)
	}
}
