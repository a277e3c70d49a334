package sim

import (
	"math"
	"slices"
)

// waypoint is a corner of the route. The limit holds from here to the next.
type waypoint struct {
	lat, lon float64
	limit    float64 // km/h
	light    bool
}

// loop goes around the east of Munich: the Altstadtring, Prinzregentenstrasse,
// the Mittlerer Ring, Leopoldstrasse and back to the parking space it left.
var loop = []waypoint{
	{48.1351, 11.5820, 50, false}, // Isartor: the parking space
	{48.1366, 11.5840, 50, true},
	{48.1395, 11.5848, 50, false},
	{48.1430, 11.5858, 50, true}, // Prinz-Carl-Palais
	{48.1420, 11.5920, 50, false},
	{48.1410, 11.5975, 50, false}, // Friedensengel
	{48.1393, 11.6030, 50, true},
	{48.1380, 11.6080, 50, false}, // Prinzregentenplatz
	{48.1373, 11.6130, 60, false},
	{48.1400, 11.6168, 80, false}, // Mittlerer Ring
	{48.1450, 11.6172, 80, false},
	{48.1500, 11.6160, 80, false},
	{48.1530, 11.6130, 60, false}, // Effnerplatz
	{48.1552, 11.6060, 80, false}, // Isarring
	{48.1585, 11.5985, 80, false},
	{48.1620, 11.5920, 60, false},
	{48.1622, 11.5868, 50, true}, // Muenchner Freiheit
	{48.1570, 11.5842, 50, true},
	{48.1523, 11.5822, 50, false}, // Siegestor
	{48.1470, 11.5803, 50, true},
	{48.1427, 11.5787, 30, false}, // Odeonsplatz
	{48.1405, 11.5800, 30, false},
	{48.1380, 11.5800, 30, false},
}

const (
	sampleSpacing = 4.0 // m between points of the rounded path, about
	lateralLimit  = 2.0 // m/s^2 in bends
	brakingLimit  = 1.6 // m/s^2 towards a bend or a lower limit
	// The WGS 84 radii of curvature at the latitude of the route.
	meridianRadius = 6370680.0
	normalRadius   = 6390010.0
)

// route is the path as points a few metres apart.
type route struct {
	points []routePoint
	lights []float64 // distance of the stop lines from the start
	length float64   // m
}

// routePoint is a place on the path.
type routePoint struct {
	s        float64 // m from the start
	x, y     float64 // m east and north of the first waypoint
	heading  float64 // degrees clockwise from north, of the leg from here
	altitude float64 // m above mean sea level
	grade    float64 // slope of the leg from here
	speed    float64 // m/s that may be driven here
}

// munich is the route of every vehicle.
var munich = newRoute(loop)

func newRoute(w []waypoint) *route {
	r := &route{}
	r.lay(w)
	r.slope()
	r.limitBends()
	return r
}

// lay rounds the corners (a closed Catmull-Rom curve through the waypoints) and
// measures the path.
func (r *route) lay(w []waypoint) {
	n := len(w)
	at := func(i int) (x, y float64) { return plane(w[(i+n)%n].lat, w[(i+n)%n].lon) }
	for i := range w {
		x0, y0 := at(i - 1)
		x1, y1 := at(i)
		x2, y2 := at(i + 1)
		x3, y3 := at(i + 2)
		pieces := max(1, int(math.Hypot(x2-x1, y2-y1)/sampleSpacing))
		for k := range pieces {
			u := float64(k) / float64(pieces)
			r.points = append(r.points, routePoint{
				x: catmullRom(x0, x1, x2, x3, u), y: catmullRom(y0, y1, y2, y3, u), speed: w[i].limit / 3.6,
			})
		}
		if w[i].light {
			r.lights = append(r.lights, float64(len(r.points)-pieces)) // an index until measured
		}
	}
	r.points = append(r.points, r.points[0]) // the loop is closed
	for i := range r.points[:len(r.points)-1] {
		p, q := &r.points[i], &r.points[i+1]
		q.s = p.s + math.Hypot(q.x-p.x, q.y-p.y)
		p.heading = math.Mod(math.Atan2(q.x-p.x, q.y-p.y)*180/math.Pi+360, 360)
	}
	last := &r.points[len(r.points)-1]
	last.heading = r.points[0].heading
	r.length = last.s
	for i, index := range r.lights {
		r.lights[i] = r.points[int(index)].s
	}
}

// slope gives the path its hills, of a few metres as in Munich.
func (r *route) slope() {
	for i := range r.points {
		p := &r.points[i]
		a := 2 * math.Pi * p.s / r.length
		p.altitude = 517 + 6*math.Sin(a+0.6) + 2.5*math.Sin(3*a+2)
		p.grade = (6*math.Cos(a+0.6) + 7.5*math.Cos(3*a+2)) * 2 * math.Pi / r.length
	}
}

// limitBends lowers speeds in bends, and before them to what brakes allow.
func (r *route) limitBends() {
	last := len(r.points) - 1
	for i := range last {
		p, q := &r.points[i], &r.points[i+1]
		turn := math.Abs(turned(p.heading, q.heading)) * math.Pi / 180
		if i+1 < last && turn > 1e-6 {
			q.speed = max(3, min(q.speed, math.Sqrt(lateralLimit*(q.s-p.s)/turn)))
		}
	}
	for i := last - 1; i >= 0; i-- {
		p, q := &r.points[i], &r.points[i+1]
		p.speed = min(p.speed, math.Sqrt(q.speed*q.speed+2*brakingLimit*(q.s-p.s)))
	}
}

// at is the place s metres from the start, between its neighbours; a vehicle that
// has parked short of the start is still at the end of the loop.
func (r *route) at(s float64) routePoint {
	s = math.Mod(s+r.length, r.length)
	i, _ := slices.BinarySearchFunc(r.points, s, func(p routePoint, s float64) int {
		if p.s <= s {
			return -1
		}
		return 1
	})
	i = min(max(i-1, 0), len(r.points)-2)
	p, q := r.points[i], r.points[i+1]
	f := (s - p.s) / (q.s - p.s)
	mix := func(a, b float64) float64 { return a + (b-a)*f }
	return routePoint{
		s: s, x: mix(p.x, q.x), y: mix(p.y, q.y),
		heading:  math.Mod(p.heading+turned(p.heading, q.heading)*f+360, 360),
		altitude: mix(p.altitude, q.altitude), grade: p.grade, speed: min(p.speed, q.speed),
	}
}

// turned is the angle from heading a to heading b, -180 to 180 degrees.
func turned(a, b float64) float64 { return math.Mod(b-a+540, 360) - 180 }

func catmullRom(a, b, c, d, u float64) float64 {
	return 0.5 * (2*b + (c-a)*u + (2*a-5*b+4*c-d)*u*u + (3*b-a-3*c+d)*u*u*u)
}

// plane turns degrees into metres around the first waypoint, degrees the reverse.
func plane(lat, lon float64) (x, y float64) {
	o := loop[0]
	return (lon - o.lon) * math.Pi / 180 * normalRadius * math.Cos(o.lat*math.Pi/180),
		(lat - o.lat) * math.Pi / 180 * meridianRadius
}

func degrees(x, y float64) (lat, lon float64) {
	o := loop[0]
	return o.lat + y/meridianRadius*180/math.Pi,
		o.lon + x/(normalRadius*math.Cos(o.lat*math.Pi/180))*180/math.Pi
}
