package drive

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
	"telemetryd/sim"
)

// eyes is how a drive is seen: what the car and the receiver tell, how often and how well.
type eyes struct {
	wheelsHz, fixHz  float64
	noiseM, noiseKMH float64
}

// the events that each manoeuvre is; the near ones and calm driving are none.
var meant = map[sim.Kind]string{
	sim.Brake: "harsh_braking", sim.Accelerate: "harsh_acceleration", sim.Corner: "harsh_cornering", sim.Overspeed: "overspeed", sim.Idle: "long_idling",
	sim.Overheat: "engine_overheated", sim.Tow: "moved_while_parked", sim.Crash: "crash_like_stop",
}

const truthLimit = 65 // km/h of overspeed, above what a calm driver does

var truthThresholds = sim.Thresholds{
	BrakeMS2: UsualDriving.BrakingMS2, AccelerateMS2: UsualDriving.AccelerationMS2, CornerMS2: UsualDriving.CorneringMS2, OverspeedKMH: truthLimit,
	IdleS: UsualDriving.LongIdling.Seconds(), CoolantC: UsualDriving.CoolantC, TowM: UsualDriving.MovedM, CrashMS2: UsualDriving.CrashMS2,
}

// ignitionOff takes a vehicle as parked whose car has said nothing for 20 s.
type ignitionOff struct{ heard time.Duration }

func (p *ignitionOff) reading(s *situation, r telemetry.Reading) {
	for _, f := range r.Fields {
		if f.Name == "engine_speed_rpm" {
			p.heard, s.parked = s.now, false
		}
	}
}

func (p *ignitionOff) pass(s *situation) { s.parked = s.now-p.heard > 20*time.Second }

// see drives a script to its end and returns what the readings meant.
func see(d *sim.Drive, until time.Duration, e eyes, random *rand.Rand) []telemetry.Event {
	driving := UsualDriving
	driving.OverspeedKMH = truthLimit
	v := New(Config{Driving: driving, Parked: ParkedConfig{Off: true}})
	v.parts = append([]part{new(ignitionOff)}, v.parts...)
	var events []telemetry.Event
	next := func(hz float64) time.Duration {
		return time.Duration(float64(time.Second) / hz * (0.95 + 0.1*random.Float64()))
	}
	start := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	observe := func(r telemetry.Reading) {
		_, found := v.Observe(r)
		events = append(events, found...)
	}
	var wheels, engine, fix time.Duration
	if e.wheelsHz == 0 {
		wheels = math.MaxInt64
	}
	for now := time.Duration(0); now < until; {
		now = min(wheels, engine, fix)
		switch now {
		case wheels:
			m := d.At(now)
			// What a car says is some of a tenth of a second old.
			r := telemetry.Reading{Arrived: now + time.Duration(random.Float64()*float64(80*time.Millisecond))}
			if m.Ignition && r.Add("vehicle_speed_kmh", math.Floor(m.SpeedKMH)) {
				observe(r)
			}
			wheels += next(e.wheelsHz)
		case engine:
			m := d.At(now)
			r := telemetry.Reading{Arrived: now}
			if m.Ignition && r.Add("engine_speed_rpm", m.EngineRPM) && r.Add("coolant_temperature_c", math.Round(m.CoolantC)) {
				observe(r)
			}
			engine += next(1)
		case fix:
			observe(e.fix(d.At(now), now, start, random))
			fix += time.Duration(float64(time.Second) / e.fixHz) // receivers keep their epochs
		}
	}
	return events
}

// fix is what a receiver tells: its velocity is off by some noise along and across.
func (e eyes) fix(m sim.Moment, now time.Duration, start time.Time, random *rand.Rand) telemetry.Reading {
	r := telemetry.Reading{Arrived: now + time.Duration(random.Float64()*float64(40*time.Millisecond)), FixTime: start.Add(now)}
	along, across := m.SpeedKMH+e.noiseKMH*random.NormFloat64(), e.noiseKMH*random.NormFloat64()
	heading := m.HeadingDeg + math.Atan2(across, along)*180/math.Pi
	r.Add("latitude", m.Latitude+e.noiseM*random.NormFloat64()/metresPerDegree)
	r.Add("longitude", m.Longitude+e.noiseM*random.NormFloat64()/metresPerDegree/math.Cos(m.Latitude*math.Pi/180))
	r.Add("gps_speed_kmh", math.Hypot(along, across))
	r.Add("heading_deg", math.Mod(heading+360, 360))
	return r
}

// count is how well a kind was found.
type count struct {
	right, missed, wrong int
	off                  float64 // m/s^2 that a peak was off at the most
}

