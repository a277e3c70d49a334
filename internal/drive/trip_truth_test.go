package drive

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
)

// laps is longer than the model takes for three of its laps, with a minute without key
// between.
const laps = 60 * time.Minute

// truth is what really happened between two times.
type truth struct{ km, fuel, moving, idle, fastest float64 }

func (f *feed) truth(from, to time.Duration) (l truth) {
	for now := from; now < to; now += tick {
		m := f.moment(now)
		l.fuel += m.FuelRateLH / 3600 * tick.Seconds()
		l.fastest = max(l.fastest, m.SpeedKMH)
		switch {
		case m.SpeedKMH > 0:
			l.moving += tick.Seconds()
		case m.Engine:
			l.idle += tick.Seconds()
		}
	}
	l.km = (f.moment(to).DrivenM - f.moment(from).DrivenM) / 1000
	return l
}

// runs are the times in which is says so.
func (f *feed) runs(until time.Duration, is func(now time.Duration) bool) (from, to []time.Duration) {
	for now := time.Duration(0); now < until; now += tick {
		switch {
		case is(now) && len(from) == len(to):
			from = append(from, now)
		case !is(now) && len(from) > len(to):
			to = append(to, now)
		}
	}
	return from, to
}

// The figures of trips against the model's truth: 20 drives, drawn anew at each run, by all
// that may measure them. Each lap is a trip when half a minute of rest ends one; all laps are
// one when three minutes do.
func TestTripTruth(t *testing.T) {
	ways := map[string]struct {
		feed   func(*feed)
		source string
		end    time.Duration
	}{
		"wheels and receiver":         {func(f *feed) { f.odometer = false }, "wheels", 30 * time.Second},
		"wheels":                      {func(f *feed) { f.receiver, f.odometer = false, false }, "wheels", 30 * time.Second},
		"wheels cut off and receiver": {func(f *feed) { f.odometer, f.cut = false, true }, "wheels", 30 * time.Second},
		"short, with odometer":        {func(f *feed) {}, "wheels", 30 * time.Second},
		"long, with odometer":         {func(f *feed) { f.receiver = false }, "odometer", 3 * time.Minute},
		"receiver":                    {func(f *feed) { f.noOBD = true }, "gps", 30 * time.Second},
	}
	worst, trips := map[string]float64{}, map[string]int{}
	for range 20 {
		seed := rand.Uint64()
		driven := newFeed(seed)
		_, key := driven.runs(laps, func(now time.Duration) bool { return driven.moment(now).Ignition })
		last := key[2] // of the third lap
		for name, way := range ways {
			f := newFeed(seed)
			f.past = driven.past
			way.feed(f)
			f.seen = func(now time.Duration) bool { return now < last+50*time.Second }
			all := tripsOf(t, f.run(withTrips(Trips{EndAfter: way.end}), 0, last+way.end+10*time.Second))
			is := func(now time.Duration) bool { return f.moment(now).Engine }
			if f.noOBD {
				is = func(now time.Duration) bool { return f.moment(now).SpeedKMH > driftKMH }
			}
			from, to := f.runs(last+10*time.Second, is)
			from, to = joined(from, to, way.end)
			if len(all) != len(from) {
				t.Errorf("%s, seed %d: %d trips, truly %d", name, seed, len(all), len(from))
				continue
			}
			for i, e := range all {
				trips[name]++
				worst[name] = max(worst[name], f.compare(t, name, seed, e, from[i], to[i]))
				if e.DistanceSource != way.source {
					t.Errorf("%s, seed %d: %s by %s", name, seed, e.id, e.DistanceSource)
				}
			}
		}
	}
	for name, n := range trips {
		t.Logf("%-30s %d trips, distance at worst %.2f %% off", name, n, 100*worst[name])
	}
}

// compare checks the figures of a trip that truly was from one time to another, and returns
// how far its distance is off, as a part of it.
func (f *feed) compare(t *testing.T, name string, seed uint64, e ended, from, to time.Duration) float64 {
	t.Helper()
	want := f.truth(e.began, e.end)
	near(t, seed, name+": begin", e.began.Seconds(), from.Seconds(), 2.5)
	near(t, seed, name+": end", e.end.Seconds(), to.Seconds(), 2.5)
	near(t, seed, name+": duration_s", float(t, e.DurationS), (e.end - e.began).Seconds(), 0.1)
	near(t, seed, name+": max_speed_kmh", float(t, e.MaxSpeedKMH), want.fastest, 2.5)
	near(t, seed, name+": moving_s", float(t, e.MovingS), want.moving, want.moving*0.03)
	if !f.noOBD {
		near(t, seed, name+": idle_s", float(t, e.IdleS), want.idle, 3+want.idle*0.05)
	}
	return near(t, seed, name+": distance_km", float(t, e.DistanceKM), want.km, want.km/100) / want.km
}

