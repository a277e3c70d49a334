package drive

import (
	"cmp"
	"slices"
	"time"

	"telemetryd/internal/telemetry"
)

// Config says what to look for.
type Config struct {
	Trips   Trips   // trip.go
	Driving Driving // the zero Driving looks for no event of driving
	Limit   int     // bytes that a message takes at the most; 0 means telemetry.MaxBatchBytes
	// Fences are the places to watch; nil: none. Inside are those of them that the vehicle
	// was in when KeepInside was last called, which may be nil.
	Fences     *Fences
	Inside     []string
	KeepInside func(fences []string)
	Privacy    Privacy
	Parked     ParkedConfig
	// FixEvery is the least time between two fixes that are kept; 0 keeps all. ParkedFixEvery is
	// the same while parked; 0 means 10 min.
	FixEvery, ParkedFixEvery time.Duration
	// Unkept are signals that are read to be judged alone.
	Unkept map[string]bool
}

// Drive follows one vehicle. Its methods are called by one goroutine, in order of time; Mode
// may be asked by any.
type Drive struct {
	Config
	situation situation
	parts     []part
	mode      Mode
	trips     *trips
	fences    *geofences // nil: none are watched
	around    around
	thin      thinner
}

// part finds one kind of thing. It keeps what it needs of the past itself.
type part interface {
	// reading is called with each reading, after the situation took it.
	reading(s *situation, r telemetry.Reading)
	// pass is called once a second, with s.now moved on, and before each reading.
	pass(s *situation)
}

// New returns a Drive that has seen nothing.
func New(c Config) *Drive {
	d := &Drive{Config: c, situation: situation{values: map[string]value{}, privacy: newCurtain(c.Privacy)}, trips: newTrips(c.Trips)}
	d.parts = append(d.parts, newParking(c.Parked, &d.mode), d.trips)
	if c.Fences != nil { // before driving events, which ask for the limit
		d.fences = newGeofences(c.Fences, c.Inside, c.KeepInside)
		d.parts = append(d.parts, d.fences)
	}
	d.parts = append(d.parts, c.Driving.parts()...)
	if c.Driving.Readings {
		d.around.limit = cmp.Or(c.Limit, telemetry.MaxBatchBytes)
	}
	d.parts = append(d.parts, &d.around)   // the last: it waits for what the others found
	if c.Parked.Already && !c.Parked.Off { // before anybody asks the car
		d.situation.parked, d.situation.since, d.situation.spoke = true, c.Parked.Since, c.Parked.Spoke
		d.mode.set(true, c.Parked.Since, c.Parked.Spoke)
	}
	return d
}

// Close keeps what the next run goes on from. Observe and Pass are not called any more.
func (d *Drive) Close() {
	d.trips.keep(&d.situation)
	if d.fences != nil {
		d.fences.keepInside()
	}
}

// Mode tells whether the vehicle is parked.
func (d *Drive) Mode() *Mode { return &d.mode }

// Observe takes a reading as it came, and returns what may be kept of it and what it means.
func (d *Drive) Observe(r telemetry.Reading) (kept telemetry.Reading, events []telemetry.Event) {
	events = d.Pass(r.Arrived)
	d.situation.take(r)
	for _, p := range d.parts {
		p.reading(&d.situation, r)
	}
	shown := d.published(d.situation.shown(r))
	d.around.keep(shown)
	return d.thin.keep(d.Config, &d.situation, shown), append(events, d.situation.happened()...)
}

// published is a reading without what is read to be judged alone.
func (d *Drive) published(r telemetry.Reading) telemetry.Reading {
	unkept := func(f telemetry.Field) bool { return d.Unkept[f.Name] }
	if slices.ContainsFunc(r.Fields, unkept) {
		r.Fields = slices.DeleteFunc(slices.Clone(r.Fields), unkept)
	}
	return r
}

// Pass says that it is now, since boot.
func (d *Drive) Pass(now time.Duration) []telemetry.Event {
	d.situation.now = max(d.situation.now, now)
	for _, p := range d.parts {
		p.pass(&d.situation)
	}
	return d.situation.happened()
}

// Placed completes an event with the trip under way and the last position.
func (d *Drive) Placed(e telemetry.Event) telemetry.Event {
	if e.TripID == "" {
		e.TripID = d.TripID()
	}
	if e.Position == nil && e.Type != "trip_end" { // which tells where that was, not where it is
		e.Position = d.situation.position(e.At)
	}
	return e
}

// TripID is the trip under way; empty for none.
func (d *Drive) TripID() string { return d.situation.trip }
