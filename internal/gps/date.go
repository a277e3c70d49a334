package gps

import "time"

// weeks1024 is after how long the week number of GPS starts again (IS-GPS-200,
// 20.3.3.3.1.1): a receiver that misses it prints a date that much too old.
const weeks1024 = 1024 * 7 * 24 * time.Hour

// tooFarAhead is how far after the build a date cannot be.
const tooFarAhead = 10 * 366 * 24 * time.Hour

// dateKept is for how long a date is carried on without an epoch: within it a
// passed midnight always shows as a fall of the time of day by more than 12 h.
const dateKept = 12 * time.Hour

// longestPeriod is how much later than the last epoch the next one may be, by the
// receiver's time of day, for its clock to have run on: the longest period seen in
// receivers is 2 s.
const longestPeriod = 2 * time.Second

// calendar gives epochs their day: their own, else that of the epoch before, one
// day on when the time of day fell by more than 12 h.
type calendar struct {
	build time.Time // dates before it are 1024 weeks late; zero for no such rule

	known   dating // of the last fix
	claimed dating // a ZDA's, whose receiver had no fix yet
}

// dating is a day and the epoch it was last right for. The zero value is unknown.
type dating struct {
	day     time.Time
	time    time.Duration // since 0:00 UTC of the day
	arrived time.Duration
}

// at carries the day on to a later epoch; zero if it cannot be carried so far.
func (d dating) at(t, arrived time.Duration) time.Time {
	switch {
	case d.day.IsZero() || arrived-d.arrived >= dateKept:
		return time.Time{}
	case d.time-t > 12*time.Hour:
		return d.day.AddDate(0, 0, 1)
	case t-d.time > 24*time.Hour-longestPeriod: // of before midnight, and late
		return d.day.AddDate(0, 0, -1)
	default:
		return d.day
	}
}

// runsOn carries the day on to the next epoch t, if the receiver's clock did not
// jump in between.
func (d dating) runsOn(t, arrived time.Duration) time.Time {
	if passed := (t - d.time + 24*time.Hour) % (24 * time.Hour); passed > longestPeriod {
		return time.Time{}
	}
	return d.at(t, arrived)
}

// claim notes an epoch without a fix; zda is the date of its ZDA, zero without one.
// A receiver without a fix tells what its battery-backed clock says, or a date it
// was built with; a jump of the time of day shows that it was wrong. When the first
// fix comes without one, the clock was right, and so is its date.
func (c *calendar) claim(zda time.Time, t, arrived time.Duration) {
	day := zda
	if day.IsZero() {
		day = c.claimed.runsOn(t, arrived)
	}
	c.claimed = dating{day, t, arrived}
}

// date returns the day of an epoch with a fix and remembers it. own is what the
// epoch itself says, zero if nothing.
func (c *calendar) date(own time.Time, t, arrived time.Duration) (time.Time, Reason) {
	d := own
	if d.IsZero() {
		d = c.known.at(t, arrived)
	}
	if d.IsZero() {
		d = c.claimed.runsOn(t, arrived)
	}
	if d.IsZero() {
		return time.Time{}, NoDate
	}
	d, ok := unroll(d, c.build)
	if !ok {
		return time.Time{}, BadDate
	}
	c.known = dating{d, t, arrived}
	return d, ""
}

// unroll moves a day that is before the build on by as many 1024 weeks as it
// takes. It reports false for a day that is then too far ahead to be true.
func unroll(d, build time.Time) (time.Time, bool) {
	if build.IsZero() {
		return d, true
	}
	first := build.UTC().Truncate(24 * time.Hour)
	for d.Before(first) {
		d = d.Add(weeks1024)
	}
	return d, d.Sub(first) <= tooFarAhead
}
