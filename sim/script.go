package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Script is what the driver does besides driving calmly through the town: each once, as
// soon as the drive gives room for it. So the events of a drive are known beforehand.
type Script []Manoeuvre

// Kind says what is done.
type Kind string

// The kinds, and what the Amount of each is.
const (
	Brake      Kind = "brake"      // m/s^2
	Accelerate Kind = "accelerate" // m/s^2
	Corner     Kind = "corner"     // m/s^2 to the side: a full circle; negative to the left
	Overspeed  Kind = "overspeed"  // km/h, kept for 12 s
	Idle       Kind = "idle"       // s of standing with a running engine
	Overheat   Kind = "overheat"   // degrees Celsius of the coolant, kept for 60 s
	Tow        Kind = "tow"        // m that the parked vehicle is moved
	Crash      Kind = "crash"      // m/s^2 until it stands
)

// Manoeuvre is one thing that is done.
type Manoeuvre struct {
	Kind   Kind    `yaml:"do"`
	Amount float64 `yaml:"amount"`
	// From and To are the speeds in km/h between which to brake or accelerate, and From
	// the one to corner or crash at; Brake and Crash begin from From on.
	From float64 `yaml:"from_kmh"`
	To   float64 `yaml:"to_kmh"`
	// Near says that it stays below what it could be mistaken for.
	Near bool `yaml:"near"`
}

// Happening is a manoeuvre as it was done, in drive time.
type Happening struct {
	Manoeuvre
	Begin, End time.Duration
}

// Thresholds are what counts as harsh, for those who draw a script.
type Thresholds struct {
	BrakeMS2, AccelerateMS2, CornerMS2, OverspeedKMH, IdleS, CoolantC, TowM, CrashMS2 float64
}

const (
	calm       = 52 / 3.6 // m/s that a driver with a script drives at the most, besides it
	between    = 15.0     // s of calm driving between two manoeuvres
	stoodAfter = 20.0     // s that the vehicle stands after a crash, or a stop that is nearly one
	towSpeed   = 25 / 3.6
	towPull    = 0.8 // m/s^2
	heatKept   = 60.0
	speedKept  = 12.0
	mostScript = 64
)

// check tells what of a script cannot be done.
func (s Script) check() error {
	if len(s) > mostScript {
		return fmt.Errorf("%d manoeuvres: a script may have %d", len(s), mostScript)
	}
	for i, m := range s {
		size := math.Abs(m.Amount)
		least, most := 0.0, 0.0
		switch m.Kind {
		case Brake:
			least, most = 0.5, 12
		case Accelerate:
			least, most = 0.5, 8
		case Corner:
			least, most = 0.5, 12
		case Overspeed:
			least, most = 55, 78
		case Idle:
			least, most = 1, 86400
		case Overheat:
			least, most = 60, 150
		case Tow:
			least, most = 10, 3000
		case Crash:
			least, most = 15, 200
		default:
			return fmt.Errorf("manoeuvre %d: nothing is called %q; allowed: brake accelerate corner overspeed idle overheat tow crash", i+1, m.Kind)
		}
		switch {
		case !(size >= least && size <= most) || m.Amount < 0 && m.Kind != Corner:
			return fmt.Errorf("manoeuvre %d, %s: amount %v is not between %v and %v", i+1, m.Kind, m.Amount, least, most)
		case m.Kind == Brake && !(m.From > m.To && m.From <= 50 && m.To >= 0),
			m.Kind == Accelerate && !(m.From < m.To && m.To <= 50 && m.From >= 0),
			(m.Kind == Corner || m.Kind == Crash) && !(m.From >= 15 && m.From <= 50):
			return fmt.Errorf("manoeuvre %d, %s: from_kmh %v, to_kmh %v cannot be done: brake down and accelerate up within 0 and 50, corner and crash from 15 to 50",
				i+1, m.Kind, m.From, m.To)
		}
	}
	return nil
}

