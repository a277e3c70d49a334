package drive

import (
	"fmt"
	"math"
	"time"

	"telemetryd/internal/telemetry"
)

// Powertrain is what moves the vehicle: it says what the voltage tells.
type Powertrain string

// The powertrains. A hybrid's engine stands though the car is driven; an electric car has none, and
// many answer no question of OBD: there the converter, which charges the 12 V battery as an alternator
// does, tells that the vehicle is in use.
const (
	Combustion Powertrain = "combustion"
	Hybrid     Powertrain = "hybrid"
	Electric   Powertrain = "electric"
)

// ParkedConfig says when a vehicle counts as parked, and what wakes it. The zero value of a field
// is its default; volts are those of a 12 V system there, doubled for 24 V.
type ParkedConfig struct {
	Off     bool // it never does
	Already bool // it did when the daemon last ran in this boot
	// Since and Spoke are then what Mode.Changed said; 0: not known.
	Since      time.Duration
	Spoke      bool
	Powertrain Powertrain
	// After is how long a vehicle stands whose car answers nothing any more, and whose battery is
	// not charged; Idle how long where that is not as sure: the ignition is on, the battery is
	// charged, there is no adapter.
	After, Idle time.Duration
	// System is the nominal voltage, 12 or 24; 0: 24 once more than 18 V are measured, 12 after a
	// minute of less.
	System int
	// Running is what only an alternator or a converter reaches, Rise how far above its level at
	// rest the voltage comes when the engine starts. Low is a battery to care for; Floor one that
	// not even the adapter is to draw from.
	Running, Rise, Low, Floor float64
	// VoltageEvery is how often the voltage is looked at while parked, FloorEvery how often below
	// the floor; negative: never.
	VoltageEvery, FloorEvery time.Duration
	// Probe is how often the car itself is asked whether it is awake; 0: only where neither
	// voltage nor receiver can tell; negative: never.
	Probe time.Duration
}

// Defaults of ParkedConfig; docs/parked.md tells where they come from.
const (
	defaultAfter   = time.Minute
	defaultIdle    = 5 * time.Minute
	defaultRunning = 13.2
	defaultRise    = 0.5
	defaultLow     = 11.9
	defaultFloor   = 11.5
	defaultLook    = 2 * time.Second
	defaultFloored = 10 * time.Minute
	defaultProbe   = 5 * time.Minute // where nothing else can tell
)

const (
	above12V = 18.0 // volts that no 12 V system has
	// carLimit is how old the newest value of the car may be for it to count as answering.
	carLimit = 30 * time.Second
	// blindAfter is how long nothing may be known of a vehicle before it counts as parked: a
	// garage without reception, no adapter. No tunnel takes as long.
	blindAfter = 30 * time.Minute
	// confirmed readings in a row make a rise of the voltage; lowFor is how long it has to be low:
	// a starter draws it down for seconds.
	confirmed = 2
	lowFor    = time.Minute
	// lowOver is how far the voltage has to recover before it can be low again.
	lowOver = 0.3
	// settles is how fast the level at rest follows a voltage that rises slowly, as under a solar
	// panel; falls how fast one that falls, as behind an engine that was stopped.
	settles, falls = 10 * time.Minute, 20 * time.Second
	// levels is how fast the level of a running engine follows what is measured.
	levels = time.Minute
)

func (c ParkedConfig) withDefaults() ParkedConfig {
	or := func(d *time.Duration, otherwise time.Duration) {
		if *d == 0 {
			*d = otherwise
		}
	}
	if c.Powertrain == "" {
		c.Powertrain = Combustion
	}
	or(&c.After, defaultAfter)
	or(&c.Idle, defaultIdle)
	or(&c.VoltageEvery, defaultLook)
	or(&c.FloorEvery, defaultFloored)
	return c
}

