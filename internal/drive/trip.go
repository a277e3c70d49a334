package drive

import (
	"cmp"
	"time"

	"telemetryd/internal/telemetry"
)

// Trips says when a trip is over, and what it takes to count it.
type Trips struct {
	EndAfter time.Duration // without anything that runs or moves; 0: DefaultEndAfter
	Fuel     Fuel          // that the engine burns; empty: Petrol
	TankL    float64       // content of the tank; 0: not known

	NewID  func() string                   // a new trip's id; nil: trips are not looked for
	BootID string                          // of the boot that times count from
	UTC    func() (now time.Time, ok bool) // ok is false while nobody knows; nil: never known
	Kept   []byte                          // what Keep was given last, by an earlier run; empty for nothing
	Keep   func(state []byte)              // keeps it; it must not wait for a disk; nil: nothing is kept
}

// DefaultEndAfter is how long nothing runs or moves until a trip is over: longer than most
// lights and level crossings, shorter than most errands.
const DefaultEndAfter = 3 * time.Minute

const (
	// A vehicle whose engine does not turn, or does not tell, has set off when it is faster
	// than somebody who pushes it, for some seconds. A receiver's speed wanders at rest: more
	// is asked of it, and that the place changes.
	setOffKMH         = 6.0
	setOffReceiverKMH = 8.0
	setOffFor         = 5 * time.Second
	setOffM           = 15.0
	// driftKMH is what a receiver may tell of a vehicle that stands.
	driftKMH = 5.0
	// fastKMH is a speed at which nobody stops within the time between two readings: a
	// vehicle that is lost at it drives on somewhere.
	fastKMH = 10.0
	// stopLimit is how soon it must be seen at rest, to have stopped where it was.
	stopLimit = 15 * time.Second
	// blindLimit is how long such a one may be lost, in a tunnel or by a plug that fell out,
	// until its trip is over.
	blindLimit = 15 * time.Minute
	// candidateLimit is how long something that may become a trip may be without a sign.
	candidateLimit = 5 * time.Second
	// keepEvery is how often what is known of a trip is kept: what a power cut takes of its
	// figures, and what a card bears. It is less where a short rest ends a trip: a restart
	// would look like one.
	keepEvery = 20 * time.Second
)

// The signs by which a vehicle is under way.
const (
	byEngine   = "engine"
	byWheels   = "wheels"
	byReceiver = "gps"
)

// trips finds trips.
type trips struct {
	Trips
	trip *trip // under way, or one that may become one
	left *left // by an earlier run, while it is not decided what it is

	streak    int           // fixes in a row that move
	fast      bool          // it is fast enough to have set off
	fastSince time.Duration // while it is
	keptAt    time.Duration
	keptSeen  time.Duration
	keptStood bool
}

// trip is one trip.
type trip struct {
	id    string // empty until it has really set off
	by    string // the first sign
	began time.Duration
	from  place // where; it is never told
	begin *telemetry.Position
	end   *telemetry.Position
	tally tally // of all until now
	known tally // of all until the last sign; what comes after it does not count until the next
	stood bool  // it was seen to stand after the last sign
	// endUnseen is set when an earlier run ended in full flow, and there was no sign since.
	endUnseen bool
}

func newTrips(c Trips) *trips {
	c.EndAfter = cmp.Or(c.EndAfter, DefaultEndAfter)
	c.Fuel = cmp.Or(c.Fuel, Petrol)
	t := &trips{Trips: c}
	t.restore()
	return t
}

func (t *trips) reading(s *situation, r telemetry.Reading) {
	if t.NewID == nil {
		return
	}
	by := t.sign(s, r)
	if t.trip == nil {
		if by == "" || s.parked {
			return
		}
		t.trip = &trip{by: by, began: s.now, from: s.place(), begin: s.position(s.now)}
		t.trip.tally.begin(s)
	}
	trip := t.trip
	trip.tally.reading(s, r, t.Fuel)
	if by == "" {
		return
	}
	trip.seen(s)
	if trip.id == "" && t.left == nil && t.hasSetOff(s, by) {
		trip.by = by
		t.begin(s)
	}
}

