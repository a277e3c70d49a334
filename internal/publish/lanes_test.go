package publish

import (
	"slices"
	"testing"
	"time"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// buffer opens a real spool and returns how to append a batch of a boot and age.
func buffer(t *testing.T, now *time.Duration) (*spool.Spool, func(boot string, newest time.Duration) uint64, func() uint64) {
	t.Helper()
	s, err := spool.Open(t.TempDir(), spool.Options{StreamID: "stream"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	put := func(c spool.Class, r telemetry.Record) uint64 {
		payload, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		rec, err := s.Append(c, payload)
		if err != nil {
			t.Fatal(err)
		}
		return rec.LSN
	}
	batch := func(boot string, newest time.Duration) uint64 {
		return put(spool.Telemetry, telemetry.Record{VehicleID: "van-1", BootID: boot, Newest: newest})
	}
	event := func() uint64 {
		return put(spool.Event, telemetry.Record{VehicleID: "van-1", BootID: "boot", Newest: *now})
	}
	return s, batch, event
}

func all(t *testing.T, l *lanes) (order []string, lsns []uint64) {
	t.Helper()
	for {
		p, ok, err := l.next(true)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return order, lsns
		}
		order, lsns = append(order, string(p.lane)), append(lsns, p.lsn)
	}
}

// Live first, then events, then the backlog from its oldest; nothing twice on one
// connection, and all that was not acknowledged again on the next.
func TestLaneOrder(t *testing.T) {
	now := 100 * time.Second
	s, batch, event := buffer(t, &now)
	before := batch("boot", now) // there at the start: backlog, however young
	clock := telemetry.NewClock(telemetry.ClockConfig{BootID: "boot", Uptime: func() time.Duration { return now }, System: func() telemetry.SystemTime { return telemetry.SystemTime{} }})
	l := newLanes(s, clock)
	old := batch("boot", now-fresh-time.Second)
	foreign := batch("another boot", now)
	e := event()
	young1, young2 := batch("boot", now-time.Second), batch("boot", now)
	l.connected()
	order, lsns := all(t, l)
	if want := []string{"telemetry", "telemetry", "events", "backfill", "backfill", "backfill"}; !slices.Equal(order, want) {
		t.Errorf("lanes %v", order)
	}
	if want := []uint64{young1, young2, e, before, old, foreign}; !slices.Equal(lsns, want) {
		t.Errorf("order %v, want %v", lsns, want)
	}
	l.acknowledged(young1)
	l.connected()
	order, lsns = all(t, l)
	if want := []uint64{e, before, old, foreign, young2}; !slices.Equal(lsns, want) || slices.Contains(order, "telemetry") {
		t.Errorf("on the next connection %v %v, want %v", order, lsns, want)
	}
}

// A batch that stays unsent for too long is no longer live; it is backlog.
func TestAgeing(t *testing.T) {
	now := 100 * time.Second
	s, batch, _ := buffer(t, &now)
	l := newLanes(s, telemetry.NewClock(telemetry.ClockConfig{BootID: "boot", Uptime: func() time.Duration { return now }, System: func() telemetry.SystemTime { return telemetry.SystemTime{} }}))
	lsn := batch("boot", now)
	if err := l.follow(); err != nil {
		t.Fatal(err)
	}
	now += fresh + time.Second
	l.connected()
	if order, lsns := all(t, l); !slices.Equal(order, []string{"backfill"}) || lsns[0] != lsn {
		t.Errorf("%v %v", order, lsns)
	}
}

// Without room for backlog only live batches and events are offered.
func TestNoRoomForBacklog(t *testing.T) {
	now := 100 * time.Second
	s, batch, _ := buffer(t, &now)
	batch("boot", now)
	l := newLanes(s, telemetry.NewClock(telemetry.ClockConfig{BootID: "boot", Uptime: func() time.Duration { return now }, System: func() telemetry.SystemTime { return telemetry.SystemTime{} }}))
	l.connected()
	if p, ok, err := l.next(false); ok || err != nil {
		t.Errorf("%+v, %v", p, err)
	}
	if _, ok, _ := l.next(true); !ok {
		t.Error("the backlog is not offered")
	}
}