// Check reports what cannot be meant by the thresholds.
func (c ParkedConfig) Check() error {
	system := max(12, c.System)
	if c.System == 0 && max(c.Running, c.Low, c.Floor) > above12V {
		system = 24
	}
	scale, l := float64(system)/12, c.thresholds(system)
	for _, t := range []struct {
		key        string
		volts      float64
		least, big float64
	}{{"running", l.running, 12.4, 15}, {"rise", l.rise, 0.2, 2}, {"low", l.low, 10, 13}, {"floor", l.floor, 9, 12.8}} {
		if t.volts < t.least*scale || t.volts > t.big*scale {
			return fmt.Errorf("%s: %v V is not allowed; allowed at %d V: %v to %v", t.key, t.volts, system, t.least*scale, t.big*scale)
		}
	}
	if l.floor > l.low || l.low >= l.running {
		return fmt.Errorf("floor, low and running are %v, %v and %v V; they go up", l.floor, l.low, l.running)
	}
	return nil
}

// thresholds are volts of a system.
type thresholds struct{ running, rise, low, floor, over float64 }

func (c ParkedConfig) thresholds(system int) thresholds {
	scale := float64(system) / 12
	or := func(volts, otherwise float64) float64 {
		if volts == 0 {
			return otherwise * scale
		}
		return volts
	}
	return thresholds{or(c.Running, defaultRunning), or(c.Rise, defaultRise), or(c.Low, defaultLow), or(c.Floor, defaultFloor), lowOver * scale}
}

// parking finds out whether the vehicle is parked, and tells the Mode.
type parking struct {
	ParkedConfig
	mode   *Mode
	limits thresholds
	began  bool

	used     time.Duration // when it was in use last
	answered time.Duration // when the car gave a value last
	volts    voltage
	moves    movement

	since time.Duration // when it was parked, or this run began
	every time.Duration // how often the voltage is looked at while it is; 0: it is not
	high  int           // readings in a row that say that the engine was started
	told  Level         // of the battery
}

// voltage is the battery's.
type voltage struct {
	now   float64
	at    time.Duration // of the reading; 0: there was none
	rest  float64       // its level at rest, while parked
	drive float64       // its level while the engine turned last; 0: not known
	low   time.Duration // since when it is low; 0: it is not
	floor time.Duration // the same of the floor
	// twelve is since when a system that was taken as one of 24 V has no more than one of 12;
	// 0: it has.
	twelve time.Duration
}

// Level is how low the battery is.
type Level string

// The levels of a battery; the empty one is well.
const (
	Low   Level = "low"
	Floor Level = "floor"
)

// Parked is the data of `parked`.
type Parked struct {
	Reason  string  `json:"reason"` // car_off, ignition_on, standing, nothing_known
	Stood   float64 `json:"stood_s"`
	Voltage float64 `json:"voltage_v,omitempty"`
}

// Woke is the data of `unparked`.
type Woke struct {
	Reason  string  `json:"reason"` // voltage, movement, engine, wheels, converter
	Parked  float64 `json:"parked_s"`
	Voltage float64 `json:"voltage_v,omitempty"`
	Resting float64 `json:"resting_v,omitempty"`
}

// LowBattery is the data of `low_battery`.
type LowBattery struct {
	Level     Level   `json:"level"`
	Voltage   float64 `json:"voltage_v"`
	Threshold float64 `json:"threshold_v"`
	Parked    bool    `json:"parked"`
}

func newParking(c ParkedConfig, m *Mode) *parking {
	p := &parking{ParkedConfig: c.withDefaults(), mode: m}
	p.limits = p.thresholds(max(12, p.System))
	return p
}

// reading implements part.
func (p *parking) reading(s *situation, r telemetry.Reading) {
	if p.Off {
		return
	}
	for _, f := range r.Fields {
		if signal, known := telemetry.FindSignal(f.Name); !known || signal.Source == telemetry.FromCar {
			p.answered = r.Arrived
		}
		if f.Name == "battery_voltage_v" {
			if x, ok := f.Value.Float(); ok {
				p.measured(s, x, r.Arrived)
			}
		}
	}
	p.moves.take(r)
	p.judge(s)
}

