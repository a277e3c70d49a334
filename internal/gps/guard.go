package gps

import (
	"math"
	"time"

	"telemetryd/internal/telemetry"
)

const (
	// frozenTime is how long a time of fix or, on the move, a position may be repeated
	// before the receiver counts as frozen.
	frozenTime = 5 * time.Second
	// frozenWay is how many metres the vehicle must have made meanwhile: more than the
	// coarsest receivers' step, which is 0.01 minutes or 18.5 m.
	frozenWay = 30
	// walkingPace is the speed, km/h, from which on the vehicle moves: below it a
	// receiver may hold its position on purpose (static navigation).
	walkingPace = 6
	// longestStep bounds how much way one speed stands for.
	longestStep = 3 * time.Second
	// wheelsKnown is how long a wheel speed counts.
	wheelsKnown = 3 * time.Second

	// fastestCar is the speed, km/h, that no car reaches between two fixes.
	fastestCar = 500
	// noise is how many metres a fix may be off its neighbour at any rate.
	noise = 50
	// jumpProof is how many fixes at a new place, each near the one before, make it
	// believed.
	jumpProof = 3
)

// stuck reports whether a time of fix has been repeated for too long.
func stuck(d time.Duration) bool { return d >= frozenTime }

// guard keeps back positions that cannot be true, although the receiver calls them
// valid: one that stands still while the vehicle moves, and one that no car can have
// reached. It is a pure structure.
type guard struct {
	wheels  func() (kmh float64, at time.Duration, ok bool) // may be nil
	fastest float64                                         // km/h

	last    place // the last that was let through
	leaping place // the last of those that are too far from it
	leaps   int   // how many of them, each near the one before

	repeated place     // the position that the latest fixes share
	since    time.Time // first fix there
	way      float64   // metres made since, by speed
	withheld time.Time // time of the fix that was kept back last
}

// place is where a fix was. Its zero value is nowhere.
type place struct {
	at                  time.Time
	latitude, longitude float64 // degrees
}

// judge tells why r must not be published; nothing is wrong when it is empty. An
// addition to a fix shares its fate.
func (g *guard) judge(r *telemetry.Reading) Reason {
	p, speed, ok := placeOf(r)
	if !ok {
		if r.FixTime.Equal(g.withheld) && !g.withheld.IsZero() {
			return Withheld
		}
		return ""
	}
	why := g.frozen(p, speed, r.Arrived)
	if why == "" {
		why = g.jumped(p)
	}
	if why == "" {
		g.last, g.withheld = p, time.Time{}
	} else {
		g.withheld = p.at
	}
	return why
}

// placeOf takes a fix's place and, if it tells, its speed in km/h.
func placeOf(r *telemetry.Reading) (p place, speed value, ok bool) {
	p.at = r.FixTime
	var there bool
	p.latitude, there = r.Number("latitude")
	p.longitude, ok = r.Number("longitude")
	speed.x, speed.ok = r.Number("gps_speed_kmh")
	return p, speed, there && ok
}

func (p place) same(q place) bool { return p.latitude == q.latitude && p.longitude == q.longitude }

// frozen adds up the way that wheels or receiver claim while the position is the same
// to the last bit.
func (g *guard) frozen(p place, speed value, arrived time.Duration) Reason {
	if g.since.IsZero() || !p.same(g.repeated) {
		g.repeated, g.since, g.way = p, p.at, 0
		return ""
	}
	step := min(p.at.Sub(g.repeated.at), longestStep)
	g.repeated = p
	if kmh := max(speed.x, g.wheelSpeed(arrived)); step > 0 && kmh > walkingPace {
		g.way += kmh / 3.6 * step.Seconds()
	}
	if stuck(p.at.Sub(g.since)) && g.way >= frozenWay {
		return Frozen
	}
	return ""
}

func (g *guard) wheelSpeed(now time.Duration) float64 {
	if g.wheels == nil {
		return 0
	}
	kmh, at, ok := g.wheels()
	if !ok || now-at > wheelsKnown {
		return 0
	}
	return kmh
}

func (g *guard) jumped(p place) Reason {
	switch {
	case g.last.at.IsZero() || g.reached(g.last, p):
	case g.leaps > 0 && g.reached(g.leaping, p):
		if g.leaps++; g.leaps < jumpProof {
			g.leaping = p
			return Jumped
		}
	default:
		g.leaping, g.leaps = p, 1
		return Jumped
	}
	g.leaps = 0
	return ""
}

// reached reports whether a car can have been at both places. Between fixes of one
// time, or of a time that was set back, lies the time between their times.
func (g *guard) reached(p, q place) bool {
	hours := q.at.Sub(p.at).Abs().Hours()
	return p.metres(q) <= noise+hours*g.fastest*1000
}

// earth is the mean radius of the Earth in metres (IUGG R1).
const earth = 6_371_008.8

// metres is the distance on a sphere (haversine formula): 0.5 % off at most.
func (p place) metres(q place) float64 {
	const rad = math.Pi / 180
	lat := math.Sin((q.latitude - p.latitude) * rad / 2)
	lon := math.Sin((q.longitude - p.longitude) * rad / 2)
	h := lat*lat + math.Cos(p.latitude*rad)*math.Cos(q.latitude*rad)*lon*lon
	return 2 * earth * math.Asin(min(1, math.Sqrt(h)))
}
