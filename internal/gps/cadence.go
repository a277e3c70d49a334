package gps

import "time"

// A receiver sends its sentences in a cycle, then rests. Waiting for the next time
// of day would make every fix a whole period late; so a live assembler learns how
// the cycle ends. No fix is lost when it errs: what comes after all still joins
// its epoch, is delivered as an addition of the same time of fix, and the lesson
// is unlearned. What was published is not taken back: of an addition only new names
// are delivered (in recorded streams replayed at 9600 baud, 2 of 1264 fixes say 2d
// where the whole epoch says 3d).

const (
	// firstSilence ends an epoch; lastSilence bounds how long it grows to for a
	// receiver that pauses within its cycle.
	firstSilence = 150 * time.Millisecond
	lastSilence  = 1200 * time.Millisecond
	// firstLesson is how many cycles in a row must end alike; it doubles each time
	// the lesson was wrong, up to lastLesson.
	firstLesson = 5
	lastLesson  = 1 << 20
)

// cadence is what is known of a receiver's cycle.
type cadence struct {
	silence time.Duration // that ends an epoch
	last    mark          // that ended the latest cycles
	alike   int           // how many of them
	lesson  int           // how many must
}

func newCadence() *cadence { return &cadence{silence: firstSilence, lesson: firstLesson} }

// ends reports whether m is known to end the cycle.
func (c *cadence) ends(m mark) bool { return c.alike >= c.lesson && m == c.last }

// ended notes that a cycle ended with m.
func (c *cadence) ended(m mark) {
	if m != c.last {
		c.last, c.alike = m, 0
	}
	c.alike = min(c.alike+1, lastLesson)
}

// cameLate notes a sentence of an epoch that was published.
func (c *cadence) cameLate() {
	if c.alike >= c.lesson {
		c.lesson = min(2*c.lesson, lastLesson)
	}
	c.alike = 0
}

// paused notes that a silence was not the end of its cycle.
func (c *cadence) paused() {
	c.silence = min(2*c.silence, lastSilence)
	c.alike = 0
}
