package sim

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// state is the vehicle at one moment.
type state struct {
	ignition bool    // the key is turned: ECUs answer
	engine   bool    // it runs
	speed    float64 // m/s
	accel    float64 // m/s^2
	path     float64 // m driven since the drive began
	place    float64 // m from the start of the loop
	circle   float64 // m of the circle driven at this place, to the left when negative; 0 for none
	circled  float64 // radians of it
	gear     int     // 0 is neutral
	ratio    float64 // engine turns per wheel turn; 0 in neutral
	lap      int

	rpm, load, torque, demand float64 // 1/min; 0..1 of the full load; Nm; pedal 0..1
	manifold, maf, fuelRate   float64 // kPa; g/s; l/h
	throttle, timing, lambda  float64 // 0..1; degrees; 1 is stoichiometric
	coolant, oil, intake      float64 // degrees Celsius
	ambient, barometer        float64 // degrees Celsius; kPa
	trimShort, trimLong       float64 // percent
	fuel                      float64 // l in the tank
	odometer                  float64 // km
	runTime                   float64 // s since the engine started
	volts                     float64
	warmups                   int // since the drive began
}

type phase uint8

const (
	driving phase = iota
	waitingAtLight
	parked   // key out
	starting // key turned, the starter, then a moment before moving off
	standing // somewhere on the way, the engine running
)

const (
	stepTime     = 50 * time.Millisecond
	dt           = 0.05 // s, the same
	departAfter  = 2.0  // s from the start of the drive, and from a running engine, to moving off
	parkedFor    = 60.0 // s
	keyBeforeRun = 1.0  // s of ignition and starter before the engine runs
	brakingStop  = 1.7  // m/s^2 towards a stop
	hardest      = 3.5  // m/s^2, the limit of braking
)

// model is a drive at one of its steps. It is a plain value: a copy of it is a
// checkpoint.
type model struct {
	state
	step   int64
	random rand.PCG
	phase  phase
	until  float64 // drive time at which the phase ends
	stops  [16]stop
	next   int     // the stop ahead
	shift  float64 // drive time of the last change of gear
	hurry  float64 // how much of the allowed speed this driver takes
	warm   bool

	script Script  // what else is done (script.go); never changed
	done   uint64  // a bit for each of it
	doing  int     // its number, from 1; 0 for none
	since  float64 // drive time at which that began
	rest   float64 // before this drive time nothing of it begins
	towed  float64 // place where the towing began
	easing bool    // the speed may be above what is allowed, and goes down gently
}

// stop is a red light, or the parking space at the end of the loop.
type stop struct {
	place, wait float64
	park        bool
}

func newModel(seed uint64) model {
	m := model{random: *rand.NewPCG(seed, 0x7E1E)}
	m.ambient = 8 + 10*m.uniform()
	m.barometer = 94.5 + 2*m.uniform()
	m.odometer = 20000 + math.Floor(100000*m.uniform())
	m.fuel = fuelTank * (0.55 + 0.2*m.uniform())
	m.trimLong = -3 + 6*m.uniform()
	m.coolant, m.oil, m.intake = m.ambient+4, m.ambient+3, m.ambient+2
	m.lambda, m.volts = 1, voltsOn
	m.ignition, m.engine, m.rpm = true, true, idleSpeed
	m.phase, m.until = starting, departAfter
	m.planLap()
	m.breathe()
	return m
}

func (m *model) uniform() float64 { return float64(m.random.Uint64()>>11) / (1 << 53) }

func (m *model) now() float64 { return float64(m.step) * dt }

// planLap decides which lights will be red.
func (m *model) planLap() {
	n := 0
	for _, s := range munich.lights {
		if red, wait := m.uniform() < 0.55, 6+16*m.uniform(); red {
			m.stops[n] = stop{place: s, wait: wait}
			n++
		}
	}
	m.stops[n] = stop{place: munich.length, park: true}
	m.next = 0
	m.hurry = 0.9 + 0.1*m.uniform()
}

// advance goes one step: first what the last decision has led to, then the next
// decision. Within a step the acceleration is constant, so that positions and
// speeds between steps follow exactly.
func (m *model) advance() {
	m.step++
	m.move(m.speed*dt + m.accel*dt*dt/2)
	if m.speed += m.accel * dt; m.speed < 1e-9 {
		m.speed = 0
	}
	m.changePhase()
	here := munich.at(m.place)
	m.accelerate(here)
	m.turnEngine(here)
	m.breathe()
	m.heat()
}

// move goes ds metres, along the route or on a circle beside it.
func (s *state) move(ds float64) {
	s.path += ds
	if s.ignition {
		s.odometer += ds / 1000
	}
	if s.circle == 0 {
		s.place += ds
		return
	}
	if s.circled += ds / math.Abs(s.circle); s.circled >= 2*math.Pi {
		s.place += (s.circled - 2*math.Pi) * math.Abs(s.circle)
		s.circle, s.circled = 0, 0
	}
}

