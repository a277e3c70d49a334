package telemetry

import (
	"cmp"
	"slices"
	"time"
)

// MaxBatchBytes is the size at which a batch is closed.
const MaxBatchBytes = 64 << 10

// Batch collects readings until it is sealed. The zero Batch is empty and ready.
// It is not safe for concurrent use.
type Batch struct {
	readings []Reading
	size     int
	values   int // bytes of values alone
	names    map[string]bool
}

// Add puts r into the batch. A reading without a present value is nothing and
// left out.
func (b *Batch) Add(r Reading) {
	size := 0
	for _, f := range r.Fields {
		if f.Value.Present() {
			value := 6*len(f.Value.text) + 24
			size += len(f.Name) + value + 6
			b.values += value
			if b.names == nil {
				b.names = map[string]bool{}
			}
			b.names[f.Name] = true
		}
	}
	if size == 0 {
		return
	}
	b.readings = append(b.readings, r)
	b.size += size + 60
}

// Empty reports whether nothing is in the batch. There is no empty batch outside.
func (b *Batch) Empty() bool { return len(b.readings) == 0 }

// Size is an upper bound of the sealed batch's JSON in bytes.
func (b *Batch) Size() int { return b.size + 256 }

// ColumnsSize is the same of its form `columns`, which is the larger one where readings
// have little in common: each name costs a null in the samples that lack it.
func (b *Batch) ColumnsSize() int {
	rows := len(b.readings)
	size := b.values + 256 + 60 // t, uptime_ms
	for name := range b.names {
		size += len(name) + 6
	}
	return size + rows*(14+15+5*len(b.names))
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	clear(b.readings)
	clear(b.names)
	b.readings, b.size, b.values = b.readings[:0], 0, 0
}

// Seal renders the batch as a Record. Readings stamped by our clock get their
// wall time from zero; samples are ordered by time, and those of the same
// millisecond become one.
func (b *Batch) Seal(vehicleID, bootID string, zero time.Time, q Quality) Record {
	type sample struct {
		t      time.Time
		uptime time.Duration
		fields []Field
	}
	samples := make([]sample, 0, len(b.readings))
	var newest time.Duration
	ofReceiver := map[time.Time]bool{}
	if q == Unsynced {
		for _, r := range b.readings {
			ofReceiver[r.FixTime.Truncate(time.Millisecond)] = true
		}
	}
	for _, r := range b.readings {
		newest = max(newest, r.Arrived)
		s := sample{t: r.FixTime.Truncate(time.Millisecond), uptime: -1, fields: r.Fields}
		if r.FixTime.IsZero() {
			s.t = zero.Add(r.Arrived).Truncate(time.Millisecond)
			if q == Unsynced {
				s.uptime = r.Arrived
			}
			for ofReceiver[s.t] { // a guess does not carry the receiver's time away with it
				s.t, s.uptime = s.t.Add(time.Millisecond), s.uptime+time.Millisecond
			}
		}
		samples = append(samples, s)
	}
	slices.SortStableFunc(samples, func(a, b sample) int { return cmp.Or(a.t.Compare(b.t), cmp.Compare(a.uptime, b.uptime)) })

	body := make([]byte, 0, b.size)
	body = append(body, `"clock":"`...)
	body = append(body, q...)
	body = append(body, `","samples":[`...)
	for i := 0; i < len(samples); {
		s := samples[i]
		for i++; i < len(samples) && samples[i].t.Equal(s.t); i++ {
			s.fields = mergeFields(s.fields, samples[i].fields)
			s.uptime = max(s.uptime, samples[i].uptime)
		}
		body = appendSample(body, s.t, s.uptime, s.fields)
		body = append(body, ',')
	}
	body[len(body)-1] = ']'
	return Record{VehicleID: vehicleID, BootID: bootID, Newest: newest, body: append(body, '}')}
}

// mergeFields joins the fields of two readings of one millisecond; where both
// have a name, the later reading speaks.
func mergeFields(earlier, later []Field) []Field {
	merged := slices.DeleteFunc(slices.Clone(earlier), func(f Field) bool {
		return slices.ContainsFunc(later, func(g Field) bool { return g.Name == f.Name })
	})
	return append(merged, later...)
}