// DrawScript draws n manoeuvres of each kind that go over a threshold by a quarter or
// more, and as many that stay at 0.7 of it.
func DrawScript(seed uint64, n int, t Thresholds) Script {
	r := rand.New(rand.NewPCG(seed, 0x5C819))
	between := func(a, b float64) float64 { return a + (b-a)*r.Float64() }
	var s Script
	for range n {
		side := 1 - 2*float64(r.IntN(2))
		from := between(44, 50)
		// So much slower that a second of it is seen whole wherever the samples fall.
		s = append(s, Manoeuvre{Kind: Brake, Amount: t.BrakeMS2 * between(1.25, 1.9), From: from, To: from - between(2.5, 3.4)*t.BrakeMS2*3.6},
			Manoeuvre{Kind: Brake, Amount: t.BrakeMS2 * 0.7, From: from, To: between(0, 20), Near: true})
		from = between(2, 8)
		s = append(s, Manoeuvre{Kind: Accelerate, Amount: t.AccelerateMS2 * between(1.25, 1.9), From: from, To: from + between(2.5, 3.4)*t.AccelerateMS2*3.6},
			Manoeuvre{Kind: Accelerate, Amount: t.AccelerateMS2 * 0.7, From: from, To: between(35, 48), Near: true},
			Manoeuvre{Kind: Corner, Amount: side * t.CornerMS2 * between(1.25, 1.8), From: between(25, 42)},
			Manoeuvre{Kind: Corner, Amount: -side * t.CornerMS2 * 0.7, From: between(25, 42), Near: true},
			Manoeuvre{Kind: Overspeed, Amount: t.OverspeedKMH * between(1.05, 1.15)},
			Manoeuvre{Kind: Idle, Amount: t.IdleS * between(1.1, 1.5)}, Manoeuvre{Kind: Idle, Amount: t.IdleS * 0.7, Near: true},
			Manoeuvre{Kind: Overheat, Amount: t.CoolantC * between(1.02, 1.08)}, Manoeuvre{Kind: Overheat, Amount: t.CoolantC * 0.95, Near: true},
			Manoeuvre{Kind: Tow, Amount: t.TowM * between(2, 5)}, Manoeuvre{Kind: Tow, Amount: t.TowM * 0.7, Near: true},
			Manoeuvre{Kind: Crash, Amount: between(50, 120), From: between(48, 50)},
			Manoeuvre{Kind: Brake, Amount: t.CrashMS2 * 0.7, From: between(48, 50)}) // an emergency stop
	}
	for i := range s {
		s[i].To = min(max(s[i].To, 0), 50)
	}
	r.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
	return s
}

// NewScriptedDrive returns the drive that a vehicle with this seed and script makes.
func NewScriptedDrive(seed uint64, s Script) (*Drive, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	return &Drive{newScripted(seed, s)}, nil
}

// Happened lists what was done of the script until a time, in order.
func (d *Drive) Happened(until time.Duration) []Happening {
	m := d.drive.beginning()
	var all []Happening
	whole := uint64(1)<<len(m.script) - 1
	for m.step < int64(until/stepTime) && m.done != whole {
		before := m.doing
		m.advance()
		at := time.Duration(m.step) * stepTime
		if m.doing != before && m.doing > 0 {
			all = append(all, Happening{Manoeuvre: m.script[m.doing-1], Begin: at, End: until})
		}
		if before > 0 && m.doing != before {
			all[len(all)-1].End = at
		}
	}
	return all
}

// act goes on with the script; it reports whether that decided the acceleration.
func (m *model) act(here routePoint) bool {
	if m.script == nil {
		return false
	}
	if m.doing == 0 && m.now() >= m.rest {
		for i, x := range m.script {
			if m.done&(1<<i) == 0 && m.room(x, here) {
				m.begin(i)
				break
			}
		}
	}
	if m.doing == 0 {
		return false
	}
	return m.perform(m.script[m.doing-1])
}

// room reports whether a manoeuvre can begin here.
func (m *model) room(x Manoeuvre, here routePoint) bool {
	calmly := m.phase == driving && math.Abs(m.accel) < 0.6
	from, to := x.From/3.6, x.To/3.6
	switch x.Kind {
	case Brake, Crash:
		return calmly && m.speed >= from
	case Corner:
		return m.phase == driving && m.speed >= from && m.speed < from+1
	case Accelerate:
		way := (to*to-from*from)/(2*x.Amount) + to*2
		return m.phase == driving && m.speed >= from && m.speed < from+1 && m.accel >= 0 && m.clear(way, to)
	case Overspeed:
		v := x.Amount / 3.6
		return calmly && m.clear(v*(speedKept+10), v)
	case Idle:
		return m.phase == waitingAtLight && m.speed == 0
	case Overheat:
		return m.phase == driving && m.coolant > 70
	case Tow:
		return m.phase == parked && m.until-m.now() < parkedFor/2
	}
	return false
}

