package telemetry

import (
	"cmp"
	"slices"
	"time"
)

// MaxBatchBytes is the size that no batch exceeds as a message: it is closed before.
const MaxBatchBytes = 64 << 10

// What a message takes besides its samples, and a sample besides its fields, at the most;
// in columns, what t and uptime_ms take of a row.
const (
	headBytes   = 320 // with a trip's id
	sampleBytes = 60
	rowBytes    = 14 + 15
)

// Batch collects readings until it is sealed. The zero Batch is empty and ready.
// It is not safe for concurrent use.
type Batch struct {
	TripID   string // of the trip that all its readings belong to; empty for none
	readings []Reading
	extent   extent
	names    map[string]bool
	scratch  []byte
}

// tripKey begins the trip's id, which stands before the samples.
const tripKey = `"trip_id":`

// extent is what readings take: as rows, and as columns, where each name costs a null in
// the samples that lack it.
type extent struct {
	samples, sampleBytes int
	values, valueBytes   int
	names, nameBytes     int
}

func (e extent) rows() int { return headBytes + e.sampleBytes }

func (e extent) columns() int {
	cells := e.values*len(",") + (e.samples*e.names-e.values)*len("null,")
	return headBytes + sampleBytes + e.nameBytes + e.names*len(`"":[],`) + e.samples*rowBytes + e.valueBytes + cells
}

// with is the extent with one more reading, which has no present value when nothing
// changes.
func (b *Batch) with(r Reading) extent {
	e := b.extent
	for _, f := range r.Fields {
		if !f.Value.Present() {
			continue
		}
		b.scratch = f.Value.appendJSON(b.scratch[:0])
		e.sampleBytes += len(f.Name) + len(`"":,`) + len(b.scratch)
		e.valueBytes += len(b.scratch)
		e.values++
		if !b.names[f.Name] {
			e.names++
			e.nameBytes += len(f.Name)
		}
	}
	if e.values > b.extent.values {
		e.samples++
		e.sampleBytes += sampleBytes
	}
	return e
}

// Add puts r into the batch. A reading without a present value is nothing and
// left out.
func (b *Batch) Add(r Reading) {
	e := b.with(r)
	if e == b.extent {
		return
	}
	if b.names == nil {
		b.names = map[string]bool{}
	}
	for _, f := range r.Fields {
		if f.Value.Present() {
			b.names[f.Name] = true
		}
	}
	b.readings, b.extent = append(b.readings, r), e
}

// Fits reports whether the message stays within limit bytes when r is in it, too; as rows,
// and if columns is set in that form as well.
func (b *Batch) Fits(r Reading, limit int, columns bool) bool {
	e := b.with(r)
	return e.rows() <= limit && (!columns || e.columns() <= limit)
}

// Empty reports whether nothing is in the batch. There is no empty batch outside.
func (b *Batch) Empty() bool { return len(b.readings) == 0 }

// Reset empties the batch and keeps its memory, and the trip.
func (b *Batch) Reset() {
	clear(b.readings)
	clear(b.names)
	b.readings, b.extent = b.readings[:0], extent{}
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

	body := make([]byte, 0, b.extent.sampleBytes+headBytes)
	body = append(body, `"clock":"`...)
	body = append(body, q...)
	body = append(body, `",`...)
	if b.TripID != "" {
		body = append(appendString(append(body, tripKey...), b.TripID), ',')
	}
	body = append(body, `"samples":[`...)
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
