package drive

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/paulmach/orb"

	"telemetryd/internal/telemetry"
)

// A fix is off by metres, and by tens of metres between houses: at a border it jumps to and
// fro. So a crossing counts when the vehicle has been on the other side for a while, without
// a fix on the near one, and is as far beyond the border as noise does not reach; where it
// stays near the border, it takes longer. The crossing is then where and when the first of
// these fixes was.
const (
	// sureAfter and sureDepth settle a crossing: three fixes at 1 Hz, and metres beyond
	// the border for each unit of HDOP, two deviations of a fair receiver.
	sureAfter = 1500 * time.Millisecond
	sureDepth = 10
	// nearAfter, nearFixes and nearDepth do so for who stays near the border, or in a
	// fence too small for more.
	nearAfter = 9500 * time.Millisecond
	nearFixes = 5
	nearDepth = 3

	// worstHDOP is that of fixes that cross no border; supposedHDOP is taken where a
	// receiver does not tell.
	worstHDOP    = 5
	supposedHDOP = 2

	// A fix that is farther from the one before than leapNoise and the way the vehicle can
	// have made is not believed, for leapBelieved. (internal/gps keeps back what no car
	// can do; this is what this vehicle did not do, by its speed.)
	leapNoise    = 50 // metres
	leapSlack    = 1.5
	leapBelieved = 10 * time.Second
	supposedKMH  = 250 // where no speed is told

	// Slower than this the vehicle stands, km/h: by its wheels, and by its receiver, which
	// tells when it stands on a ferry or a tow truck.
	standingWheels   = 1
	standingReceiver = 3

	// unseenAfter without a fix, and for firstLook after that and after the start, it is
	// not known when the border was crossed.
	unseenAfter = 2 * time.Minute
	firstLook   = 10 * time.Second
	// limitHolds is how long without a fix the speed limit of a fence holds.
	limitHolds = time.Minute
)

// Crossing is the data of `geofence_entered` and `geofence_left`.
type Crossing struct {
	Name string `json:"name"`
	ID   string `json:"fence_id,omitempty"`
	// FirstSeen tells that the crossing itself was not seen: so it was when fixes began.
	FirstSeen bool `json:"first_seen"`
	// DurationS is how long the vehicle was inside; absent when it was entered before the
	// daemon started.
	DurationS *float64 `json:"duration_s,omitempty"`
	// SettledS is how long after the crossing it was settled, by a fix DepthM beyond the
	// border, of which ThresholdM was needed.
	SettledS   float64 `json:"settled_s"`
	DepthM     float64 `json:"depth_m"`
	ThresholdM float64 `json:"threshold_m"`
	HDOP       float64 `json:"hdop,omitempty"` // of that fix
}

// geofences is the part that finds crossings.
type geofences struct {
	fences *Fences
	keep   func(inside []string)
	unkept bool // inside changed since

	at     map[int]*presence // of the fences that the vehicle is in or may have come into
	last   gpsFix            // the last that was believed
	since  time.Duration     // since when there are fixes, without an outage or a leap
	stand  stand
	boxes  []int // scratch
	looked []int // scratch
}

// presence is how the vehicle is to one fence.
type presence struct {
	inside  bool
	entered time.Duration // since boot; negative: before the daemon started
	first   gpsFix        // of those that are on the other side
	unseen  bool          // fixes began there, or nearly so
	fixes   int           // how many these are; 0: none
	// position is that of the first, as far as it may be told: out of a privacy zone it
	// stays untold when the vehicle has left the zone.
	position *telemetry.Position
}

// gpsFix is a fix as it is judged.
type gpsFix struct {
	at      time.Duration // since boot
	place   orb.Point     // degrees; while the vehicle stands, the mean
	raw     orb.Point     // as it came
	hdop    float64       // at least 1, for thresholds
	told    float64       // as it came; 0: not told
	fastest float64       // km/h, that it may be now
}

// stand is the mean of the fixes of a stand: what stands crosses no border, however its
// fixes drift.
type stand struct {
	fixes               int
	longitude, latitude float64 // sums
}

// newGeofences returns the part. inside are the keys of the fences that the vehicle was in
// when they were last handed to keep.
func newGeofences(fences *Fences, inside []string, keep func([]string)) *geofences {
	g := &geofences{fences: fences, keep: keep, at: map[int]*presence{}}
	for i := range fences.fences {
		if slices.Contains(inside, fences.fences[i].key()) {
			g.at[i] = &presence{inside: true, entered: -1}
		}
	}
	return g
}

// reading looks at a fix.
func (g *geofences) reading(s *situation, r telemetry.Reading) {
	f, ok := g.fix(s, r)
	if !ok {
		return
	}
	g.boxes = g.fences.around(f.place, g.boxes[:0])
	for _, i := range g.boxes {
		if g.at[i] == nil && g.fences.fences[i].contains(f.place) {
			g.at[i] = new(presence)
		}
	}
	g.looked = slices.AppendSeq(g.looked[:0], maps.Keys(g.at))
	slices.Sort(g.looked) // events of one fix in the order of the file
	for _, i := range g.looked {
		g.look(s, i, f)
		if p := g.at[i]; !p.inside && p.fixes == 0 {
			delete(g.at, i)
		}
	}
	s.limit, s.limits = g.limit()
}

