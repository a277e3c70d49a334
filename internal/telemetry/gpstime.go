package telemetry

import "time"

// gpsTime finds the offset of time since boot from the receiver's times of fix. A
// sentence comes late, never early: the fix that came soonest tells best.
type gpsTime struct {
	known bool
	zero  time.Time
	err   time.Duration // how late the soonest may have come
	seen  time.Duration // when a fix said so last

	fix    time.Time // the last
	at     time.Duration
	streak int           // fixes in a row that advance with time since boot
	began  time.Duration // the streak
	first  time.Time     // best zero of the streak until it counts

	stray  time.Time     // a zero that is not the known one
	strays int           // fixes that said so, and none the known one between
	astray time.Duration // since when

	best  [2]time.Time  // of this minute and the one before
	since time.Duration // begin of this minute
}

const (
	// fixesToKnow in a row, over at least timeToKnow, that advance with time since boot,
	// within advances, make the time known: what comes from a queue at once does not.
	fixesToKnow = 3
	timeToKnow  = 1900 * time.Millisecond
	advances    = 200 * time.Millisecond
	// sameZero is how far a fix may be from what is known: later by its way to us.
	sameZero = 700 * time.Millisecond
	// A receiver moves its time by whole seconds, one or two, when the almanac tells it
	// of leap seconds; within leapSlack, and for good. What is late otherwise was late on
	// its way.
	leapSlack = 150 * time.Millisecond
	leapFor   = 10 * time.Second
	// doubtFor is how long a receiver must say something else, and never what is known,
	// to be believed.
	doubtFor = time.Minute
	bestKept = time.Minute
)

// observe takes a time of fix, when the first byte of its cycle came, and how late that
// may be.
func (g *gpsTime) observe(fix time.Time, at, err time.Duration) {
	if at == g.at && g.streak > 0 {
		return // from a queue
	}
	zero := fix.UTC().Add(-at)
	advanced := fix.Sub(g.fix)
	if g.streak > 0 && advanced > 0 && (advanced-(at-g.at)).Abs() <= advances {
		g.streak++
	} else {
		g.streak, g.began, g.first = 1, at, zero
	}
	g.fix, g.at = fix, at
	if zero.After(g.first) {
		g.first = zero
	}
	switch {
	case g.known && zero.Sub(g.zero).Abs() <= sameZero:
		g.strays, g.seen = 0, at
		g.err = min(g.err, err) // none is sooner than the best
		g.refine(zero, at)
	case g.known:
		g.doubt(zero, at, err)
	case g.streak >= fixesToKnow && at-g.began >= timeToKnow:
		g.adopt(g.first, at, err)
	}
}

// doubt takes a fix that contradicts what is known.
func (g *gpsTime) doubt(zero time.Time, at, err time.Duration) {
	if g.strays == 0 || zero.Sub(g.stray).Abs() > sameZero {
		g.strays, g.stray, g.astray = 0, zero, at
	}
	g.strays++
	if zero.After(g.stray) {
		g.stray = zero
	}
	step, lasted := g.stray.Sub(g.zero).Abs(), at-g.astray
	leap := (step-time.Second).Abs() <= leapSlack || (step-2*time.Second).Abs() <= leapSlack
	running := g.streak >= fixesToKnow && at-g.began >= timeToKnow
	switch {
	case running && step <= sameZero+drift(at-g.seen) && at-g.seen > doubtFor: // a crystal that ran on alone
		g.adopt(g.first, at, err)
	case running && leap && lasted >= leapFor,
		lasted >= doubtFor && g.strays >= fixesToKnow:
		g.adopt(g.stray, at, err)
	}
}

func (g *gpsTime) adopt(zero time.Time, at, err time.Duration) {
	g.known, g.zero, g.err, g.seen, g.strays = true, zero, err, at, 0
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
