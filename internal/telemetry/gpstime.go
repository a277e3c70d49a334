package telemetry

import "time"

// gpsTime finds the offset of time since boot from the receiver's times of fix. A
// sentence comes late, never early: the fix that came soonest tells best.
type gpsTime struct {
	known bool
	zero  time.Time

	fix    time.Time // the last
	at     time.Duration
	streak int       // fixes in a row that advance with time since boot
	first  time.Time // best zero of the streak until it counts
	strays int       // of the streak, whose zero is not the known one

	best  [2]time.Time  // of this minute and the one before
	since time.Duration // begin of this minute
}

const (
	// fixesToKnow in a row that advance with time since boot, within advances, make
	// the time known.
	fixesToKnow = 3
	advances    = 200 * time.Millisecond
	// sameZero is how far a fix may be from what is known: later by its way to us.
	sameZero = 700 * time.Millisecond
	// leapStep is how far a receiver moves its time when the almanac tells it of leap
	// seconds: by one or two.
	leapStep = 2500 * time.Millisecond
	// fixesToDoubt in a row that say something else for good are believed.
	fixesToDoubt = 60
	bestKept     = time.Minute
)

// observe takes a time of fix and when the first byte of its cycle came.
func (g *gpsTime) observe(fix time.Time, at time.Duration) {
	zero := fix.UTC().Add(-at)
	advanced := fix.Sub(g.fix)
	if g.streak > 0 && advanced > 0 && (advanced-(at-g.at)).Abs() <= advances {
		g.streak++
	} else {
		g.streak, g.first, g.strays = 1, zero, 0
	}
	g.fix, g.at = fix, at
	if zero.After(g.first) {
		g.first = zero
	}
	switch {
	case g.streak < fixesToKnow:
	case !g.known:
		g.adopt(g.first, at)
	case zero.Sub(g.zero).Abs() <= sameZero:
		g.strays = 0
		g.refine(zero, at)
	default:
		g.strays++
		if zero.Sub(g.zero).Abs() <= leapStep || g.strays >= fixesToDoubt {
			g.adopt(zero, at)
		}
	}
}

func (g *gpsTime) adopt(zero time.Time, at time.Duration) {
	g.known, g.zero, g.strays = true, zero, 0
	g.best, g.since = [2]time.Time{zero, zero}, at
}

// refine keeps the best of the last one to two minutes.
func (g *gpsTime) refine(zero time.Time, at time.Duration) {
	if g.since == 0 { // known from an earlier run
		g.best, g.since = [2]time.Time{zero, zero}, at
	}
	if at-g.since >= bestKept {
		g.best, g.since = [2]time.Time{zero, g.best[0]}, at
	}
	if zero.After(g.best[0]) {
		g.best[0] = zero
	}
	best := g.best[0]
	if g.best[1].After(best) {
		best = g.best[1]
	}
	if best.Sub(g.zero).Abs() > steadiness {
		g.zero = best
	}
}
