package telemetry

import (
	"bytes"
	"slices"
	"sync"
	"time"
)

// Latest is the newest value of each signal, for those who want to know how the vehicle is
// now and not how it came to that. A value leaves when it is too old to tell:
//
//   - after three of its own intervals, which it is read at, but not before a minute and not
//     after two hours;
//   - what a vehicle that stands does not change (lasting), when it has been seen moving for
//     longer than that since it was measured: so the odometer and the fuel level of a parked
//     car stay, and those of one whose adapter was pulled out on the way do not.
//
// It is safe for concurrent use; the zero Latest has seen nothing. It holds one value of each
// name that it is given.
type Latest struct {
	// Coarse is how far a position may be off because it was rounded, in metres.
	Coarse float64

	mu       sync.Mutex
	values   map[string]latestValue
	moved    time.Duration // when the vehicle was seen moving last
	position Reading       // the newest of the receiver
}

type latestValue struct {
	value    Value
	at       time.Duration // when it arrived, since boot
	t        time.Time     // the receiver's own time
	interval time.Duration // to the one before
}

const (
	latestLeast = time.Minute
	latestMost  = 2 * time.Hour
	// intervalsKept of a signal are how long its value holds.
	intervalsKept = 3
	// moves is what a receiver on a vehicle that stands does not tell.
	moves = 5 // km/h
	// refreshLatest is how often a message goes out though only its time is new.
	refreshLatest = time.Minute
	// rangeError is what a receiver's distances to its satellites are taken to be off, in
	// metres. It does not tell; the geometry, which hdop is, multiplies it.
	rangeError = 5
)

// lasting are the signals that change only when the vehicle is used.
var lasting = map[string]bool{
	"odometer_km": true, "fuel_level_pct": true, "distance_with_mil_km": true, "distance_since_clear_km": true,
	"warmups_since_clear": true, "dtc_count": true, "mil_on": true, "latitude": true, "longitude": true, "altitude_m": true,
}

// Note takes a reading as it was kept. Readings come in order of time.
func (l *Latest) Note(r Reading) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.values == nil {
		l.values = map[string]latestValue{}
	}
	ofReceiver := false
	for _, f := range r.Fields {
		if !f.Value.Present() {
			continue
		}
		v := latestValue{value: f.Value, at: r.Arrived, t: r.FixTime}
		if before, ok := l.values[f.Name]; ok {
			v.interval = r.Arrived - before.at
		}
		l.values[f.Name] = v
		switch f.Name {
		case "vehicle_speed_kmh", "gps_speed_kmh":
			if kmh, _ := f.Value.Float(); kmh >= moves {
				l.moved = max(l.moved, r.Arrived)
			}
		case "latitude", "fix":
			ofReceiver = true
		}
	}
	switch {
	case !r.FixTime.IsZero() && r.FixTime.Equal(l.position.FixTime): // what came late of the same fix
		l.position.Fields = mergeFields(l.position.Fields, r.Fields)
	case ofReceiver:
		l.position = Reading{Arrived: r.Arrived, FixTime: r.FixTime, Fields: slices.Clone(r.Fields)}
		if _, shown := find(r, "latitude"); !shown { // it is not to be told any more
			for _, name := range positionFields {
				if _, ok := find(r, name); !ok {
					delete(l.values, name)
				}
			}
		}
	}
}

// holds tells whether a value still says how the vehicle is.
func (l *Latest) holds(name string, v latestValue, now time.Duration) bool {
	limit := min(max(intervalsKept*v.interval, latestLeast), latestMost)
	if lasting[name] {
		return l.moved <= v.at+limit
	}
	return now-v.at <= limit
}

// Seen are the names of all signals that had a value once, in order.
func (l *Latest) Seen() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := make([]string, 0, len(l.values))
	for name := range l.values {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Message is the flat object of the newest values, by name, behind the time of the newest of
// them; nil while there is nothing to say that last, the message before, does not say. now is
// the time since boot, zero the time of boot.
func (l *Latest) Message(last []byte, now time.Duration, zero time.Time) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	var newest time.Time
	var fields []Field
	for name, v := range l.values {
		if !l.holds(name, v, now) {
			continue
		}
		fields = append(fields, Field{name, v.value})
		if t := v.time(zero); t.After(newest) {
			newest = t
		}
	}
	if len(fields) == 0 && last == nil {
		return nil
	}
	if len(fields) == 0 { // all has become too old: that is to be told, too
		newest = zero.Add(now)
	}
	slices.SortFunc(fields, func(a, b Field) int { return compareNames(a.Name, b.Name) })
	return unlessSaid(last, appendSample(nil, newest, -1, fields))
}

// compareNames orders signals as the table does, those that are not in it behind.
func compareNames(a, b string) int {
	place := func(name string) int {
		return slices.IndexFunc(signals, func(s Signal) bool { return s.Name == name })
	}
	switch x, y := place(a), place(b); {
	case x >= 0 && y >= 0:
		return x - y
	case x < 0 && y < 0:
		return bytes.Compare([]byte(a), []byte(b))
	case x < 0:
		return 1
	default:
		return -1
	}
}

// positionFields are what a position message has of a fix, in order.
var positionFields = []string{"latitude", "longitude", "altitude_m", "heading_deg", "gps_speed_kmh", "fix"}

// Position is the newest fix as a flat object: where the vehicle is, how it moves, and
// gps_accuracy in metres: the fix's horizontal dilution of precision times 5 m, and what
// rounding takes. Where the position is not to be told it has its time alone. It is nil as
// Message is, and before the first fix.
func (l *Latest) Position(last []byte, zero time.Time) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.position
	if r.Fields == nil {
		return nil
	}
	var fields []Field
	if _, shown := find(r, "latitude"); shown {
		for _, name := range positionFields {
			if v, ok := find(r, name); ok {
				fields = append(fields, Field{name, v})
			}
		}
		if v, ok := find(r, "hdop"); ok {
			hdop, _ := v.Float()
			fields = append(fields, Field{"gps_accuracy", Number(hdop*rangeError+l.Coarse, 1)})
		}
	}
	return unlessSaid(last, appendSample(nil, latestValue{at: r.Arrived, t: r.FixTime}.time(zero), -1, fields))
}

func (v latestValue) time(zero time.Time) time.Time {
	if v.t.IsZero() {
		return zero.Add(v.at).Truncate(time.Millisecond)
	}
	return v.t.Truncate(time.Millisecond)
}

func find(r Reading, name string) (Value, bool) {
	for _, f := range r.Fields {
		if f.Name == name && f.Value.Present() {
			return f.Value, true
		}
	}
	return Value{}, false
}

// unlessSaid is a message, or nil when the last one says the same and is not so old that a
// reader might think that nobody writes any more.
func unlessSaid(last, message []byte) []byte {
	const head = len(timeKey) + len(timeFormat)
	if len(last) < head || !bytes.Equal(last[head:], message[head:]) {
		return message
	}
	before, err := time.Parse(timeFormat, string(last[len(timeKey):head]))
	t, errNow := time.Parse(timeFormat, string(message[len(timeKey):head]))
	if err != nil || errNow != nil || t.Sub(before).Abs() < refreshLatest {
		return nil
	}
	return message
}
