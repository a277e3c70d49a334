package telemetry

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// faked is a clock whose every source is the test's.
type faked struct {
	*Clock
	up     time.Duration
	system SystemTime // its Now runs with up
}

func newFaked(boot string, state ClockState) *faked {
	f := &faked{up: 10 * time.Second}
	f.Clock = NewClock(ClockConfig{BootID: boot, State: state,
		Uptime: func() time.Duration { return f.up },
		System: func() SystemTime { return f.system },
	})
	return f
}

// pass lets time pass; the system's clock runs.
func (f *faked) pass(d time.Duration) {
	f.up += d
	f.system.Now = f.system.Now.Add(d)
}

// fixes lets n fixes come, a second apart, each so late behind its time. truth is the
// UTC of time since boot zero.
func (f *faked) fixes(n int, truth time.Time, late ...time.Duration) {
	for i := range n {
		f.pass(time.Second)
		at := f.up.Truncate(time.Second)
		f.Fix(truth.Add(at), at+late[i%len(late)], gpsError)
	}
}

func (f *faked) want(t *testing.T, what string, zero time.Time, within time.Duration, q Quality) {
	t.Helper()
	got, quality := f.Zero()
	if got.Sub(zero).Abs() > within || quality != q {
		t.Errorf("%s: zero is off by %v, clock %s; want within %v, %s", what, got.Sub(zero), quality, within, q)
	}
}

const gpsError = 500 * time.Millisecond

var truth = time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)

// A Pi without a clock chip starts in 1970, drives and gets a fix: what was guessed is
// owed one correction, and from the third fix on the time is right.
func TestStartIn1970(t *testing.T) {
	f := newFaked("boot", ClockState{})
	f.system.Now = time.Unix(10, 0)
	f.want(t, "at start", time.Unix(0, 0), time.Millisecond, Unsynced)
	f.pass(2 * time.Minute)
	if _, owed := f.Correction(); owed {
		t.Error("a correction before the time is known")
	}
	f.fixes(2, truth, 100*time.Millisecond)
	f.want(t, "after two fixes", time.Unix(0, 0), time.Millisecond, Unsynced)
	f.fixes(1, truth, 100*time.Millisecond)
	f.want(t, "after three", truth, 600*time.Millisecond, GPS)
	c, owed := f.Correction()
	if !owed || c.BootID != "boot" || c.UptimeZero != FormatTime(truth.Add(-100*time.Millisecond)) || c.ErrorMS != 506 { // half a second, and what two minutes may drift
		t.Errorf("%+v, %v", c, owed)
	}
	f.Corrected(c)
	if _, owed := f.Correction(); owed {
		t.Error("a second correction")
	}
	// The soonest fix of a minute tells best.
	f.fixes(60, truth, 250*time.Millisecond, 60*time.Millisecond, 200*time.Millisecond)
	f.want(t, "after a minute", truth.Add(-60*time.Millisecond), steadiness, GPS)
}

// The same with the process killed in between, before and after the fix.
func TestKilledBetween(t *testing.T) {
	f := newFaked("boot", ClockState{})
	f.system.Now = time.Unix(10, 0)
	f.Zero()
	g := newFaked("boot", f.KeptState())
	g.up, g.system.Now = time.Minute, time.Unix(60, 0)
	g.fixes(3, truth, 100*time.Millisecond)
	if _, owed := g.Correction(); !owed {
		t.Error("what the process before guessed is owed no correction")
	}
	h := newFaked("boot", g.KeptState())
	h.up = 2 * time.Minute
	h.want(t, "restarted after the fix", truth, 600*time.Millisecond, GPS)
	told, owed := h.Correction()
	if !owed {
		t.Error("nobody has told it yet")
	}
	// A power cut before it was told: the next boot owes it.
	if c, owed := newFaked("later", g.KeptState()).Correction(); !owed || c != told {
		t.Errorf("the next boot owes %+v, %v", c, owed)
	}
	h.Corrected(told)
	h.pass(2 * goodAfter)
	h.Zero()
	i := newFaked("boot", h.KeptState())
	if _, owed := i.Correction(); owed {
		t.Error("it was told")
	}
	// After a reboot the offset of the boot before is known, and time goes on from
	// where it was.
	next := newFaked("next", h.KeptState())
	next.system.Now = time.Unix(5, 0)
	if zero, q, ok := next.ZeroOf("boot"); !ok || q != GPS || zero.Sub(truth).Abs() > 600*time.Millisecond {
		t.Errorf("%v, %v, %v", zero, q, ok)
	}
	if now, q := next.Now(); q != Unsynced || now.Before(truth.Add(time.Minute)) {
		t.Errorf("after the power cut it is %v, %s", now, q)
	}
	if _, _, ok := next.ZeroOf("another"); ok {
		t.Error("a boot that nobody knows")
	}
	next.Forget()
	if _, _, ok := next.ZeroOf("boot"); ok {
		t.Error("it was forgotten")
	}
}

