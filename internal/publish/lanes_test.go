package publish

import (
	"errors"
	"slices"
	"testing"
	"time"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// buffer opens a real spool and returns how to append a batch of a boot and age, and an
// event.
func buffer(t *testing.T, now *time.Duration) (*spool.Spool, func(boot string, newest time.Duration) uint64, func(emergency bool) uint64) {
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
	event := func(emergency bool) uint64 {
		return put(spool.Event, telemetry.Record{VehicleID: "van-1", BootID: "boot", Newest: *now, Emergency: emergency})
	}
	return s, batch, event
}

func all(t *testing.T, l *lanes) (order []string, lsns []uint64) {
	t.Helper()
	for {
		p, ok, err := l.next(backlog)
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
	e := event(false)
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
	if p, ok, err := l.next(timely); ok || err != nil {
		t.Errorf("%+v, %v", p, err)
	}
	if _, ok, _ := l.next(backlog); !ok {
		t.Error("the backlog is not offered")
	}
}

// lanesOn are lanes on a clock of the test's.
func lanesOn(s *spool.Spool, now *time.Duration) *lanes {
	return newLanes(s, telemetry.NewClock(telemetry.ClockConfig{BootID: "boot", Uptime: func() time.Duration { return *now }, System: func() telemetry.SystemTime { return telemetry.SystemTime{} }}))
}

// Emergencies go first, whenever they were recorded, and again first after a loss.
func TestEmergenciesFirst(t *testing.T) {
	now := 100 * time.Second
	s, batch, event := buffer(t, &now)
	old, e1, sos1 := batch("another boot", 0), event(false), event(true)
	l := lanesOn(s, &now)
	young, e2, sos2 := batch("boot", now), event(false), event(true)
	l.connected()
	order, lsns := all(t, l)
	if want := []string{"events", "events", "telemetry", "events", "events", "backfill"}; !slices.Equal(order, want) {
		t.Errorf("lanes %v", order)
	}
	if want := []uint64{sos1, sos2, young, e1, e2, old}; !slices.Equal(lsns, want) {
		t.Errorf("order %v, want %v", lsns, want)
	}
	sos3 := event(true)
	if p, ok, err := l.next(emergencies); !ok || err != nil || p.lsn != sos3 || !p.urgent {
		t.Errorf("%+v, %v", p, err)
	}
	l.acknowledged(sos1)
	l.acknowledged(young)
	l.connected()
	if _, lsns = all(t, l); !slices.Equal(lsns, []uint64{sos2, sos3, e1, e2, old}) {
		t.Errorf("on the next connection %v", lsns)
	}
	for _, lsn := range lsns {
		l.acknowledged(lsn)
	}
	if len(l.urgent) != 0 || len(l.under) != 0 {
		t.Errorf("%v %v are kept", l.urgent, l.under)
	}
}

// However many emergencies there are, few are in memory, and none is overtaken.
func TestManyEmergencies(t *testing.T) {
	now := 100 * time.Second
	s, batch, event := buffer(t, &now)
	var want []uint64
	e := event(false)
	for range 3 * mostUrgent {
		want = append(want, event(true))
	}
	old := batch("boot", now-time.Second)
	l := lanesOn(s, &now)
	for range 2 { // the first connection is lost with a full window
		l.connected()
		for range window + 2*reserve {
			if p, ok, err := l.next(backlog); !ok || err != nil || !p.urgent {
				t.Fatalf("%+v, %v", p, err)
			}
		}
	}
	l.connected()
	var got []uint64
	for under := []uint64{}; ; {
		p, ok, err := l.next(backlog)
		if err != nil {
			t.Fatal(err)
		}
		if len(l.urgent) > mostUrgent {
			t.Fatalf("%d in memory", len(l.urgent))
		}
		if !ok {
			break
		}
		got = append(got, p.lsn)
		if under = append(under, p.lsn); len(under) > window {
			l.acknowledged(under[0])
			under = under[1:]
		}
	}
	if want = append(want, e, old); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// brokenDisk gives nothing up to an LSN while it fails; what is behind is in memory.
type brokenDisk struct {
	*spool.Spool
	err  error
	upTo uint64
}

func (b *brokenDisk) Next(c spool.Class, after uint64) (spool.Record, bool, error) {
	if b.err != nil && after < b.upTo {
		r, ok, _ := b.Spool.Next(c, b.upTo)
		return r, ok, b.err
	}
	return b.Spool.Next(c, after)
}

// What a broken disk does not give keeps nothing back that is in memory, and comes when the
// disk does.
func TestUnreadable(t *testing.T) {
	now := 100 * time.Second
	s, batch, event := buffer(t, &now)
	lost := []uint64{batch("boot", now), event(true), event(false)}
	disk := &brokenDisk{s, errors.New("input/output error"), lost[2]}
	l := newLanes(disk, telemetry.NewClock(telemetry.ClockConfig{BootID: "boot", Uptime: func() time.Duration { return now }}))
	l.connected()
	fresh, told := batch("boot", now), event(false)
	var got []uint64
	for {
		p, ok, _ := l.next(backlog)
		if !ok {
			break
		}
		got = append(got, p.lsn)
		l.acknowledged(p.lsn)
	}
	if !slices.Equal(got, []uint64{fresh, told}) {
		t.Errorf("while it fails %v, want %d %d", got, fresh, told)
	}
	disk.err = nil
	l.again()
	_, got = all(t, l)
	slices.Sort(got)
	if !slices.Equal(got, lost) {
		t.Errorf("afterwards %v, want %v", got, lost)
	}
}
