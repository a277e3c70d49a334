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

// calendar gives epochs their day: their own, else that of the epoch before, one
// day on when the time of day fell by more than 12 h.
type calendar struct {
	build time.Time // dates before it are 1024 weeks late; zero for no such rule

	day     time.Time // of the last epoch; zero while unknown
	time    time.Duration
	arrived time.Duration
}

// date returns the day of an epoch and remembers it. own is what the epoch itself
// says, zero if nothing.
func (c *calendar) date(own time.Time, at, arrived time.Duration) (time.Time, Reason) {
	d := own
	switch {
	case !own.IsZero():
		var ok bool
		if d, ok = unroll(own, c.build); !ok {
			return time.Time{}, BadDate
		}
	case c.day.IsZero() || arrived-c.arrived >= dateKept:
		return time.Time{}, NoDate
	case c.time-at > 12*time.Hour:
		d = c.day.AddDate(0, 0, 1)
	default:
		d = c.day
	}
	c.day, c.time, c.arrived = d, at, arrived
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