// A system clock that jumps moves nothing, in whatever direction and however it is
// called; only one that stays there, synchronised, for a quarter of an hour is
// believed.
func TestSystemJumps(t *testing.T) {
	for _, step := range []time.Duration{-time.Hour, time.Hour, -20 * 365 * 24 * time.Hour} {
		f := newFaked("boot", ClockState{})
		f.system = SystemTime{Now: truth.Add(f.up), Synced: true, MaxError: 20 * time.Millisecond}
		f.want(t, "synchronised", truth, time.Millisecond, System)
		f.system.Now = f.system.Now.Add(step)
		for range 60 {
			f.pass(10 * time.Second)
			f.want(t, "after a step", truth, time.Millisecond, System)
		}
		f.system.Synced = false
		f.pass(time.Hour)
		f.want(t, "no longer synchronised", truth, time.Millisecond, System)
		f.system.Synced = true
		for range 100 {
			f.pass(10 * time.Second)
			f.Zero()
		}
		f.want(t, "synchronised there for long", truth.Add(step), time.Millisecond, System)
	}
	// A clock that nobody keeps is a guess, and set back it moves no guess.
	f := newFaked("boot", ClockState{LastGood: truth})
	f.system.Now = truth.Add(time.Hour)
	f.want(t, "guess", truth.Add(time.Hour-f.up), time.Millisecond, Unsynced)
	f.system.Now = f.system.Now.Add(-30 * time.Minute)
	f.want(t, "set back", truth.Add(time.Hour-f.up), time.Millisecond, Unsynced)
	f.system.Now = truth.Add(2 * time.Hour)
	f.want(t, "set forward", truth.Add(2*time.Hour-f.up), time.Millisecond, Unsynced)
}

// Slewing is followed, jitter is not.
func TestSlewing(t *testing.T) {
	f := newFaked("boot", ClockState{})
	f.system = SystemTime{Now: truth.Add(f.up), Synced: true, MaxError: 10 * time.Millisecond}
	f.Zero()
	f.system.Now = f.system.Now.Add(3 * time.Millisecond)
	f.want(t, "jitter", truth, 0, System)
	f.system.Now = f.system.Now.Add(100 * time.Millisecond)
	f.want(t, "slewed", truth.Add(103*time.Millisecond), 0, System)
}

// Receiver and system: the better one speaks; where they contradict each other, the
// receiver.
func TestReceiverAndSystem(t *testing.T) {
	for _, test := range []struct {
		name   string
		system SystemTime
		off    time.Duration
		want   Quality
		zero   time.Duration
	}{
		{"agree", SystemTime{Synced: true, MaxError: 20 * time.Millisecond}, 0, System, 0},
		{"system is vague", SystemTime{Synced: true, MaxError: 2 * time.Second}, time.Second, GPS, -100 * time.Millisecond},
		{"contradict", SystemTime{Synced: true, MaxError: time.Millisecond}, time.Hour, GPS, -100 * time.Millisecond},
		{"not synchronised", SystemTime{}, time.Hour, GPS, -100 * time.Millisecond},
	} {
		f := newFaked("boot", ClockState{})
		f.system = test.system
		f.system.Now = truth.Add(f.up + test.off)
		f.fixes(5, truth, 100*time.Millisecond)
		f.want(t, test.name, truth.Add(test.zero), time.Millisecond, test.want)
	}
}

// A system clock that nobody keeps any more gets worse, and the receiver is believed
// before that shows; the two do not take turns.
func TestSystemAges(t *testing.T) {
	f := newFaked("boot", ClockState{})
	f.system = SystemTime{Now: truth.Add(f.up), Synced: true, MaxError: 20 * time.Millisecond}
	f.want(t, "synchronised", truth, time.Millisecond, System)
	f.system.Synced = false
	turns, last := 0, System
	for range 86400 {
		f.fixes(1, truth, 100*time.Millisecond)
		if _, q := f.Zero(); q != last {
			turns, last = turns+1, q
		}
	}
	f.want(t, "a day later", truth, 200*time.Millisecond, GPS)
	if turns != 1 {
		t.Errorf("%d turns", turns)
	}
}

