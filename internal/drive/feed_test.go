package drive

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
	"telemetryd/sim"
)

// feed is what a car and a receiver tell of the model's drive: whole km/h, fixes with noise.
type feed struct {
	drive     *sim.Drive
	random    *rand.Rand
	cut       bool    // the car cuts the decimals of its speed off
	scale     float64 // of the wheels' speed; 0: 1
	noOBD     bool
	noFuel    bool // no fuel rate
	noAir     bool
	noLambda  bool
	fuelUntil time.Duration // 0: always
	odometer  bool
	receiver  bool
	seen      func(time.Duration) bool // what is heard at all; nil: everything

	wander [2]float64   // of the receiver, in m: its errors hang together
	past   []sim.Moment // one a tick: the model walks forward only
}

func newFeed(seed uint64) *feed {
	return &feed{drive: sim.NewDrive(seed), random: rand.New(rand.NewPCG(seed, 7)), odometer: true, receiver: true}
}

// tick is the least time between readings.
const tick = 100 * time.Millisecond

// moment is the vehicle at a tick.
func (f *feed) moment(now time.Duration) sim.Moment {
	for len(f.past) <= int(now/tick) {
		f.past = append(f.past, f.drive.At(time.Duration(len(f.past))*tick))
	}
	return f.past[now/tick]
}

// at is what is told at a time of the drive.
func (f *feed) at(now time.Duration) (all []telemetry.Reading) {
	m := f.moment(now)
	every := func(d, phase time.Duration) bool { return (now+phase)%d == 0 }
	add := func(values ...any) {
		r := telemetry.Reading{Arrived: now}
		for i := 0; i < len(values); i += 2 {
			r.Add(values[i].(string), values[i+1].(float64))
		}
		all = append(all, r)
	}
	if f.receiver && every(time.Second, 300*time.Millisecond) {
		s := f.moment(max(0, now-200*time.Millisecond)) // it takes time to compute
		for i := range f.wander {
			f.wander[i] = 0.98*f.wander[i] + 0.5*f.random.NormFloat64()
		}
		lat := s.Latitude + (f.wander[0]+0.3*f.random.NormFloat64())/111200
		lon := s.Longitude + (f.wander[1]+0.3*f.random.NormFloat64())/111300/math.Cos(s.Latitude*math.Pi/180)
		speed := math.Abs(s.SpeedKMH + 0.4*f.random.NormFloat64())
		if s.SpeedKMH == 0 {
			speed = 3 * f.random.Float64() // as in a street between houses
		}
		add("latitude", lat, "longitude", lon, "gps_speed_kmh", speed)
	}
	if f.noOBD {
		return all
	}
	if every(10*time.Second, 0) {
		add("battery_voltage_v", m.BatteryV)
	}
	if !m.Ignition {
		return all
	}
	if every(200*time.Millisecond, 0) {
		kmh := m.SpeedKMH
		if f.scale > 0 {
			kmh *= f.scale
		}
		if kmh = math.Round(kmh); f.cut {
			kmh = math.Floor(m.SpeedKMH)
		}
		add("vehicle_speed_kmh", kmh, "engine_speed_rpm", m.EngineRPM)
	}
	if every(time.Second, 0) {
		if !f.noFuel && (f.fuelUntil == 0 || now < f.fuelUntil) {
			add("fuel_rate_l_h", m.FuelRateLH)
		}
		if !f.noAir {
			lambda := 1.0
			if m.FuelRateLH == 0 {
				lambda = 1.99
			}
			if !f.noLambda {
				add("commanded_lambda", lambda)
			}
			add("maf_g_s", m.MAFGS)
		}
	}
	if f.odometer && every(10*time.Second, 5*time.Second) {
		add("odometer_km", m.OdometerKM)
	}
	return all
}

// run drives from one time to another and returns the events.
func (f *feed) run(d *Drive, from, to time.Duration) (events []telemetry.Event) {
	for now := from; now < to; now += tick {
		if now%time.Second == 0 {
			events = append(events, d.Pass(now)...)
		}
		if f.seen != nil && !f.seen(now) {
			continue
		}
		for _, r := range f.at(now) {
			_, more := d.Observe(r)
			events = append(events, more...)
		}
	}
	return events
}

// withTrips looks for trips alone, which it counts t-1, t-2.
func withTrips(c Trips) *Drive {
	n := 0
	if c.NewID == nil {
		c.NewID = func() string { n++; return fmt.Sprint("t-", n) }
	}
	return New(Config{Trips: c, Parked: ParkedConfig{Off: true}})
}

// ended is a trip_end beside its trip_start.
type ended struct {
	TripEnd
	id         string
	began, end time.Duration
	by         string
}

// tripsOf pairs starts with ends; a trip of an earlier run has no start.
func tripsOf(t testing.TB, events []telemetry.Event) (all []ended) {
	t.Helper()
	open := map[string]ended{}
	for _, e := range events {
		switch data := e.Data.(type) {
		case TripStart:
			open[e.TripID] = ended{id: e.TripID, began: e.At, by: data.By}
		case TripEnd:
			one := open[e.TripID]
			one.TripEnd, one.id, one.end = data, e.TripID, e.At
			delete(open, e.TripID)
			all = append(all, one)
		}
	}
	if len(open) > 1 {
		t.Errorf("%d trips never end", len(open))
	}
	return all
}

func float(t testing.TB, v telemetry.Value) float64 {
	t.Helper()
	x, ok := v.Float()
	if !ok {
		t.Error("a figure is absent")
	}
	return x
}