// pass implements part.
func (p *parking) pass(s *situation) {
	if p.Off {
		return
	}
	if !p.began {
		p.began, p.used, p.since = true, s.now, s.now
		if s.since <= 0 || s.since > s.now {
			s.since = s.now
		}
	}
	p.judge(s)
	if s.parked {
		voltage, probe := p.resting(s)
		p.every = voltage
		p.mode.rest(voltage, probe)
	}
}

// judge changes between parked and not.
func (p *parking) judge(s *situation) {
	use := p.use(s)
	if use != "" {
		p.used = s.now
	}
	switch {
	case s.parked && use != "":
		p.wake(s, use)
	case !s.parked && use == "":
		if reason, limit := p.doubt(s); s.now-p.used >= limit {
			p.park(s, reason)
		}
	}
}

// use says by what the vehicle is in use; empty when by nothing.
func (p *parking) use(s *situation) string {
	if turns, ok := s.engine(); ok && turns {
		return "engine"
	}
	if kmh, _, ok := s.number("vehicle_speed_kmh", wheelsLimit); ok && kmh > 0 {
		return "wheels"
	}
	if p.moves.moving(s.now) {
		return "movement"
	}
	if p.charging(s.now) && (p.Powertrain == Electric || p.Powertrain == Hybrid && p.answers(s.now)) && (!s.parked || p.high >= confirmed) {
		return "converter"
	}
	if s.parked && p.high >= confirmed {
		return "voltage"
	}
	return ""
}

// answers reports whether the car gives values.
func (p *parking) answers(now time.Duration) bool {
	return p.answered > 0 && now-p.answered <= carLimit
}

// measures reports whether the voltage is known.
func (p *parking) measures(now time.Duration) bool {
	return p.volts.at > 0 && now-p.volts.at <= carLimit+p.every
}

// charging reports whether an alternator, a converter or a charger is at work.
func (p *parking) charging(now time.Duration) bool {
	return p.measures(now) && p.volts.now >= p.limits.running
}

// nothingKnown is the reason of a vehicle that counts as parked though nobody saw it stand.
const nothingKnown = "nothing_known"

// doubt says why a vehicle that is not in use may be parked, and how long it has to stand for
// it to be sure.
func (p *parking) doubt(s *situation) (reason string, limit time.Duration) {
	last, _ := s.values["vehicle_speed_kmh"].Float()
	// Nobody parks at such a speed: it is the car's word that went, unless the receiver sees it stand.
	lost := last > fastKMH && !p.moves.known(s.now)
	switch {
	case p.answers(s.now): // the ignition is on: at a light, or somebody hears the radio
		return "ignition_on", p.Idle
	case !lost && (p.measures(s.now) && !p.charging(s.now) || p.volts.at == 0 && p.answered > 0):
		return "car_off", p.After
	case p.measures(s.now): // a glitch of the adapter while the engine runs, or a charger
		return "car_off", p.Idle
	case p.moves.known(s.now):
		return "standing", p.Idle
	case len(s.values) > 0:
		return nothingKnown, blindAfter
	}
	return "", math.MaxInt64 // nothing was ever known
}

func (p *parking) park(s *situation, reason string) {
	s.parked, s.since, p.since, p.high = true, s.now, s.now, 0
	s.unseen = reason == nothingKnown
	p.volts.rest = p.volts.now
	p.moves.settle()
	p.mode.set(true, s.now, s.spoke)
	s.report(telemetry.Event{Type: "parked", Severity: telemetry.Info, At: s.now,
		Data: Parked{Reason: reason, Stood: seconds(s.now - p.used), Voltage: p.volts.now}})
}

func (p *parking) wake(s *situation, reason string) {
	s.parked, p.high, p.every = false, 0, 0
	p.mode.set(false, s.now, s.spoke)
	s.report(telemetry.Event{Type: "unparked", Severity: telemetry.Info, At: s.now,
		Data: Woke{Reason: reason, Parked: seconds(s.now - s.since), Voltage: p.volts.now, Resting: rounded(p.volts.rest, 1)}})
}