func near(t *testing.T, seed uint64, what string, got, want, within float64) (off float64) {
	t.Helper()
	if off = math.Abs(got - want); !(off <= within) {
		t.Errorf("seed %d: %s %.3f, truly %.3f", seed, what, got, want)
	}
	return off
}

// joined are runs with nothing between them as long as rest.
func joined(from, to []time.Duration, rest time.Duration) (f, u []time.Duration) {
	for i := range from {
		if i > 0 && from[i]-to[i-1] < rest {
			u[len(u)-1] = to[i]
			continue
		}
		f, u = append(f, from[i]), append(u, to[i])
	}
	return f, u
}

// What was burnt, by all that may tell it.
func TestTripFuel(t *testing.T) {
	level := func(d *Drive, f *feed, end time.Duration) (events []telemetry.Event) {
		burnt := 0.0
		for now := time.Duration(0); now < end; now += tick {
			burnt += f.moment(now).FuelRateLH / 3600 * tick.Seconds()
			for _, r := range f.at(now) {
				if f.moment(now).Ignition {
					r.Add("fuel_level_pct", math.Round((60-burnt*2)*2.55)/2.55) // of 50 l, a byte
				}
				_, more := d.Observe(r)
				events = append(events, more...)
			}
		}
		return events
	}
	for name, way := range map[string]struct {
		feed   func(*feed)
		trips  Trips
		source string
		within float64 // of it; 0: nothing may be told
	}{
		"rate":                  {func(*feed) {}, Trips{}, "fuel_rate", 0.01},
		"air":                   {func(f *feed) { f.noFuel = true }, Trips{}, "maf", 0.03},
		"air without mixture":   {func(f *feed) { f.noFuel, f.noLambda = true, true }, Trips{}, "maf", 0.25}, // overrun counts
		"air of a diesel":       {func(f *feed) { f.noFuel, f.noLambda = true, true }, Trips{Fuel: Diesel}, "", 0},
		"level":                 {func(f *feed) { f.noFuel, f.noAir = true, true }, Trips{TankL: 50}, "fuel_level", 0.2},
		"level of what tank":    {func(f *feed) { f.noFuel, f.noAir = true, true }, Trips{}, "", 0},
		"rate, half of it lost": {func(f *feed) { f.fuelUntil, f.noAir = laps/2, true }, Trips{}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			f := newFeed(seed)
			way.feed(f)
			d := withTrips(way.trips)
			events := append(level(d, f, laps), d.Pass(laps+20*time.Minute)...)
			all := tripsOf(t, events)
			if len(all) != 1 {
				t.Fatalf("seed %d: %d trips", seed, len(all))
			}
			e := all[0]
			if e.FuelSource != way.source || e.FuelL.Present() != (way.source != "") {
				t.Fatalf("seed %d: fuel by %q, %v", seed, e.FuelSource, e.FuelL)
			}
			if way.source != "" {
				want := f.truth(e.began, e.end).fuel
				t.Logf("%.3f l, truly %.3f", float(t, e.FuelL), want)
				near(t, seed, "fuel_l", float(t, e.FuelL), want, way.within*want)
			}
		})
	}
}

// A car that cuts the decimals of its speed off, at steady speeds: the receiver's speed tells
// what is missing.
func TestWholeKMH(t *testing.T) {
	for _, kmh := range []float64{29.5, 30.49, 48.7, 80.5, 130.3} {
		d := withTrips(Trips{})
		var events []telemetry.Event
		for now := time.Duration(0); now <= 10*time.Minute; now += 200 * time.Millisecond {
			r := telemetry.Reading{Arrived: now}
			r.Add("vehicle_speed_kmh", math.Floor(kmh))
			_, more := d.Observe(r)
			events = append(events, more...)
			if now%time.Second == 0 {
				r := telemetry.Reading{Arrived: now}
				r.Add("gps_speed_kmh", kmh)
				d.Observe(r)
			}
		}
		all := tripsOf(t, append(events, d.Pass(time.Hour)...))
		if len(all) != 1 || all[0].DistanceSource != "wheels" {
			t.Fatalf("%v: %+v", kmh, all)
		}
		near(t, 0, "distance_km", float(t, all[0].DistanceKM), kmh/6, kmh/6*0.002)
	}
}
