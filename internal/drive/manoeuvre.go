package drive

import "time"

// manoeuvre makes one event of what goes over a limit: it begins at the limit, and is over
// below half of it.
type manoeuvre struct {
	limit  float64
	active bool
	told   bool
	since  time.Duration
	last   time.Duration // when it was looked at
	peak   float64
}

const (
	// tellAfter is how long a manoeuvre may go on before it is told.
	tellAfter = 3 * time.Second
	// lostAfter is how long without a measurement it goes on.
	lostAfter = 2 * time.Second
)

// take says how much it is now. begins tells that a manoeuvre begins with it, tell that it
// is to be told, once, over that it has ended.
func (m *manoeuvre) take(at time.Duration, x float64) (begins, tell, over bool) {
	if !m.active && x >= m.limit {
		*m = manoeuvre{limit: m.limit, active: true, since: at}
		begins = true
	}
	if !m.active {
		return false, false, false
	}
	m.last, m.peak = at, max(m.peak, x)
	over = x < m.limit/2
	tell = !m.told && (over || at-m.since >= tellAfter)
	m.told = m.told || tell
	m.active = !over
	return begins, tell, over
}

// lost ends one of which nothing was measured for too long, and says whether it is to be
// told now.
func (m *manoeuvre) lost(now time.Duration) (tell bool) {
	if !m.active || now-m.last <= lostAfter {
		return false
	}
	m.active = false
	return !m.told
}

// lasting makes a beginning and an end of what holds for a time.
type lasting struct {
	hold, release time.Duration
	since         time.Duration // that it holds; 0: it does not
	until         time.Duration // that it no longer holds; 0: it does
	told          bool
}

// take says whether it holds at a time; is and isNot may both be wrong: what is then goes on.
func (l *lasting) take(at time.Duration, is, isNot bool) (begins, ends bool) {
	at = max(at, 1)
	if !l.told {
		if !is {
			l.since = 0
			return false, false
		}
		if l.since == 0 {
			l.since = at
		}
		l.told = at-l.since >= l.hold
		return l.told, false
	}
	if !isNot {
		l.until = 0
		return false, false
	}
	if l.until == 0 {
		l.until = at
	}
	if at-l.until < l.release {
		return false, false
	}
	return false, true
}

// reset forgets one that has ended.
func (l *lasting) reset() { *l = lasting{hold: l.hold, release: l.release} }
