package drive

import (
	"math"

	"github.com/paulmach/orb"
	"github.com/paulmach/orb/planar"
)

// Fences are the places to watch. They do not change.
type Fences struct {
	fences []fence
	// bounds are their bounding boxes in degrees, side by side: most of a fix's work is to
	// look through them.
	bounds []orb.Bound
}

// Len is how many there are.
func (f *Fences) Len() int { return len(f.fences) }

// around appends to found those whose box holds the point: none of the others does.
func (f *Fences) around(p orb.Point, found []int) []int {
	for i := range f.bounds {
		if b := &f.bounds[i]; p[0] >= b.Min[0] && p[0] <= b.Max[0] && p[1] >= b.Min[1] && p[1] <= b.Max[1] {
			found = append(found, i)
		}
	}
	return found
}

// fence is a place with a border.
type fence struct {
	name, id string  // id may be empty
	limit    float64 // km/h; 0: none
	plane    plane
	polygons orb.MultiPolygon // on the plane
	radius   float64          // metres, of a circle around the plane's origin; 0: polygons
}

// key names a fence over restarts and changes of the file.
func (f *fence) key() string {
	if f.id != "" {
		return f.id
	}
	return f.name
}

// contains tells whether a place, in degrees, is inside.
func (f *fence) contains(p orb.Point) bool {
	p = f.plane.metres(p)
	if f.radius > 0 {
		return math.Hypot(p[0], p[1]) <= f.radius
	}
	return planar.MultiPolygonContains(f.polygons, p)
}

// border is how many metres a place is from the border, on either side.
func (f *fence) border(p orb.Point) float64 {
	p = f.plane.metres(p)
	if f.radius > 0 {
		return math.Abs(f.radius - math.Hypot(p[0], p[1]))
	}
	return planar.DistanceFrom(f.polygons, p)
}

// plane maps degrees to metres around an origin. It is linear: what is a straight line in
// degrees, as an edge of GeoJSON is (RFC 7946, 3.1.1), stays one.
type plane struct {
	origin      orb.Point
	east, north float64 // metres a degree
}

// planeAt is the plane whose scale is right at its origin (WGS 84, radii of curvature).
func planeAt(origin orb.Point) plane {
	const (
		semiMajor    = 6378137.0
		eccentricity = 6.69437999014e-3 // squared
	)
	sin, cos := math.Sincos(origin[1] * math.Pi / 180)
	w := 1 - eccentricity*sin*sin
	normal := semiMajor / math.Sqrt(w)
	meridian := normal * (1 - eccentricity) / w
	return plane{origin, normal * cos * math.Pi / 180, meridian * math.Pi / 180}
}

// metres is where a place is on the plane.
func (p plane) metres(q orb.Point) orb.Point {
	return orb.Point{(q[0] - p.origin[0]) * p.east, (q[1] - p.origin[1]) * p.north}
}

// placeAt is a point of GeoJSON, which has the longitude first.
func placeAt(p orb.Point) place { return place{latitude: p[1], longitude: p[0], known: true} }
