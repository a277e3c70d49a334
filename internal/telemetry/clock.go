package telemetry

import (
	"sync"
	"time"
)

// Quality tells how the wall time of a batch is known; its text is the batch's
// `clock`.
type Quality string

const (
	// Unsynced: the best guess of a clock that nobody has set.
	Unsynced Quality = "unsynced"
	// System: the system's clock, synchronised by NTP or PTP.
	System Quality = "system"
	// GPS: set by the receiver.
	GPS Quality = "gps"
)

// SystemTime is what the system's clock says, and whether NTP or PTP keeps it.
type SystemTime struct {
	Now      time.Time
	Synced   bool
	MaxError time.Duration // when synced
}

// ClockConfig is what a Clock is made of.
type ClockConfig struct {
	BootID string               // the boot that Uptime counts from
	Uptime func() time.Duration // time since boot, suspended time included (CLOCK_BOOTTIME)
	System func() SystemTime
	State  ClockState // of earlier runs
}

// Clock relates time since boot to UTC. Readings are stamped with Uptime alone; wall
// time is derived from it. The offset comes from the GPS receiver or from the system's
// clock while that is synchronised; once known it is held: a system clock that jumps
// moves nothing. It is safe for concurrent use, and never waits for a disk: what it knows
// is kept by whoever follows Changed.
type Clock struct {
	ClockConfig
	changed chan struct{}

	mu     sync.Mutex
	guess  time.Time // of the zero; never before the last good time that is known
	system anchor
	gps    gpsTime
	state  ClockState
	noted  time.Duration // when the last good time was
	chosen Quality       // of what is known
	held   time.Time     // the zero that has been known since heldAt
	heldAt time.Duration
	floor  time.Time // no time before it can be now
}

// known is an offset to UTC and how good it is.
type known struct {
	zero    time.Time // UTC at which time since boot was zero
	quality Quality
	err     time.Duration
	seen    time.Duration // when the source said so last
}

// at is the same at a later time: worse by what the crystal may have drifted.
func (k known) at(up time.Duration) known {
	k.err += drift(up - k.seen)
	return k
}

const (
	// steadiness is how far the zero may wander before it is followed; it keeps
	// neighbouring batches from jittering.
	steadiness = 5 * time.Millisecond
	// keepEvery is how often the last good time is noted.
	keepEvery = time.Minute
	// apart is how far beyond their errors receiver and system may differ before one of
	// them is not believed.
	apart = 2 * time.Second
	// vague is when the system's clock, synchronised or no longer, is worse than a
	// receiver: where its error passes twice that.
	vague = 500 * time.Millisecond
	// ageing is how much worse a clock gets that nobody keeps any more, in parts per
	// second: 50 ppm is a poor crystal.
	ageing = 50e-6
	// recent is how long ago a source may have told the time to be believed against the
	// other.
	recent = 10 * time.Minute
	// goodAfter is how long a receiver must have told the same time until that is kept
	// as the last good one: a wrong date would outlive the receiver.
	goodAfter = 30 * time.Second
)

// drift is how far time since boot may have run from UTC in d.
func drift(d time.Duration) time.Duration { return time.Duration(ageing * float64(d.Abs())) }

// NewClock returns a clock that goes on where State ended.
func NewClock(c ClockConfig) *Clock {
	k := &Clock{ClockConfig: c, changed: make(chan struct{}, 1), state: c.State.clone(), floor: c.State.LastGood}
	if b, ok := k.state.Boots[c.BootID]; ok && !b.Zero.IsZero() { // this boot's, of an earlier run
		seen := milliseconds(b.SeenMS)
		switch b.Quality {
		case GPS:
			k.gps = gpsTime{known: true, zero: b.Zero, err: milliseconds(b.ErrorMS), seen: seen}
		case System:
			k.system = anchor{known: true, zero: b.Zero, err: milliseconds(b.ErrorMS), seen: seen}
		}
	}
	return k
}

// Changed receives after KeptState changed.
func (c *Clock) Changed() <-chan struct{} { return c.changed }

// KeptState is what should outlive this run, for the next one's ClockConfig.
func (c *Clock) KeptState() ClockState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.clone()
}

// Zero returns the UTC at which time since boot was zero, and how well it is known. A
// message that is sealed with an unsynced zero will be owed a correction.
func (c *Clock) Zero() (time.Time, Quality) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.settle()
	if k.quality == Unsynced && !c.state.Boots[c.BootID].Guessed {
		c.change(c.BootID, func(b *Boot) { b.Guessed, b.GuessedMS = true, c.Uptime().Milliseconds() })
	}
	return k.zero, k.quality
}

// Now is the best guess of UTC, and how well it is known.
func (c *Clock) Now() (time.Time, Quality) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.settle()
	return k.zero.Add(c.Uptime()), k.quality
}

// ZeroOf is the zero for what was sealed with a guess in any boot: as it was when it
// became known, for time since boot drifts from UTC. ok is false where it is not known or
// no longer kept.
func (c *Clock) ZeroOf(bootID string) (zero time.Time, q Quality, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if bootID == c.BootID {
		c.settle()
	}
	b, ok := c.state.Boots[bootID]
	return b.GuessZero, b.GuessClock, ok && !b.GuessZero.IsZero()
}

// Fix tells the receiver's time of a valid fix, when the first byte of the cycle came
// that told it, and how late that may have been.
func (c *Clock) Fix(utc time.Time, firstByte, err time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gps.observe(utc, firstByte, err)
}

// Correction is the data of the event clock_correction: for what left with a guessed
// time, t = UptimeZero + uptime_ms.
type Correction struct {
	BootID     string `json:"boot_id"`
	UptimeZero string `json:"uptime_zero"` // FormatTime
	ErrorMS    int64  `json:"error_ms"`
}