// measured takes a voltage.
func (p *parking) measured(s *situation, x float64, at time.Duration) {
	if p.System == 0 {
		p.find(x, at)
	}
	v := &p.volts
	took := at - v.at
	v.now, v.at = x, at
	switch turns, ok := s.engine(); {
	case !ok || !turns:
	case v.drive == 0:
		v.drive = x
	default:
		v.drive += (x - v.drive) * min(1, float64(took)/float64(levels))
	}
	if s.parked {
		p.compare(x, took)
	}
	p.lowness(s)
}

// find tells a system of 24 V from one of 12. One value may be wrong, and who helps a car to
// start may lend it 24 V: what is no longer so for a minute was not its own.
func (p *parking) find(x float64, at time.Duration) {
	v := &p.volts
	switch is24 := p.limits == p.thresholds(24); {
	case x > above12V:
		p.limits, v.twelve = p.thresholds(24), 0
	case !is24:
	case v.twelve == 0:
		v.twelve = at
	case at-v.twelve >= lowFor:
		p.limits, v.twelve = p.thresholds(12), 0
		v.low, v.floor = 0, 0
	}
}

// compare sees whether a voltage of a parked vehicle is that of an engine which was started:
// twice in a row clearly above its level at rest. A charger that is left on becomes the level.
func (p *parking) compare(x float64, took time.Duration) {
	v := &p.volts
	if v.rest == 0 {
		v.rest = min(x, p.limits.running-p.limits.rise) // a daemon that was started while parked
	}
	if over := x - v.rest; over >= p.limits.rise-tolerance || over >= 0.6*p.limits.rise && x >= p.limits.running {
		p.high++
		return
	}
	p.high = 0
	speed := settles
	if x < v.rest {
		speed = falls
	}
	v.rest += (x - v.rest) * min(1, float64(took)/float64(speed))
}

// tolerance is for decimals that binary numbers miss by a hair.
const tolerance = 1e-6

// lowness tells of a battery that is low, once until it has recovered.
func (p *parking) lowness(s *situation) {
	v, l := &p.volts, p.limits
	since := func(from *time.Duration, low bool) bool {
		switch {
		case !low:
			*from = 0
		case *from == 0:
			*from = v.at
		default:
			return v.at-*from >= lowFor
		}
		return false
	}
	low, floor := since(&v.low, v.now < l.low), since(&v.floor, v.now < l.floor)
	level, threshold := p.told, 0.0
	switch {
	case floor:
		level, threshold = Floor, l.floor
	case low && p.told == "":
		level, threshold = Low, l.low
	case v.now >= l.low+l.over:
		level = ""
	case p.told == Floor && v.now >= l.floor+l.over:
		level = Low // told before
	}
	if level == p.told {
		return
	}
	worse := p.told == "" || level == Floor
	if p.told = level; !worse {
		return
	}
	s.report(telemetry.Event{Type: "low_battery", Severity: telemetry.Warning, At: v.at,
		Data: LowBattery{Level: level, Voltage: v.now, Threshold: threshold, Parked: s.parked}})
}

// resting is what may be done while the vehicle is parked: how often the voltage is looked at,
// and how often the car is asked whether it is awake; 0 for never.
func (p *parking) resting(s *situation) (voltage, probe time.Duration) {
	voltage, probe = p.VoltageEvery, p.Probe
	if p.told == Floor {
		voltage = p.FloorEvery
	}
	if p.high > 0 { // a rise is worth a second look
		voltage = min(voltage, defaultLook)
	}
	if probe == 0 && !p.canTell(s) {
		probe = defaultProbe
	}
	if p.told == Floor {
		probe = 0 // a car that wakes up draws the most
	}
	return max(voltage, 0), max(probe, 0)
}

// canTell reports whether voltage or receiver would show that the vehicle is used. Beside a
// charger, or with an adapter that measures too much, the voltage does only if it is known to be
// higher yet while the engine turns.
func (p *parking) canTell(s *situation) bool {
	shows := p.volts.rest < p.limits.running || p.volts.drive-p.volts.rest >= p.limits.rise
	return p.VoltageEvery > 0 && p.measures(s.now) && shows || p.moves.known(s.now) ||
		s.now-p.since < carLimit // too soon to say
}
