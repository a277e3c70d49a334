package drive

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/paulmach/orb"

	"telemetryd/internal/telemetry"
)

// Positions is how much of the vehicle's positions may be told.
type Positions int

// Exact positions are told as measured, Rounded ones on a fixed grid, NoPositions not at all.
const (
	Exact Positions = iota
	Rounded
	NoPositions
)

// Privacy is what is not to be told of where the vehicle is. The zero Privacy hides nothing.
type Privacy struct {
	Positions Positions
	Decimals  int // of a rounded position's degrees
	Zones     []Zone
	// Secret moves the zones, see Zone. It belongs to the installation and has to stay the
	// same: two different borders around one place tell more of it than one.
	Secret []byte
}

// Hides reports whether anything is hidden.
func (p Privacy) Hides() bool { return p.Positions != Exact || len(p.Zones) > 0 }

// Zone is a place around which no position is told.
//
// What is left of tracks that end at a circle's edge gives its centre away. So the circle
// that is used is not centred at the place: it is moved by up to half its radius, in a
// direction and by a distance that Secret decides, and half as large again, so that nothing
// within Radius of the place is ever told.
type Zone struct {
	Name                string
	Latitude, Longitude float64 // degrees
	Radius              float64 // m
}

const (
	metresPerDegree = 111_195 // of latitude: 6371 km times pi, over 180
	// farMargin is how far out of a zone a fix has to be to count as out of it, and
	// fixesToLeave how many in a row: noise at the border is no way out.
	farMargin    = 50 // m
	fixesToLeave = 3
)

// Coarse is how far a position that is told may be from the measured one, in metres: half
// the diagonal of the grid.
func (p Privacy) Coarse() float64 {
	if p.Positions != Rounded {
		return 0
	}
	return math.Round(metresPerDegree * math.Pow10(-p.Decimals) / math.Sqrt2)
}

// circle is the zone as it is used.
func (z Zone) circle(secret []byte) (latitude, longitude, radius float64) {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s %v %v %v", z.Name, z.Latitude, z.Longitude, z.Radius)
	sum := mac.Sum(nil)
	part := func(b []byte) float64 { return float64(binary.BigEndian.Uint64(b)) / (1 << 64) }
	// The root makes all points of the disk equally likely.
	far, direction := z.Radius/2*math.Sqrt(part(sum)), 2*math.Pi*part(sum[8:])
	p := planeAt(orb.Point{z.Longitude, z.Latitude})
	return z.Latitude + far*math.Cos(direction)/p.north, z.Longitude + far*math.Sin(direction)/p.east, z.Radius * 1.5
}

// curtain knows which positions are not to be told.
type curtain struct {
	Privacy
	circles [][3]float64
	within  []int // of each zone: 0 out of it, else fixes that it takes to be out
	hidden  bool
}

func newCurtain(p Privacy) curtain {
	c := curtain{Privacy: p, within: make([]int, len(p.Zones)), hidden: p.Positions == NoPositions}
	for _, z := range p.Zones {
		latitude, longitude, radius := z.circle(p.Secret)
		c.circles = append(c.circles, [3]float64{latitude, longitude, radius})
	}
	return c
}

// see takes a reading as it was measured, before anybody asks what of it may be told.
func (c *curtain) see(r telemetry.Reading) {
	here := placeOf(r)
	if !here.known {
		return
	}
	c.hidden = c.Positions == NoPositions
	for i, z := range c.circles {
		switch far := metres(here, place{latitude: z[0], longitude: z[1]}); {
		case far <= z[2]:
			c.within[i] = fixesToLeave
		case c.within[i] > 0 && far > z[2]+farMargin:
			c.within[i]--
		case c.within[i] > 0:
			c.within[i] = fixesToLeave
		}
		c.hidden = c.hidden || c.within[i] > 0
	}
}

// shown is what of a reading may be told. Altitude and heading go with an exact position:
// one tells where on a slope the vehicle is, the other which way it came. Within a zone the
// receiver's speed goes, too; without a position it is the wheels' business.
func (c *curtain) shown(r telemetry.Reading) telemetry.Reading {
	if c.Positions == Exact && !c.hidden {
		return r
	}
	fields := slices.Clone(r.Fields)
	r.Fields = fields[:0]
	for _, f := range fields {
		switch f.Name {
		case "latitude", "longitude":
			if c.hidden {
				continue
			}
			f.Value = c.rounded(f.Value)
		case "altitude_m", "heading_deg":
			continue
		case "gps_speed_kmh":
			if c.hidden && c.Positions != NoPositions {
				continue
			}
		}
		r.Fields = append(r.Fields, f)
	}
	return r
}

// rounded puts a coordinate on the grid.
func (c *curtain) rounded(v telemetry.Value) telemetry.Value {
	degrees, ok := v.Float()
	if !ok || c.Positions != Rounded {
		return v
	}
	return telemetry.Number(degrees, c.Decimals)
}

// shown is what of a reading that was taken may be told. What stores, publishes or puts
// readings into an event asks it first.
func (s *situation) shown(r telemetry.Reading) telemetry.Reading { return s.privacy.shown(r) }

// position is the last one known, as far as it may be told, and its age at a time since boot;
// nil while there is none.
func (s *situation) position(at time.Duration) *telemetry.Position {
	latitude, there := s.values["latitude"]
	longitude, ok := s.values["longitude"]
	if !ok || !there || latitude.at != longitude.at || s.privacy.hidden {
		return nil
	}
	p := telemetry.Position{AgeMS: max(0, at-latitude.at).Milliseconds()}
	p.Latitude, _ = s.privacy.rounded(latitude.Value).Float()
	p.Longitude, _ = s.privacy.rounded(longitude.Value).Float()
	return &p
}
