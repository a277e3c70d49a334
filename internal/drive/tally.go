package drive

import (
	"time"

	"telemetryd/internal/telemetry"
)

// tally adds up what is measured of a trip. Its public fields outlive a restart; the others
// bridge from one reading to the next, and after a restart there is nothing to bridge from.
// No place is in it: what may be told of places is decided elsewhere.
type tally struct {
	Seen    time.Duration // time since boot of the last sign
	Elapsed time.Duration // from the beginning to it
	KMH     float64       // the last speed that was known

	Moving, Idle, Unmeasured time.Duration // Idle: it stands and the engine turns
	Lost                     time.Duration // of Unmeasured: it was fast before
	SpeedKnown, EngineKnown  time.Duration
	EngineOn                 time.Duration

	Wheels       bool          // they told something
	WheelsM      float64       // by their speed
	WheelsMoving time.Duration // of it
	ReceiverM    float64       // where the wheels told nothing
	BothFixM     float64       // by the receiver's speed, where both told theirs
	BothWheelsM  float64       // by the wheels' there
	BothMoving   time.Duration // of it
	FastestKMH   float64       // by the wheels
	FastestFix   float64       // by the receiver, where the wheels told nothing
	Stops        int

	Odometer *odometer     `json:",omitempty"`
	Level    *level        `json:",omitempty"`
	RateL    float64       // of fuel by its rate
	Rated    time.Duration // while that was read
	AirG     float64       // of fuel by the air that the engine took, in g
	Aired    time.Duration
	RunTime  time.Duration // of the engine at Seen, as far as it told; 0: not known

	passed time.Duration
	stood  time.Duration
	wheels point   // their last speed
	fix    point   // the receiver's
	at     place   // of the last fix; never told
	atFix  float64 // WheelsM at it; negative where the wheels told nothing
	gap    float64 // m by the receiver since the wheels' last word
	engine point
	rate   point
	air    point
}

// point is a value and when it was measured.
type point struct {
	x     float64
	at    time.Duration
	known bool
}

// odometer is what it said first and last on the trip, in km, and how far and how long the
// trip had gone then.
type odometer struct {
	First, Last     float64
	FirstM, LastM   float64
	FirstAt, LastAt time.Duration
}

// level is what the fuel gauge said first and last, in percent.
type level struct{ First, Last float64 }

const (
	// bridged is how long a gap between two speeds may be to count as their mean.
	bridged = 3 * time.Second
	// bridgedFix is the same of a receiver, which may tell once in some seconds.
	bridgedFix = 5 * time.Second
	// bridgedFuel is the same of fuel, which is read once a second at best.
	bridgedFuel = 5 * time.Second
	// stepM is how far positions without a speed have to be apart to be a way and no noise;
	// a bend is cut by little.
	stepM = 25.0
	// impossibleMS is a speed, in m/s, that no vehicle has: a jump.
	impossibleMS = 90.0
	// stopFor is how long it stands at a stop.
	stopFor = 10 * time.Second
)

func (t *tally) begin(s *situation) { t.Seen, t.passed, t.atFix = s.now, s.now, -1 }

// metres is the way until now.
func (t *tally) metres() float64 { return t.WheelsM + t.ReceiverM }

// elapsed is the time from the beginning until now.
func (t *tally) elapsed(s *situation) time.Duration { return t.Elapsed + s.now - t.Seen }

// pass adds up times.
func (t *tally) pass(s *situation) {
	d := s.now - t.passed
	if d <= 0 {
		return
	}
	t.passed = s.now
	kmh, known := s.ground()
	switch {
	case !known:
		t.Unmeasured += d
		if t.KMH > fastKMH {
			t.Lost += d
		}
		return
	case kmh > 0:
		t.Moving += d
		if t.stood >= stopFor && t.Moving > d {
			t.Stops++
		}
		t.stood = 0
	default:
		t.stood += d
	}
	t.SpeedKnown += d
	t.KMH = kmh
}

