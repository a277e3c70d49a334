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

// Clock relates time since boot to UTC. Readings are stamped with Uptime alone;
// wall time is derived when a batch is closed. It is safe for concurrent use.
type Clock struct {
	bootID string
	uptime func() time.Duration
	system func() (now time.Time, synced bool)

	mu      sync.Mutex
	zero    time.Time
	quality Quality
}

// NewClock returns a clock for the boot bootID. uptime is the time since boot,
// suspended time included (CLOCK_BOOTTIME); system is the system's clock and
// whether it is synchronised.
func NewClock(bootID string, uptime func() time.Duration, system func() (time.Time, bool)) *Clock {
	return &Clock{bootID: bootID, uptime: uptime, system: system}
}

// BootID names the boot that Uptime counts from.
func (c *Clock) BootID() string { return c.bootID }

// Uptime is the time since boot.
func (c *Clock) Uptime() time.Duration { return c.uptime() }

// steadiness is how far the system's clock may wander before the zero of time
// since boot follows it; it keeps neighbouring batches from jittering.
const steadiness = 5 * time.Millisecond

// Zero returns the UTC at which time since boot was zero, and how well it is known.
func (c *Clock) Zero() (time.Time, Quality) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, synced := c.system()
	zero := now.UTC().Add(-c.uptime()).Round(0)
	q := Unsynced
	if synced {
		q = System
	}
	if d := zero.Sub(c.zero); c.quality != q || d < -steadiness || d > steadiness {
		c.zero, c.quality = zero, q
	}
	return c.zero, c.quality
}

// Now is the best guess of UTC, and how well it is known.
func (c *Clock) Now() (time.Time, Quality) {
	zero, q := c.Zero()
	return zero.Add(c.uptime()), q
}
