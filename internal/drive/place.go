package drive

import (
	"math"
	"time"

	"github.com/paulmach/orb"

	"telemetryd/internal/telemetry"
)

// place is where the receiver is, in degrees. It is not to be told: see
// situation.position.
type place struct {
	latitude, longitude float64
	known               bool
}

// placeOf is the place that a reading tells; not known where it tells none.
func placeOf(r telemetry.Reading) place {
	latitude, there := r.Number("latitude")
	longitude, ok := r.Number("longitude")
	return place{latitude, longitude, there && ok}
}

// place is the last true one.
func (s *situation) place() place {
	latitude, there := s.values["latitude"]
	longitude, ok := s.values["longitude"]
	if !ok || !there || latitude.at != longitude.at {
		return place{}
	}
	p := place{known: true}
	p.latitude, _ = latitude.Float()
	p.longitude, _ = longitude.Float()
	return p
}

// metres is how far apart two places are, for distances up to some kilometres: on the
// WGS 84 ellipsoid's radii of curvature at the latitude in the middle.
func metres(a, b place) float64 {
	p := planeAt(orb.Point{a.longitude, (a.latitude + b.latitude) / 2})
	const wholeRound = 360
	return math.Hypot((b.latitude-a.latitude)*p.north, math.Remainder(b.longitude-a.longitude, wholeRound)*p.east)
}

// wheelsTell reports whether the car tells its speed at present.
func (s *situation) wheelsTell() bool {
	_, _, ok := s.number("vehicle_speed_kmh", wheelsLimit)
	return ok
}

const (
	// silenceFor is how long the car says nothing while its adapter still does, until the
	// key counts as out.
	silenceFor = 5 * time.Second
	// voltageLimit is how old the adapter's last word may be for that.
	voltageLimit = 2 * time.Minute
)

// keyIsOut reports whether the car that spoke before is silent while its adapter is not:
// who moves then is carried.
func (s *situation) keyIsOut() bool {
	last := time.Duration(0)
	for _, name := range []string{"vehicle_speed_kmh", "engine_speed_rpm"} {
		if v, ok := s.values[name]; ok {
			last = max(last, v.at)
		}
	}
	_, at, ok := s.number("battery_voltage_v", voltageLimit)
	return s.spoke && ok && at-last >= silenceFor
}

// ground is how fast the vehicle drives, in km/h; ok is false where nobody tells. What a
// receiver tells of a vehicle that stands is no speed.
func (s *situation) ground() (kmh float64, ok bool) {
	if kmh, _, ok := s.number("vehicle_speed_kmh", wheelsLimit); ok {
		return kmh, true
	}
	if s.keyIsOut() {
		return 0, true
	}
	kmh, _, ok = s.number("gps_speed_kmh", fixLimit)
	if kmh <= driftKMH {
		kmh = 0
	}
	return kmh, ok
}

// stands reports whether the vehicle is known to stand with its engine off, or at least not
// known to turn.
func (s *situation) stands() bool {
	kmh, ok := s.ground()
	turns, _ := s.engine()
	return ok && kmh == 0 && !turns
}