// clear reports whether v may be driven for so many metres from here, with room to stop
// behind them.
func (m *model) clear(way, v float64) bool {
	if m.stops[m.next].place-m.place < way+v*v/(2*brakingStop)+30 {
		return false
	}
	for s := 0.0; s <= way; s += sampleSpacing {
		if munich.at(m.place+s).speed < v {
			return false
		}
	}
	return true
}

func (m *model) begin(i int) {
	m.doing, m.since = i+1, m.now()
	switch x := m.script[i]; x.Kind {
	case Corner:
		m.circle, m.circled = m.speed*m.speed/x.Amount, 0
	case Idle:
		m.until = m.now() + x.Amount
	case Tow:
		m.towed = m.place
		m.until = math.Inf(1)
	}
}

// perform goes on with what is being done, and ends it; it reports whether it decides the
// acceleration.
func (m *model) perform(x Manoeuvre) bool {
	switch x.Kind {
	case Brake, Crash:
		m.accel = max(-x.Amount, -m.speed/dt)
		if m.speed > x.To/3.6+1e-6 {
			return true
		}
		if m.finish(); x.To == 0 && m.phase == driving {
			m.phase, m.until, m.accel = standing, m.now()+stoodAfter, 0
		}
	case Accelerate:
		if m.accel = x.Amount; m.speed < x.To/3.6 {
			return true
		}
		m.finish()
	case Corner:
		if m.accel = 0; m.circle != 0 {
			return true
		}
		m.finish()
	case Overspeed:
		v := x.Amount / 3.6
		if m.speed < v-0.5 {
			m.since = m.now()
		}
		m.accel = min((v-m.speed)/(4*dt), 1.5, m.accel+2.5*dt)
		if m.now()-m.since < speedKept {
			return true
		}
		m.finish()
	case Idle:
		if m.phase != waitingAtLight {
			m.finish()
		}
	case Overheat:
		if m.coolant < x.Amount-0.5 {
			m.since = m.now()
		}
		if m.now()-m.since > heatKept {
			m.finish()
		}
	case Tow:
		return m.tow(x.Amount - (m.place - m.towed))
	}
	return false
}

// tow pulls the vehicle the metres that are left.
func (m *model) tow(left float64) bool {
	if left < 0.3 && m.speed < 0.5 {
		m.speed, m.accel = 0, 0
		m.until = m.now() + parkedFor/2
		m.finish()
		return true
	}
	want := min(towSpeed, math.Sqrt(2*towPull*max(0, left-0.1)))
	m.accel = max(min((want-m.speed)/(4*dt), towPull), -m.speed/dt)
	return true
}

func (m *model) finish() {
	m.done |= 1 << (m.doing - 1)
	m.doing, m.rest, m.easing = 0, m.now()+between, true
}

// overheated is the coolant's temperature where the script decides it.
func (m *model) overheated() (c float64, ok bool) {
	if m.doing == 0 || m.script[m.doing-1].Kind != Overheat {
		return 0, false
	}
	return m.script[m.doing-1].Amount, true
}

// around is where a vehicle is, and heads, that drives a circle beside its route.
func (s state) around(p routePoint) (x, y, heading float64) {
	side := 90.0 // the centre is to the right
	if s.circle < 0 {
		side = -90
	}
	r, turn := math.Abs(s.circle), s.circled*180/math.Pi*side/90
	toCentre, back := (p.heading+side)*math.Pi/180, (p.heading+side+turn)*math.Pi/180
	x = p.x + r*(math.Sin(toCentre)-math.Sin(back))
	y = p.y + r*(math.Cos(toCentre)-math.Cos(back))
	return x, y, math.Mod(p.heading+turn+720, 360)
}