// reading adds up what a reading tells.
func (t *tally) reading(s *situation, r telemetry.Reading, fuel Fuel) {
	for _, f := range r.Fields {
		x, ok := f.Value.Float()
		if !ok {
			continue
		}
		switch p := (point{x, r.Arrived, true}); f.Name {
		case "engine_speed_rpm":
			t.byEngine(s, p)
		case "vehicle_speed_kmh":
			t.byWheels(p)
		case "gps_speed_kmh":
			t.byReceiver(s, p)
		case "latitude":
			t.byPlace(s, r)
		case "odometer_km":
			t.byOdometer(s, x)
		case "fuel_rate_l_h":
			sum, d := t.rate.to(p, bridgedFuel)
			t.RateL, t.Rated = t.RateL+sum/3600, t.Rated+d
		case "maf_g_s":
			if p.x, ok = fuel.burnt(s, x); ok {
				sum, d := t.air.to(p, bridgedFuel)
				t.AirG, t.Aired = t.AirG+sum, t.Aired+d
			}
		case "fuel_level_pct":
			if t.Level == nil {
				t.Level = &level{First: x}
			}
			t.Level = &level{t.Level.First, x}
		case "run_time_s":
			t.RunTime = time.Duration(x * float64(time.Second))
		}
	}
}

// to moves on to the next point and returns the integral over the seconds between, 0 when they are too
// far apart, and the time that it covers.
func (p *point) to(next point, most time.Duration) (sum float64, covered time.Duration) {
	before, d := *p, next.at-p.at
	if before.known && d <= 0 {
		return 0, 0
	}
	*p = next
	if !before.known || d > most {
		return 0, 0
	}
	return (before.x + next.x) / 2 * d.Seconds(), d
}

// byEngine adds up how long the engine turned. What lies between two readings counts, nothing
// behind the last one: after that the key may be out.
func (t *tally) byEngine(s *situation, p point) {
	before := t.engine
	_, covered := t.engine.to(p, bridged)
	t.EngineKnown += covered
	if before.x <= 0 || p.x <= 0 {
		return
	}
	t.EngineOn += covered
	if kmh, ok := s.ground(); ok && kmh == 0 {
		t.Idle += covered
	}
}

// byWheels adds the way by the wheels' speed. Where they told nothing for longer than is
// bridged, the receiver's way counts, if there is one.
func (t *tally) byWheels(p point) {
	before := t.wheels
	sum, covered := t.wheels.to(p, bridged)
	if t.wheels != p {
		return // it came late
	}
	t.Wheels, t.FastestKMH = true, max(t.FastestKMH, p.x)
	t.WheelsM += sum / 3.6
	if covered > 0 {
		for _, x := range []float64{before.x, p.x} {
			if x > 0 {
				t.WheelsMoving += covered / 2
			}
		}
	} else {
		t.ReceiverM += t.gap
	}
	t.gap = 0
}

// byReceiver adds the way by the receiver's speed: it is measured by Doppler shift, better
// than the difference of two positions, and follows bends.
func (t *tally) byReceiver(s *situation, p point) {
	if p.x <= driftKMH {
		p.x = 0
	}
	before := t.fix
	sum, covered := t.fix.to(p, bridgedFix)
	if t.fix != p {
		return
	}
	if covered == 0 && before.known {
		sum = 3.6 * t.jump(s, p.at-before.at)
	}
	t.compare(s, sum/3.6, covered)
	t.way(s, sum/3.6)
	t.at = s.place()
	if !s.wheelsTell() && !s.keyIsOut() {
		t.FastestFix = max(t.FastestFix, p.x)
	}
}

// compare adds up the way from fix to fix by the receiver and by the wheels.
func (t *tally) compare(s *situation, m float64, covered time.Duration) {
	before := t.atFix
	if t.atFix = t.WheelsM; !s.wheelsTell() || s.keyIsOut() {
		t.atFix = -1
	}
	if wheels := t.WheelsM - before; before >= 0 && t.atFix >= 0 && covered > 0 && wheels > 0 {
		t.BothFixM, t.BothWheelsM, t.BothMoving = t.BothFixM+m, t.BothWheelsM+wheels, t.BothMoving+covered
	}
}