// Leap seconds that the receiver learns of late, and fixes that are none of time.
func TestReceiverSteps(t *testing.T) {
	f := newFaked("boot", ClockState{})
	f.system.Now = time.Unix(10, 0)
	f.Zero()
	f.fixes(5, truth.Add(-2*time.Second), 50*time.Millisecond) // before the almanac
	f.want(t, "before the leap seconds", truth.Add(-2*time.Second), 600*time.Millisecond, GPS)
	c, _ := f.Correction()
	f.Corrected(c)
	f.fixes(5, truth, 50*time.Millisecond)
	f.want(t, "it may pass", truth.Add(-2*time.Second), 600*time.Millisecond, GPS)
	f.fixes(8, truth, 50*time.Millisecond)
	f.want(t, "after", truth, 600*time.Millisecond, GPS)
	if again, owed := f.Correction(); !owed || again.UptimeZero == c.UptimeZero {
		t.Errorf("what was told is two seconds off; owed %+v, %v", again, owed)
	}
	f.fixes(30, truth, 1300*time.Millisecond) // a link that is slow for a while
	f.want(t, "slow link", truth, 600*time.Millisecond, GPS)
	f.fixes(10, truth, 50*time.Millisecond)
	f.fixes(40, truth.Add(time.Hour), 50*time.Millisecond) // a receiver gone mad
	f.want(t, "mad for a while", truth, 600*time.Millisecond, GPS)
	f.fixes(30, truth.Add(time.Hour), 50*time.Millisecond, 300*time.Millisecond)
	f.want(t, "it says so for good", truth.Add(time.Hour), 600*time.Millisecond, GPS)

	// What comes from a queue at once tells no time.
	f = newFaked("boot", ClockState{})
	f.system.Now = time.Unix(10, 0)
	for i := range time.Duration(10) {
		f.Fix(truth.Add(f.up-30*time.Second+i*100*time.Millisecond), f.up, gpsError)
	}
	if _, q := f.Zero(); q != Unsynced {
		t.Errorf("a queue made the clock %s", q)
	}

	// Times that do not advance, or advance otherwise than time since boot.
	f = newFaked("boot", ClockState{})
	f.system.Now = time.Unix(10, 0)
	for i := range 50 {
		f.pass(time.Second)
		f.Fix(truth, f.up, gpsError)
		f.Fix(truth.Add(time.Duration(i)*3*time.Second), f.up+time.Millisecond, gpsError)
	}
	if _, q := f.Zero(); q != Unsynced {
		t.Errorf("frozen and running times made the clock %s", q)
	}
}

// What comes with less doubt takes the doubt away: a report of gpsd that tells when the
// cycle began, behind some that do not.
func TestReceiverError(t *testing.T) {
	f := newFaked("boot", ClockState{})
	f.system.Now = time.Unix(10, 0)
	f.Zero()
	tell := func(n int, late, err time.Duration) {
		for range n {
			f.pass(time.Second)
			f.Fix(truth.Add(f.up), f.up+late, err)
		}
	}
	tell(5, 600*time.Millisecond, time.Second)
	if c, _ := f.Correction(); c.ErrorMS != 1000 {
		t.Errorf("%+v", c)
	}
	tell(5, 400*time.Millisecond, gpsError)
	tell(5, 600*time.Millisecond, time.Second)
	if c, _ := f.Correction(); c.ErrorMS != 500 || c.UptimeZero != FormatTime(truth.Add(-400*time.Millisecond)) {
		t.Errorf("%+v", c)
	}
}

// A clock tells when something is to be kept, and at rest not more than once a minute.
func TestChanged(t *testing.T) {
	f := newFaked("boot", ClockState{})
	f.system.Now = time.Unix(10, 0)
	changes := 0
	look := func() {
		f.Zero()
		select {
		case <-f.Changed():
			changes++
		default:
		}
	}
	look()
	if changes != 1 || !f.KeptState().Boots["boot"].Guessed {
		t.Error("a guess was not told")
	}
	for range 600 {
		f.fixes(1, truth, 100*time.Millisecond)
		look()
	}
	if good := f.KeptState().LastGood; changes < 10 || changes > 14 || truth.Add(f.up).Sub(good) > keepEvery+time.Second {
		t.Errorf("%d changes in ten minutes, last good time %v", changes, good)
	}
}

// Whatever the latencies: never more than half a second off, never early.
func TestReceiverLatency(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFaked("boot", ClockState{})
		f.system.Now = time.Unix(10, 0)
		for range rapid.IntRange(3, 200).Draw(t, "fixes") {
			f.pass(time.Second)
			at := f.up.Truncate(time.Second)
			f.Fix(truth.Add(at), at+time.Duration(rapid.IntRange(50, 240).Draw(t, "ms"))*time.Millisecond, gpsError)
		}
		if zero, q := f.Zero(); q == GPS && (zero.After(truth) || truth.Sub(zero) > gpsError) {
			t.Fatalf("off by %v", zero.Sub(truth))
		}
	})
}

