package drive

import (
	"encoding/json"
	"fmt"
	"time"

	"telemetryd/internal/telemetry"
)

// kept is what outlives a restart: the trip under way. Of
// places it holds what may be told, and no other.
type kept struct {
	Format int       `json:"format"` // keptFormat
	Trip   *keptTrip `json:"trip,omitempty"`
}

const keptFormat = 1

// keptTrip is a trip as it was at its last sign.
type keptTrip struct {
	ID     string              `json:"id"`
	By     string              `json:"by"`
	BootID string              `json:"boot_id"`
	UTC    time.Time           `json:"utc,omitzero"` // of the last sign; zero while not known
	Stood  bool                `json:"stood,omitempty"`
	Start  *telemetry.Position `json:"start,omitempty"`
	End    *telemetry.Position `json:"end,omitempty"`
	Tally  tally               `json:"tally"`
}

// left is a trip that an earlier run left open. Whether the vehicle is still on it is decided
// as soon as it can be.
type left struct {
	keptTrip
	since   time.Duration // this run began
	running bool          // it did
}

const (
	// leftLimit is how long a vehicle may drive on unseen, to be on the same trip.
	leftLimit = 30 * time.Minute
	// droveOnKMH is its mean speed meanwhile, by the odometer, when it did.
	droveOnKMH = 15.0
	// A vehicle that runs is not long without a trip, for a clock that nobody sets; one that
	// does not can wait.
	undecidedRunning = time.Minute
	undecided        = 10 * time.Minute
)

// CheckKept says what is wrong with a kept state, which then counts as nothing.
func CheckKept(state []byte) error {
	_, err := parseKept(state)
	return err
}

func parseKept(state []byte) (k kept, err error) {
	if len(state) == 0 {
		return k, nil
	}
	if err = json.Unmarshal(state, &k); err == nil && k.Format != keptFormat {
		err = fmt.Errorf("format %d, this version knows %d", k.Format, keptFormat)
	}
	if err != nil {
		return kept{}, fmt.Errorf("read the trip under way: %w", err)
	}
	return k, nil
}

// restore takes up what an earlier run kept.
func (t *trips) restore() {
	k, err := parseKept(t.Kept)
	if err != nil {
		return // whoever hands it in has checked it
	}
	if k.Trip != nil {
		t.left = &left{keptTrip: *k.Trip}
	}
}

// keep keeps what the next run goes on from.
func (t *trips) keep(s *situation) {
	if t.Keep == nil {
		return
	}
	t.keptAt = s.now
	k := kept{Format: keptFormat}
	switch trip := t.trip; {
	case t.left != nil: // not decided yet
		k.Trip = &t.left.keptTrip
	case trip != nil && trip.id != "":
		t.keptSeen, t.keptStood = trip.known.Seen, trip.stood
		k.Trip = &keptTrip{ID: trip.id, By: trip.by, BootID: t.BootID, Stood: trip.stood, Start: trip.begin, End: trip.end, Tally: trip.known}
		if now, ok := t.utc(); ok {
			k.Trip.UTC = now.Add(trip.known.Seen - s.now)
		}
	}
	if state, err := json.Marshal(k); err == nil { // numbers that are no numbers are never added up
		t.Keep(state)
	}
}

func (t *trips) utc() (now time.Time, ok bool) {
	if t.UTC == nil {
		return now, false
	}
	return t.UTC()
}

// judgeLeft decides what becomes of a trip that an earlier run left open.
func (t *trips) judgeLeft(s *situation) {
	l := t.left
	if l == nil {
		return
	}
	if !l.running {
		l.running, l.since = true, s.now
	}
	off, known := t.off(s)
	same, decided := t.sameTrip(s, off, known)
	switch {
	case !decided:
		return
	case same:
		t.goOn(s, off)
	default:
		t.giveUp(s, off, known)
	}
}

// off is how long ago the left trip had its last sign; known is false while nobody can tell.
func (t *trips) off(s *situation) (d time.Duration, known bool) {
	l := t.left
	if l.BootID == t.BootID && s.now >= l.Tally.Seen {
		return s.now - l.Tally.Seen, true
	}
	// Since then the machine has started: it is at least as long ago as that.
	if now, ok := t.utc(); ok && !l.UTC.IsZero() {
		if d = now.Sub(l.UTC); d >= s.now {
			return d, true
		}
	}
	// An engine that has turned for longer than the machine is the one that turned before.
	if x, at, ok := s.number("run_time_s", undecided); ok && l.Tally.RunTime > 0 {
		turned := time.Duration(x*float64(time.Second)) + s.now - at
		if d = turned - l.Tally.RunTime; turned > s.now && d >= s.now {
			return d, true
		}
	}
	return 0, false
}

// sameTrip decides whether the vehicle is still on the left trip.
func (t *trips) sameTrip(s *situation, off time.Duration, known bool) (same, decided bool) {
	l := t.left
	patience := undecided
	if t.trip != nil {
		patience = undecidedRunning
	}
	if known {
		if off < t.EndAfter {
			return true, true
		}
		if l.Stood || off >= leftLimit {
			return false, true
		}
		km, _, ok := s.number("odometer_km", undecided)
		if o := l.Tally.Odometer; ok && o != nil {
			return (km-o.Last)/off.Hours() >= droveOnKMH, true
		}
	}
	return false, s.now-l.since >= patience
}

// goOn takes the left trip up again, with what this run has seen.
func (t *trips) goOn(s *situation, off time.Duration) {
	l := t.left
	t.left = nil
	resumed := &trip{
		id: l.ID, by: l.By, begin: l.Start, end: l.End, tally: l.Tally, known: l.Tally, stood: l.Stood, endUnseen: !l.Stood,
	}
	seen := s.now - off
	resumed.tally.Seen, resumed.tally.passed, resumed.tally.atFix = seen, seen, -1
	if c := t.trip; c != nil {
		between := c.began - seen
		seen := resumed.tally
		resumed.tally.add(c.tally, between)
		resumed.known = seen
		resumed.known.add(c.known, between)
		resumed.end, resumed.endUnseen, resumed.stood = c.end, false, c.stood
	} else {
		resumed.known.Seen = seen
	}
	t.trip = resumed
	s.trip = resumed.id
	t.keep(s)
}

// giveUp ends the left trip with what was known of it.
func (t *trips) giveUp(s *situation, off time.Duration, known bool) {
	l := t.left
	t.left = nil
	at := s.now
	if known {
		at -= off
	}
	t.report(s, &trip{id: l.ID, begin: l.Start, end: l.End, known: l.Tally}, at, !l.Stood)
	t.keep(s)
}
