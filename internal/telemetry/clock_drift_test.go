package telemetry

import (
	"testing"
	"time"
)

// crystal is the drift of a poor one.
const crystal = 50e-6

// drifted is the zero of UTC after d on a crystal that runs slow.
func drifted(d time.Duration) time.Time {
	return truth.Add(time.Duration(crystal * float64(d)))
}

// Time since boot drifts from UTC, and the zero follows. What was guessed at the start is
// owed the zero of that time, once, and leaves with it however late.
func TestGuessKeepsItsZero(t *testing.T) {
	f := newFaked("boot", ClockState{})
	f.system.Now = time.Unix(10, 0)
	f.Zero()
	f.pass(2 * time.Minute)
	corrections := 0
	for range 24 * 3600 {
		f.fixes(1, drifted(f.up), 100*time.Millisecond)
		if c, owed := f.Correction(); owed {
			corrections++
			f.Corrected(c)
		}
	}
	if corrections != 1 {
		t.Errorf("%d corrections in a day", corrections)
	}
	if zero, q, ok := f.ZeroOf("boot"); !ok || q != GPS || zero.Sub(truth).Abs() > 120*time.Millisecond {
		t.Errorf("what was guessed leaves off by %v, %s", zero.Sub(truth), q)
	}
	f.want(t, "now", drifted(f.up), 120*time.Millisecond, GPS)
	next := newFaked("next", f.KeptState())
	if zero, _, ok := next.ZeroOf("boot"); !ok || zero.Sub(truth).Abs() > 120*time.Millisecond {
		t.Errorf("after a reboot it leaves off by %v", zero.Sub(truth))
	}
}

// NTP behind GPS tells better, but not otherwise: nothing more is owed.
func TestNTPBehindGPS(t *testing.T) {
	f := newFaked("boot", ClockState{})
	f.system.Now = time.Unix(10, 0)
	f.Zero()
	f.fixes(30, truth, 100*time.Millisecond)
	c, _ := f.Correction()
	f.Corrected(c)
	f.system = SystemTime{Now: truth.Add(f.up), Synced: true, MaxError: 20 * time.Millisecond}
	f.fixes(30, truth, 100*time.Millisecond)
	f.want(t, "with NTP", truth, 0, System)
	if again, owed := f.Correction(); owed {
		t.Errorf("told %+v, owed %+v", c, again)
	}
}

// A receiver that was heard last long ago is worth less than an NTP that is there, right or
// wrong as it was; so it is after a restart.
func TestReceiverGone(t *testing.T) {
	f := newFaked("boot", ClockState{})
	f.system.Now = time.Unix(10, 0)
	f.fixes(60, truth, 100*time.Millisecond)
	f.pass(14 * time.Hour)
	now := drifted(f.up)
	f.system = SystemTime{Now: now.Add(f.up), Synced: true, MaxError: 5 * time.Millisecond}
	f.want(t, "NTP after a night", now, time.Millisecond, System)

	f = newFaked("boot", ClockState{})
	f.system = SystemTime{Now: truth.Add(f.up), Synced: true, MaxError: 5 * time.Millisecond}
	f.fixes(5, truth.Add(time.Hour), 100*time.Millisecond)
	f.want(t, "receiver and NTP contradict each other", truth.Add(time.Hour), time.Second, GPS)
	for range 20 {
		f.pass(time.Minute)
		f.Zero()
	}
	f.want(t, "the receiver is gone", truth, time.Millisecond, System)
	g := newFaked("boot", f.KeptState())
	g.up, g.system = f.up, f.system
	g.want(t, "after a restart", truth, time.Millisecond, System)
}

// A receiver that is back after a night is believed at its third fix, though the crystal
// has drifted by more than fixes are late.
func TestFixesAfterANight(t *testing.T) {
	f := newFaked("boot", ClockState{})
	f.system.Now = time.Unix(10, 0)
	f.fixes(60, truth, 100*time.Millisecond)
	f.pass(14 * time.Hour)
	f.fixes(3, drifted(f.up), 100*time.Millisecond)
	f.want(t, "after three fixes", drifted(f.up), 600*time.Millisecond, GPS)
}

// NTP that is back after half a day is no jump.
func TestNTPAfterANight(t *testing.T) {
	f := newFaked("boot", ClockState{})
	f.system = SystemTime{Now: truth.Add(f.up), Synced: true, MaxError: 20 * time.Millisecond}
	f.Zero()
	f.system.Synced = false
	f.pass(12 * time.Hour)
	now := drifted(f.up)
	f.system = SystemTime{Now: now.Add(f.up), Synced: true, MaxError: 20 * time.Millisecond}
	f.want(t, "at once", now, time.Millisecond, System)
	// Nor does it take a restart for that.
	g := newFaked("boot", f.KeptState())
	g.up = f.up + 12*time.Hour
	now = drifted(g.up)
	g.system = SystemTime{Now: now.Add(g.up), Synced: true, MaxError: 20 * time.Millisecond}
	g.want(t, "after a restart", now, time.Millisecond, System)
}

// The kernel's error of a clock that NTP looks at twice an hour grows beyond a second in
// between; as long as the receiver agrees, it is as good as ever.
func TestRareNTP(t *testing.T) {
	f := newFaked("boot", ClockState{})
	f.system.Now = truth.Add(f.up)
	turns, last := 0, System
	for i := range 24 * 3600 {
		f.system.Synced, f.system.MaxError = true, time.Duration(i%2048)*500*time.Microsecond
		f.fixes(1, truth, 300*time.Millisecond)
		if _, q := f.Zero(); q != last {
			turns, last = turns+1, q
		}
	}
	if turns > 0 {
		t.Errorf("%d turns", turns)
	}
}

// A step is one also where the kernel's own error would allow it.
func TestStepWithinError(t *testing.T) {
	f := newFaked("boot", ClockState{})
	f.system = SystemTime{Now: truth.Add(f.up), Synced: true, MaxError: 8 * time.Second}
	f.Zero()
	f.pass(time.Second)
	f.system.Now = f.system.Now.Add(-7 * time.Second)
	f.want(t, "after the step", truth, time.Millisecond, System)
}

// Two fixes that were late on their way, far apart, are no leap second.
func TestLateFixesAreNoLeap(t *testing.T) {
	f := newFaked("boot", ClockState{})
	f.system.Now = time.Unix(10, 0)
	f.fixes(30, truth, 100*time.Millisecond)
	f.fixes(1, truth, 1100*time.Millisecond)
	f.pass(30 * time.Second)
	f.fixes(1, truth, 1100*time.Millisecond)
	f.want(t, "after two late fixes", truth, 600*time.Millisecond, GPS)
}