// compare counts which of the events were done, and how many of what was done was found.
// An event belongs to a manoeuvre when it is of its kind and within its time.
func compare(t *testing.T, seed uint64, done []sim.Happening, events []telemetry.Event, counts map[string]*count, without ...string) {
	found := make([]bool, len(events))
	for _, h := range done {
		kind := meant[h.Kind]
		if slices.Contains(without, kind) { // what cannot be told from braking is braking
			kind = "harsh_braking"
			for i, e := range events {
				found[i] = found[i] || e.Type == kind && e.At >= h.Begin-time.Second && e.At <= h.End
			}
			continue
		}
		if h.Near {
			continue
		}
		seen := 0
		for i, e := range events {
			// A lasting event comes when it has lasted; the others lie within what was done.
			if e.Type == kind && e.At >= h.Begin-time.Second && e.At <= h.End+2*time.Second {
				found[i] = true
				seen++
				counts[kind].off = max(counts[kind].off, math.Abs(peak(e, math.Abs(h.Amount))-math.Abs(h.Amount)))
			}
		}
		switch c := counts[kind]; seen {
		case 1:
			c.right++
		case 0:
			c.missed++
			t.Logf("seed %d: not found: %s %+v", seed, kind, h)
		default:
			c.right++
			c.wrong += seen - 1
			t.Logf("seed %d: found %d times: %s %+v", seed, seen, kind, h)
		}
	}
	for i, e := range events {
		if c, ok := counts[e.Type]; ok && !found[i] && !slices.Contains(without, e.Type) {
			c.wrong++
			t.Logf("seed %d: found, and not done: %s at %v %+v", seed, e.Type, e.At, e.Data)
		}
	}
}

// peak is what an event says of a change of the speed; what it truly was for others.
func peak(e telemetry.Event, truly float64) float64 {
	switch d := e.Data.(type) {
	case harshData:
		return d.PeakMS2
	case corneringData:
		return d.PeakMS2
	}
	return truly
}

// Every scripted event is found and nothing else, as cars and receivers tell of them.
func TestDrivingEventsAgainstTruth(t *testing.T) {
	first := uint64(time.Now().UnixNano())
	type scripted struct {
		seed   uint64
		script sim.Script
		done   []sim.Happening
	}
	var all [20]scripted
	for i := range all {
		s := scripted{seed: first + uint64(i), script: sim.DrawScript(first+uint64(i), 1, truthThresholds)}
		s.done = drawn(t, s.seed, s.script).Happened(3 * time.Hour)
		if len(s.done) != len(s.script) {
			t.Fatalf("seed %d: %d of %d manoeuvres were driven", s.seed, len(s.done), len(s.script))
		}
		all[i] = s
	}
	for _, e := range []struct {
		name string
		eyes eyes
		// off is how much peaks may be off, in m/s^2. With wheels that is 80 ms and one km/h over
		// 0.9 s, of 8.4; a receiver that speaks once a second sees half of a short one.
		off     float64
		without []string // what cannot be told so
	}{
		{"wheels 5 Hz, receiver 1 Hz", eyes{5, 1, 2.5, 0.3}, 1.1, nil},
		{"wheels 2 Hz, receiver 1 Hz", eyes{2, 1, 2.5, 0.3}, 1.1, nil},
		{"wheels 5 Hz, receiver 5 Hz", eyes{5, 5, 2.5, 0.3}, 1.1, nil},
		{"receiver 1 Hz alone", eyes{0, 1, 2.5, 0.3}, 2.7, []string{"crash_like_stop"}},
	} {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			counts := map[string]*count{}
			for _, kind := range meant {
				counts[kind] = new(count)
			}
			for _, s := range all {
				events := see(drawn(t, s.seed, s.script), s.done[len(s.done)-1].End+time.Minute, e.eyes, rand.New(rand.NewPCG(s.seed, 1)))
				compare(t, s.seed, s.done, events, counts, e.without...)
			}
			var sum count
			for kind, c := range counts {
				sum.right, sum.missed, sum.wrong = sum.right+c.right, sum.missed+c.missed, sum.wrong+c.wrong
				t.Logf("%-20s %s", kind, c)
			}
			t.Logf("%-20s %s", "all", &sum)
			for kind, c := range counts {
				if slices.Contains(e.without, kind) {
					continue
				}
				if c.off > e.off {
					t.Errorf("%s: a peak is off by %.2f m/s^2", kind, c.off)
				}
				if c.right+c.missed < len(all) || c.recall() < 0.98 || c.precision() < 0.98 {
					t.Errorf("seeds %d to %d: %s: %s", first, all[len(all)-1].seed, kind, c)
				}
			}
		})
	}
}

func drawn(t *testing.T, seed uint64, s sim.Script) *sim.Drive {
	t.Helper()
	d, err := sim.NewScriptedDrive(seed, s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (c *count) recall() float64    { return float64(c.right) / float64(c.right+c.missed) }
func (c *count) precision() float64 { return float64(c.right) / float64(c.right+c.wrong) }
func (c *count) String() string {
	text := fmt.Sprintf("%3d found, %d missed, %d too many: precision %.3f, recall %.3f", c.right, c.missed, c.wrong, c.precision(), c.recall())
	if c.off > 0 {
		text += fmt.Sprintf(", peaks off by at most %.2f m/s^2", c.off)
	}
	return text
}