// jump is the straight way between two fixes that are far apart in time, as those before and
// behind a tunnel; 0 when it is none.
func (t *tally) jump(s *situation, d time.Duration) float64 {
	here := s.place()
	if !t.at.known || !here.known {
		return 0
	}
	if m := metres(t.at, here); m >= 2*stepM && m <= impossibleMS*d.Seconds() {
		return m
	}
	return 0
}

// byPlace adds the way by positions, of a receiver that tells no speed.
func (t *tally) byPlace(s *situation, r telemetry.Reading) {
	if _, ok := r.Number("gps_speed_kmh"); ok {
		return
	}
	if _, _, ok := s.number("gps_speed_kmh", fixLimit); ok {
		return // one that tells it in most of its fixes
	}
	here := s.place()
	if !here.known {
		return
	}
	m := 0.0
	if t.at.known {
		if m = metres(t.at, here); m < stepM {
			return
		}
	}
	t.at = here
	t.way(s, m)
}

// way adds a way by the receiver: it counts where the wheels are silent, and the car is not
// carried.
func (t *tally) way(s *situation, m float64) {
	if s.keyIsOut() {
		return
	}
	t.gap += m
	if !s.wheelsTell() {
		t.ReceiverM, t.gap = t.ReceiverM+t.gap, 0
	}
}

func (t *tally) byOdometer(s *situation, km float64) {
	now := odometer{km, km, t.metres(), t.metres(), t.elapsed(s), t.elapsed(s)}
	if o := t.Odometer; o != nil {
		now.First, now.FirstM, now.FirstAt = o.First, o.FirstM, o.FirstAt
	}
	t.Odometer = &now // a copy of the tally keeps its own
}

// add adds what was measured later, and the time between, of which nothing is known.
func (t *tally) add(later tally, between time.Duration) {
	sum := *t
	later.Elapsed += sum.Elapsed + between
	later.Unmeasured += sum.Unmeasured + between
	later.Lost += sum.Lost
	if sum.KMH > fastKMH {
		later.Lost += between
	}
	for to, from := range map[*time.Duration]time.Duration{
		&later.Moving: sum.Moving, &later.Idle: sum.Idle, &later.SpeedKnown: sum.SpeedKnown, &later.EngineKnown: sum.EngineKnown,
		&later.EngineOn: sum.EngineOn, &later.WheelsMoving: sum.WheelsMoving, &later.Rated: sum.Rated, &later.Aired: sum.Aired,
		&later.BothMoving: sum.BothMoving,
	} {
		*to += from
	}
	if o := later.Odometer; o != nil {
		joined := *o
		joined.LastM += sum.metres()
		joined.LastAt += sum.Elapsed + between
		joined.FirstM, joined.FirstAt = joined.FirstM+sum.metres(), joined.FirstAt+sum.Elapsed+between
		if first := sum.Odometer; first != nil {
			joined.First, joined.FirstM, joined.FirstAt = first.First, first.FirstM, first.FirstAt
		}
		later.Odometer = &joined
	} else {
		later.Odometer = sum.Odometer
	}
	switch {
	case later.Level == nil:
		later.Level = sum.Level
	case sum.Level != nil:
		later.Level = &level{sum.Level.First, later.Level.Last}
	}
	later.WheelsM += sum.WheelsM
	later.ReceiverM += sum.ReceiverM
	later.BothFixM += sum.BothFixM
	later.BothWheelsM += sum.BothWheelsM
	later.RateL += sum.RateL
	later.AirG += sum.AirG
	later.Stops += sum.Stops
	later.Wheels = later.Wheels || sum.Wheels
	later.FastestKMH = max(later.FastestKMH, sum.FastestKMH)
	later.FastestFix = max(later.FastestFix, sum.FastestFix)
	*t = later
}