func (m *model) changePhase() {
	switch m.phase {
	case driving:
		s := m.stops[m.next]
		if m.speed > 0.02 || s.place-m.place > 1.5 {
			return
		}
		m.speed = 0
		if s.park {
			m.phase, m.until = parked, m.now()+parkedFor
			m.ignition, m.engine = false, false
		} else {
			m.phase, m.until = waitingAtLight, m.now()+s.wait
		}
	case waitingAtLight:
		if m.now() >= m.until {
			m.phase = driving
			m.next++
		}
	case standing:
		if m.now() >= m.until {
			m.phase = driving
		}
	case parked:
		if m.now() >= m.until {
			m.beginLap()
		}
	case starting:
		if !m.engine && m.now() >= m.until-departAfter {
			m.engine, m.runTime = true, 0
		}
		if m.now() >= m.until {
			m.phase = driving
		}
	}
}

// beginLap turns the key for the next loop.
func (m *model) beginLap() {
	m.lap++
	m.place -= munich.length
	m.phase, m.until = starting, m.now()+keyBeforeRun+departAfter
	m.ignition = true
	m.warm = m.warm && m.coolant > 60 // a warm-up begins with a cool engine
	if m.fuel < 0.12*fuelTank {
		m.fuel = 0.96 * fuelTank // somebody was at the filling station
	}
	m.planLap()
	for m.stops[m.next].place < m.place+30 && !m.stops[m.next].park { // it was towed past them
		m.next++
	}
}

// accelerate decides the acceleration of the coming step.
func (m *model) accelerate(here routePoint) {
	if m.act(here) {
		return
	}
	if m.phase != driving {
		m.accel = 0
		return
	}
	left := m.stops[m.next].place - m.place
	want := min(here.speed*m.hurry, math.Sqrt(2*brakingStop*max(0, left-0.3)))
	if m.script != nil {
		want = min(want, calm)
	}
	pull := 2.4 - 0.05*m.speed // what this driver asks of the engine
	a := min((want-m.speed)/(4*dt), pull, m.accel+2.5*dt)
	if m.easing = m.easing && m.speed > want+0.1; m.easing {
		a = max(a, -brakingStop)
	}
	a = max(a, -hardest)
	m.accel = max(a, -m.speed/dt) // a car does not brake into reverse
}

// drive is the drive of a seed as a function of time, safe for concurrent use.
// It walks forward; a look back of up to a few loops starts from a checkpoint.
type drive struct {
	mu          sync.Mutex
	seed        uint64
	script      Script
	current     model
	checkpoints []model // the beginnings of the last loops, oldest first
	key         *key    // when it is off; nil: as the drive has it
}

const checkpointsKept = 8

func newDrive(seed uint64) *drive { return newScripted(seed, nil) }

// newScripted is a drive on which a script is done.
func newScripted(seed uint64, s Script) *drive {
	d := &drive{seed: seed, script: slices.Clone(s)}
	d.current = d.beginning()
	return d
}

func (d *drive) beginning() model {
	m := newModel(d.seed)
	m.script = d.script
	return m
}

// at is the vehicle at drive time t.
func (d *drive) at(t time.Duration) state {
	if d.key != nil {
		return d.key.at(t, d.walk)
	}
	return d.walk(t)
}

// walk is at without the key.
func (d *drive) walk(t time.Duration) state {
	d.mu.Lock()
	defer d.mu.Unlock()
	t = max(t, 0)
	step := int64(t / stepTime)
	if step < d.current.step {
		d.rewind(step)
	}
	for d.current.step < step {
		lap := d.current.lap
		d.current.advance()
		if d.current.lap != lap {
			d.keep(d.current)
		}
	}
	s := d.current.state
	tau := (t % stepTime).Seconds()
	s.move(s.speed*tau + s.accel*tau*tau/2)
	s.speed = max(0, s.speed+s.accel*tau)
	return s
}

// keep remembers a checkpoint, unless a walk after a look back passes it again.
func (d *drive) keep(m model) {
	if n := len(d.checkpoints); n > 0 && d.checkpoints[n-1].step >= m.step {
		return
	}
	if len(d.checkpoints) == checkpointsKept {
		d.checkpoints = append(d.checkpoints[:0], d.checkpoints[1:]...)
	}
	d.checkpoints = append(d.checkpoints, m)
}

func (d *drive) rewind(step int64) {
	for i := len(d.checkpoints) - 1; i >= 0; i-- {
		if d.checkpoints[i].step <= step {
			d.current = d.checkpoints[i]
			return
		}
	}
	d.current = d.beginning()
}

// position is where the antenna is, and where the vehicle heads.
func (s state) position() (lat, lon, altitude, heading float64) {
	p := munich.at(s.place)
	if s.circle != 0 {
		p.x, p.y, p.heading = s.around(p)
	}
	lat, lon = degrees(p.x, p.y)
	return lat, lon, p.altitude, p.heading
}