// Correction returns what those messages of a boot are owed that were sealed with a
// guessed time; ok is false while there are none whose time is known and not told. It is
// owed again when what was told turns out to be wrong by more than it said.
func (c *Clock) Correction() (owed Correction, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	for id, b := range c.state.Boots {
		if b.Guessed && !b.GuessZero.IsZero() && !b.ToldZero.Equal(b.GuessZero.Truncate(time.Millisecond)) {
			return Correction{id, FormatTime(b.GuessZero), b.GuessErrorMS}, true
		}
	}
	return owed, false
}

// Corrected notes that the event of a Correction is durable.
func (c *Clock) Corrected(told Correction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if zero, err := time.Parse(timeFormat, told.UptimeZero); err == nil { // it is ours
		c.change(told.BootID, func(b *Boot) { b.ToldZero = zero })
	}
}

// Forget drops what was kept of earlier boots: nothing of them is in the buffer.
func (c *Clock) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.keepOnly(c.BootID) {
		c.note()
	}
}

// settle decides what is known now, and notes it. c.mu is held.
func (c *Clock) settle() known {
	up, system := c.Uptime(), c.System()
	now := system.Now.UTC().Round(0)
	if system.Synced {
		c.system.follow(now.Add(-up), system.MaxError, up)
	} else {
		c.system.jumping = false
	}
	k := c.choose(up)
	if k.quality == Unsynced {
		k.zero = c.guessed(now, up)
		return k
	}
	b := c.state.Boots[c.BootID]
	if b.Quality != k.quality || b.Zero.Sub(k.zero).Abs() > steadiness {
		c.change(c.BootID, func(b *Boot) { b.know(k) })
	}
	if b.Guessed && b.isBetter(k, up) {
		c.change(c.BootID, func(b *Boot) { b.learn(k, up) })
	}
	if k.zero.Sub(c.held).Abs() > time.Second {
		c.held, c.heldAt = k.zero, up
	}
	if good := k.quality == System || up-c.heldAt >= goodAfter; good && (c.noted == 0 || up-c.noted >= keepEvery) {
		c.noted = up
		c.state.LastGood = k.zero.Add(up)
		c.change(c.BootID, func(b *Boot) { b.know(k) })
	}
	return k
}

// choose is the better of what receiver and system say.
func (c *Clock) choose(up time.Duration) known {
	system := known{c.system.zero, System, c.system.err, c.system.seen}
	receiver := known{c.gps.zero, GPS, c.gps.err, c.gps.seen}
	k := known{quality: Unsynced}
	switch {
	case c.gps.known && c.system.known:
		k = receiver
		if c.systemIsBetter(system, receiver, up) {
			k = system
		}
	case c.gps.known:
		k = receiver
	case c.system.known:
		k = system
	}
	c.chosen = k.quality
	return k
}

// systemIsBetter decides between two that are known. Where they contradict each other, the
// one counts that told the time recently, and of two the receiver: a system clock may be
// called synchronised with another computer that is wrong. Where they agree the system is
// as good as that proves, however long NTP has not looked at it.
func (c *Clock) systemIsBetter(system, receiver known, up time.Duration) bool {
	off := system.zero.Sub(receiver.zero).Abs()
	s, g := system.at(up).err, receiver.at(up).err
	if off > apart+s+g {
		if heard := up-receiver.seen <= recent; heard || up-system.seen > recent {
			return !heard && s < g
		}
		return true
	}
	if up-system.seen <= recent {
		s = min(s, off+g)
	}
	limit := vague
	if c.chosen == System { // one does not take turns with the other
		limit = 2 * vague
	}
	return s <= limit
}

// guessed is the zero while nothing is known: by the system's clock, but not before
// the last good time. It follows a clock that is set forward, as one of 1970 is, and
// none that is set back.
func (c *Clock) guessed(now time.Time, up time.Duration) time.Time {
	if now.Before(c.floor) {
		now = c.floor
	}
	if zero := now.Add(-up); c.guess.IsZero() || zero.Sub(c.guess) > time.Second {
		c.guess = zero
	}
	return c.guess
}

// change changes what is kept of a boot. c.mu is held.
func (c *Clock) change(bootID string, f func(*Boot)) {
	b := c.state.Boots[bootID]
	f(&b)
	c.state.Boots[bootID] = b
	c.note()
}

// note tells that the state changed.
func (c *Clock) note() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// anchor holds the offset of a synchronised system clock.
type anchor struct {
	known bool
	zero  time.Time
	err   time.Duration
	seen  time.Duration // when it was last seen synchronised there

	other   time.Time // what the clock says since it jumped
	jumped  time.Duration
	jumping bool
}

const (
	// slewed is how far a synchronised clock may drift from one look to the next.
	slewed = 200 * time.Millisecond
	// jumpHeld is how long a clock that jumped must stay where it is, synchronised all
	// the time, to be believed.
	jumpHeld = 15 * time.Minute
)

func (a *anchor) follow(zero time.Time, err, up time.Duration) {
	within := max(slewed, min(a.err, vague)) + drift(up-a.seen)
	switch off := a.zero.Sub(zero).Abs(); {
	case !a.known || off <= within:
		if a.known && off <= steadiness {
			zero = a.zero
		}
		*a = anchor{known: true, zero: zero, err: err, seen: up}
	case !a.jumping || a.other.Sub(zero).Abs() > slewed:
		a.jumping, a.other, a.jumped = true, zero, up
	case up-a.jumped >= jumpHeld:
		*a = anchor{known: true, zero: zero, err: err, seen: up}
	}
}
