package drive

import (
	"cmp"
	"math"
	"slices"
	"time"

	"telemetryd/internal/telemetry"
)

// motion is how the vehicle moved in the last seconds, by its wheels and by the receiver,
// each for itself: the two differ by what the wheels' size is off, and mixing them would
// look like a jerk.
type motion struct {
	wheels, receiver track
}

// sample is a speed at one time.
type sample struct {
	at      time.Duration // since boot, when it arrived
	axis    time.Duration // when it was so: for a fix by the receiver's own time, as it is late by varying amounts
	kmh     float64
	heading float64       // degrees; NaN for none
	slack   time.Duration // how much earlier it may have been so: the answer may have been held back on its way
}

// track is the speeds of one source.
type track struct {
	source  string
	samples []sample
	grew    bool // by the reading that came last
	start   time.Time
	started time.Duration
}

const (
	trackTime = 10 * time.Second
	trackMost = 1024
	// apart is how far the receiver's time may move against ours before the two are no
	// longer about the same thing.
	apart = 500 * time.Millisecond
)

// take notes the speeds of a reading.
func (m *motion) take(r telemetry.Reading) {
	m.wheels.source, m.receiver.source = "wheels", "receiver"
	m.wheels.grew, m.receiver.grew = false, false
	if kmh, ok := r.Number("vehicle_speed_kmh"); ok {
		m.wheels.add(sample{at: r.Arrived, axis: r.Arrived, kmh: kmh, heading: math.NaN()})
	}
	if kmh, ok := r.Number("gps_speed_kmh"); ok {
		heading, told := r.Number("heading_deg")
		if !told {
			heading = math.NaN()
		}
		m.receiver.addFix(sample{at: r.Arrived, axis: r.Arrived, kmh: kmh, heading: heading}, r.FixTime)
	}
}

// addFix adds a fix at the receiver's own time, if it has one.
func (t *track) addFix(s sample, fixed time.Time) {
	if !fixed.IsZero() {
		s.axis = t.started + fixed.Sub(t.start)
		if off := s.axis - s.at; t.start.IsZero() || off.Abs() > apart {
			t.samples, t.start, t.started = nil, fixed, s.at
			s.axis = s.at
		}
	}
	t.add(s)
}

// add adds a sample. One that is not newer than the last is none.
func (t *track) add(s sample) {
	if n := len(t.samples); n > 0 && s.axis <= t.samples[n-1].axis {
		return
	}
	old := 0
	for old < len(t.samples)-1 && (s.axis-t.samples[old].axis > trackTime || len(t.samples)-old >= trackMost) {
		old++
	}
	if n := len(t.samples); n > 1 && s.axis == s.at {
		if usual := time.Duration(float64(time.Second) / t.rate()); s.axis-t.samples[n-1].axis > 2*usual {
			s.slack = s.axis - t.samples[n-1].axis - usual
		}
	}
	t.samples = append(slices.Delete(t.samples, 0, old), s)
	t.grew = true
}

// newest is the last sample; ok is false when there is none, or none within limit.
func (t *track) newest(now, limit time.Duration) (s sample, ok bool) {
	if len(t.samples) == 0 {
		return sample{}, false
	}
	s = t.samples[len(t.samples)-1]
	return s, now-s.at <= limit
}

// rate is how many samples came in a second, over the last ten.
func (t *track) rate() float64 {
	n := len(t.samples)
	if n < 2 {
		return 0
	}
	return float64(n-1) / (t.samples[n-1].axis - t.samples[0].axis).Seconds()
}

// A change is judged over a second: whole km/h, 0.2 s apart, would be steps of 1.4 m/s^2.
const (
	windowTime = 1100 * time.Millisecond // a second, and what the times of answers vary by
	windowLast = 1250 * time.Millisecond // where samples are rare
	windowMin  = 600 * time.Millisecond
	leastRate  = 0.8 // samples a second: two of them within windowLast
)

// window is the samples of the last second; nothing where they are too few to judge by.
func (t *track) window() []sample {
	last := len(t.samples) - 1
	first := last
	for first > 0 {
		age := t.samples[last].axis - t.samples[first-1].axis
		enough := t.samples[last].axis-t.samples[first].axis >= windowMin
		if age > windowLast || enough && age > windowTime {
			break
		}
		first--
	}
	if first < last && t.samples[first].slack > 0 { // what came before it is too long ago to say when it was so
		first++
	}
	if last < 1 || t.samples[last].axis-t.samples[first].axis < windowMin {
		return nil
	}
	return t.samples[first:]
}

// slope is how fast y changes in a second: the median of the slopes of all pairs, each as
// heavy as it is long (Theil and Sen). Unlike a fitted line it stays where it is when one
// value of five or more is wrong.
func slope(w []sample, y func(sample) float64) float64 {
	type pair struct{ slope, weight float64 }
	pairs := make([]pair, 0, len(w)*(len(w)-1)/2)
	total := 0.0
	for i := range w {
		for j := range i {
			dt := (w[i].axis - w[j].axis).Seconds()
			pairs = append(pairs, pair{(y(w[i]) - y(w[j])) / dt, dt})
			total += dt
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int { return cmp.Compare(a.slope, b.slope) })
	below := 0.0
	for i, p := range pairs {
		below += p.weight
		if below > total/2+1e-9 || i == len(pairs)-1 {
			return p.slope
		}
		if below > total/2-1e-9 {
			return (p.slope + pairs[i+1].slope) / 2
		}
	}
	return math.NaN() // there was no pair
}

// speaking is the track to judge by: the wheels', unless the receiver alone speaks often
// enough. ok is false where nobody tells the speed now.
func (m *motion) speaking(now time.Duration) (t *track, ok bool) {
	_, wheels := m.wheels.newest(now, wheelsLimit)
	_, receiver := m.receiver.newest(now, fixLimit)
	switch {
	case wheels && (m.wheels.rate() >= leastRate || !receiver || m.receiver.rate() < leastRate):
		return &m.wheels, true
	default:
		return &m.receiver, receiver
	}
}