func (t *trips) pass(s *situation) {
	if t.NewID == nil {
		return
	}
	t.judgeLeft(s)
	if t.trip == nil {
		return
	}
	trip := t.trip
	trip.tally.pass(s)
	unseen := s.now - trip.known.Seen
	if s.parked && !s.unseen || s.stands() && (unseen <= stopLimit || trip.known.KMH <= fastKMH) {
		trip.stood = true
	}
	switch {
	case trip.id == "":
		if s.parked || unseen > candidateLimit {
			t.trip = nil
		}
	case t.isOver(s, unseen):
		t.finish(s)
	case s.now-t.keptAt >= min(keepEvery, t.EndAfter/4) && (trip.known.Seen != t.keptSeen || trip.stood != t.keptStood):
		t.keep(s)
	}
}

// sign tells by what the vehicle runs or moves, as far as this reading says; empty for
// nothing. Wheels that stand are believed before a receiver that moves: a ferry drives, a
// car on it does not.
func (t *trips) sign(s *situation, r telemetry.Reading) (by string) {
	for _, f := range r.Fields {
		x, ok := f.Value.Float()
		if !ok {
			continue
		}
		switch f.Name {
		case "engine_speed_rpm":
			if x > 0 {
				by = byEngine
			}
		case "vehicle_speed_kmh":
			t.streak = 0
			t.speeds(s, x > setOffKMH)
			if x > 0 {
				by = cmp.Or(by, byWheels)
			}
		case "gps_speed_kmh":
			if s.wheelsTell() || s.keyIsOut() {
				t.streak = 0
				continue
			}
			t.speeds(s, x > setOffReceiverKMH)
			if x <= driftKMH {
				t.streak = 0
				continue
			}
			if t.streak++; t.streak > 1 { // one alone may be a mistake
				by = cmp.Or(by, byReceiver)
			}
		}
	}
	return by
}

// speeds notes whether the vehicle is fast enough to have set off.
func (t *trips) speeds(s *situation, fast bool) {
	if fast && !t.fast {
		t.fastSince = s.now
	}
	t.fast = fast
}

// hasSetOff decides whether what may be a trip is one.
func (t *trips) hasSetOff(s *situation, by string) bool {
	if by == byEngine {
		return true
	}
	if !t.fast || s.now-max(t.fastSince, t.trip.began) < setOffFor {
		return false
	}
	return by == byWheels || !t.trip.from.known || metres(t.trip.from, s.place()) >= setOffM
}

// seen notes that the vehicle runs or moves now: what was measured since the last time
// belongs to the trip.
func (t *trip) seen(s *situation) {
	t.endUnseen, t.stood = false, false
	at := s.now
	if kmh, ok := s.ground(); ok {
		t.tally.KMH = kmh
	}
	t.tally.Elapsed += at - t.tally.Seen
	second := at/time.Second != t.tally.Seen/time.Second
	t.tally.Seen = at
	t.known = t.tally
	if t.end == nil || second {
		t.end = s.position(at)
	}
	if t.begin == nil && t.tally.metres() < 100 {
		t.begin = t.end
	}
}

// isOver decides whether a trip without a sign is over.
func (t *trips) isOver(s *situation, unseen time.Duration) bool {
	if unseen < t.EndAfter {
		return false
	}
	lost := !s.stands() && !t.trip.stood && t.trip.known.KMH > fastKMH
	return !lost || unseen >= max(t.EndAfter, blindLimit)
}

// begin says that the vehicle has set off.
func (t *trips) begin(s *situation) {
	t.trip.id = t.NewID()
	s.trip = t.trip.id
	s.report(telemetry.Event{Type: "trip_start", Severity: telemetry.Info, At: t.trip.began, TripID: t.trip.id,
		Position: t.trip.begin, Data: TripStart{By: t.trip.by}})
	t.keep(s)
}

// finish says that it has arrived, when it did.
func (t *trips) finish(s *situation) {
	trip := t.trip
	lost := !trip.stood && trip.known.KMH > fastKMH // nobody has seen it stop
	t.report(s, trip, trip.known.Seen, trip.endUnseen || lost)
	t.trip, s.trip = nil, ""
	t.keep(s)
}

func (t *trips) report(s *situation, trip *trip, at time.Duration, cutOff bool) {
	if _, ok := t.utc(); !ok { // a time before this boot cannot be told by the time since
		at = max(at, 0)
	}
	end := t.figures(trip)
	end.CutOff = cutOff
	s.report(telemetry.Event{Type: "trip_end", Severity: telemetry.Info, At: at, TripID: trip.id, Position: trip.end, Data: end})
}