// The state survives as a file; a damaged one is an empty state.
func TestClockFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	if s, err := LoadClock(path); err != nil || len(s.Boots) != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	want := ClockState{Format: 1, LastGood: truth, Boots: map[string]Boot{"b": {Zero: truth, Quality: GPS, ErrorMS: 500, Guessed: true}}}
	if err := SaveClock(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := LoadClock(path)
	if a, _ := json.Marshal(got); err != nil || string(a) != `{"format":1,"last_good":"2026-11-25T10:00:00Z","boots":{"b":{"uptime_zero":"2026-11-25T10:00:00Z","clock":"gps","error_ms":500,"guessed":true}}}` {
		t.Errorf("%s, %v", a, err)
	}
	for _, bad := range []string{"", "{", `{"format":2}`, "\x00\x00"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := LoadClock(path); err == nil || len(s.Boots) != 0 || s.Boots == nil {
			t.Errorf("%q: %+v, %v", bad, s, err)
		}
	}
	for i := range mostBoots + 5 {
		want.Boots[strings.Repeat("x", i+1)] = Boot{Zero: truth.Add(time.Duration(i) * time.Hour)}
	}
	if err := SaveClock(path, want.clone()); err != nil {
		t.Fatal(err)
	}
	if s, err := LoadClock(path); err != nil || len(s.Boots) != mostBoots {
		t.Errorf("%d boots, %v", len(s.Boots), err)
	}
}

// A record sealed with a guess and corrected later is, but for milliseconds lost in
// between, the one that would have been sealed had the time been known.
func TestCorrectedAsSealed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b Batch
		for range rapid.IntRange(1, 20).Draw(t, "readings") {
			r := Reading{Arrived: time.Duration(rapid.IntRange(0, 50).Draw(t, "ms")) * time.Millisecond, Fields: []Field{{"vehicle_speed_kmh", Number(float64(rapid.IntRange(0, 200).Draw(t, "speed")), 0)}}}
			if rapid.Bool().Draw(t, "of the receiver") {
				r.FixTime = truth.Add(r.Arrived)
				r.Fields = []Field{{"latitude", Number(48.1, 7)}, {"fix", Text(`3d "uptime_ms":5,`)}}
			}
			b.Add(r)
		}
		corrected, err := b.Seal("v", "boot", time.Unix(0, 0), Unsynced).Corrected(truth, GPS)
		if err != nil {
			t.Fatal(err)
		}
		want, got := b.Seal("v", "boot", truth, GPS).Message("s", 1), corrected.Message("s", 1)
		var w, g map[string]any
		if err := json.Unmarshal(want, &w); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(got, &g); err != nil {
			t.Fatalf("%v: %s", err, got)
		}
		a, _ := json.Marshal(w)
		c, _ := json.Marshal(g)
		if string(a) != string(c) {
			t.Fatalf("corrected %s\nsealed    %s", c, a)
		}
	})
}

// A guess that falls on the receiver's own time does not carry its position away.
func TestGuessBesideFix(t *testing.T) {
	var b Batch
	b.Add(Reading{Arrived: 7 * time.Second, FixTime: truth.Add(7 * time.Second), Fields: []Field{{"latitude", Number(48.1, 7)}}})
	b.Add(Reading{Arrived: 7 * time.Second, Fields: []Field{{"vehicle_speed_kmh", Number(50, 0)}}})
	r, err := b.Seal("v", "boot", truth, Unsynced).Corrected(truth.Add(4*time.Second), GPS)
	want := `"clock":"gps","samples":[{"t":"2026-11-25T10:00:07.000Z","latitude":48.1},{"t":"2026-11-25T10:00:11.001Z","vehicle_speed_kmh":50}]}`
	if got := string(r.Message("s", 1)); err != nil || !strings.HasSuffix(got, want) {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}

func TestCorrectedEvent(t *testing.T) {
	e := Event{Type: "stream_start", Severity: Info, At: 1500 * time.Millisecond, Data: StreamStart{}}
	guessed, err := e.Seal("v", "boot", time.Unix(0, 0), Unsynced)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := e.Seal("v", "boot", truth, System)
	if err != nil {
		t.Fatal(err)
	}
	got, err := guessed.Corrected(truth, System)
	if err != nil || string(got.Message("s", 1)) != string(sealed.Message("s", 1)) {
		t.Errorf("%s, want %s, %v", got.Message("s", 1), sealed.Message("s", 1), err)
	}
	if again, err := sealed.Corrected(time.Time{}, GPS); err != nil || string(again.Message("s", 1)) != string(sealed.Message("s", 1)) {
		t.Errorf("what was no guess was changed: %s", again.Message("s", 1))
	}
	for _, bad := range []string{`"clock":"unsynced","samples":[{}]}`, `"clock":"unsynced","samples":`, `"clock":"unsynced",`, `"clock":"unsynced","t":"2026-11-25T10:00:00.000Z","uptime_ms":`} {
		if _, err := (Record{body: []byte(bad)}).Corrected(truth, GPS); err == nil {
			t.Errorf("%s was corrected", bad)
		}
	}
}