// pass ends a limit that holds no more, and keeps what has changed: after the recorder has made the events of it durable, so
// that a crash tells them twice rather than never.
func (g *geofences) pass(s *situation) {
	if s.now-g.last.at > limitHolds {
		s.limit, s.limits = 0, ""
	}
	g.keepInside()
}

// keepInside keeps which fences the vehicle is in, if that has changed.
func (g *geofences) keepInside() {
	if !g.unkept || g.keep == nil {
		return
	}
	g.unkept = false
	var inside []string
	for _, i := range slices.Sorted(maps.Keys(g.at)) {
		if g.at[i].inside {
			inside = append(inside, g.fences.fences[i].key())
		}
	}
	g.keep(inside)
}

// limit is the lowest of the fences that the vehicle is in, km/h, and whose it is; 0: none.
func (g *geofences) limit() (lowest float64, name string) {
	for i, p := range g.at {
		if limit := g.fences.fences[i].limit; p.inside && limit > 0 && (lowest == 0 || limit < lowest) {
			lowest, name = limit, g.fences.fences[i].name
		}
	}
	return lowest, name
}

// look compares a fix with one fence.
func (g *geofences) look(s *situation, i int, f gpsFix) {
	p, fence := g.at[i], &g.fences.fences[i]
	if fence.contains(f.place) == p.inside {
		p.fixes = 0
		return
	}
	if p.fixes == 0 {
		p.first, p.unseen, p.position = f, f.at-g.since < firstLook, s.position(f.at)
	}
	p.fixes++
	lasted, depth := f.at-p.first.at, fence.border(f.place)
	threshold := sureDepth * f.hdop
	if lasted < sureAfter || depth < threshold {
		threshold = nearDepth * f.hdop
		if lasted < nearAfter || p.fixes < nearFixes || depth < threshold {
			return
		}
	}
	c := Crossing{
		Name: fence.name, ID: fence.id, FirstSeen: p.unseen,
		SettledS: tenths(lasted.Seconds()), DepthM: tenths(depth), ThresholdM: tenths(threshold), HDOP: f.told,
	}
	kind := "geofence_entered"
	if p.inside {
		kind = "geofence_left"
		if p.entered >= 0 {
			c.DurationS = new(tenths((p.first.at - p.entered).Seconds()))
		}
	}
	s.report(telemetry.Event{Type: kind, Severity: telemetry.Info, At: p.first.at, Data: c, Position: p.position})
	p.inside, p.entered, p.fixes, g.unkept = !p.inside, p.first.at, 0, true
}

func tenths(x float64) float64 { return math.Round(x*10) / 10 }

// fix takes a fix out of a reading, and judges whether it may cross a border.
func (g *geofences) fix(s *situation, r telemetry.Reading) (f gpsFix, ok bool) {
	f.at = r.Arrived
	here := placeOf(r)
	if !here.known {
		return f, false
	}
	f.raw = orb.Point{here.longitude, here.latitude}
	f.hdop = supposedHDOP
	if hdop, _, ok := s.number("hdop", fixLimit); ok {
		f.told, f.hdop = hdop, max(1, hdop)
	}
	f.fastest = s.fastest()
	if f.hdop > worstHDOP || !g.follows(f) {
		return f, false
	}
	f.place = g.stand.mean(f.raw, s.rests())
	g.last = f
	return f, true
}

// follows tells whether the vehicle can be there, and notes where fixes begin anew.
func (g *geofences) follows(f gpsFix) bool {
	step := f.at - g.last.at
	reach := leapNoise + leapSlack*max(f.fastest, g.last.fastest)/3.6*step.Seconds()
	switch {
	case g.last.hdop == 0 || step > unseenAfter: // the first, or the first after an outage
	case metres(placeAt(g.last.raw), placeAt(f.raw)) <= reach:
		return true
	case step < leapBelieved:
		return false
	}
	g.since, g.stand = f.at, stand{}
	return true
}

// mean is where the vehicle is: while it stands, the mean of all fixes of the stand.
func (m *stand) mean(p orb.Point, stands bool) orb.Point {
	if !stands {
		*m = stand{}
		return p
	}
	m.fixes++
	m.longitude += p[0]
	m.latitude += p[1]
	return orb.Point{m.longitude / float64(m.fixes), m.latitude / float64(m.fixes)}
}

// rests tells whether the vehicle is known to stand.
func (s *situation) rests() bool {
	wheels, _, turning := s.number("vehicle_speed_kmh", wheelsLimit)
	receiver, _, told := s.number("gps_speed_kmh", fixLimit)
	return (turning || told) && wheels < standingWheels && receiver < standingReceiver
}

// fastest is the most that the speeds told allow, km/h.
func (s *situation) fastest() float64 {
	wheels, _, turning := s.number("vehicle_speed_kmh", wheelsLimit)
	receiver, _, told := s.number("gps_speed_kmh", fixLimit)
	if !turning && !told {
		return supposedKMH
	}
	return max(wheels, receiver)
}
