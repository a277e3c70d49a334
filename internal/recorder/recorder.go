// Package recorder turns readings and events into durable records: it keeps the
// one open batch, closes it after the batch interval or at its size limit, and
// hands it to the buffer.
//
// It promises that a batch counts as accepted only when the buffer has synced it,
// that what is under way is bounded, and that the open batch is closed and handed
// over before Run returns. A buffer that cannot write is tried again for ever;
// meanwhile the newest batches wait in memory, the oldest are given up and counted.
package recorder

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// Store is where records become durable.
type Store interface {
	Append(c spool.Class, payload []byte) (spool.Record, error)
}

// Health is where conditions are reported.
type Health interface {
	Set(source string, c telemetry.Condition)
	Clear(source, resolved string)
}

// Config says what the recorder writes and where.
type Config struct {
	VehicleID string
	Clock     *telemetry.Clock
	Store     Store
	Interval  time.Duration // a batch is closed this long after its first reading
	Columns   bool          // it will leave in this form: its size counts, too
	Health    Health
	Log       *slog.Logger
}

const (
	// arriving bounds the readings that wait for the recorder.
	arriving = 256
	// waitingBytes bounds the records that wait for a buffer that cannot write.
	waitingBytes = 4 << 20
	retryEvery   = time.Second
)

// Recorder collects from any number of sources.
type Recorder struct {
	Config
	readings chan telemetry.Reading
	events   chan telemetry.Event
	done     chan struct{}

	batch   telemetry.Batch
	waiting []record
	bytes   int // of waiting
	givenUp int // records since the buffer failed
}

type record struct {
	class   spool.Class
	payload []byte
	tells   *telemetry.Correction // that it is; nil for all others
}

// New returns a recorder; Run makes it work.
func New(c Config) *Recorder {
	return &Recorder{
		Config:   c,
		readings: make(chan telemetry.Reading, arriving),
		events:   make(chan telemetry.Event, arriving),
		done:     make(chan struct{}),
	}
}

// Begin records the first event of the stream. It must be called before Run and
// before any source delivers.
func (r *Recorder) Begin(e telemetry.Event) { r.seal(e) }

// Deliver takes a reading. It waits while too many wait already: a source then
// reads more slowly, nothing grows.
func (r *Recorder) Deliver(reading telemetry.Reading) {
	select {
	case r.readings <- reading:
	case <-r.done:
	}
}

// Event takes an event, in the same way.
func (r *Recorder) Event(e telemetry.Event) {
	select {
	case r.events <- e:
	case <-r.done:
	}
}

// Run records until ctx ends, then closes the open batch. End the sources first:
// what is delivered later is lost.
func (r *Recorder) Run(ctx context.Context) {
	defer close(r.done)
	interval := time.NewTimer(r.Interval)
	interval.Stop()
	defer interval.Stop()
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	for {
		select {
		case reading := <-r.readings:
			if r.batch.Empty() {
				interval.Reset(r.Interval)
			}
			if r.add(reading); r.batch.Empty() {
				interval.Stop()
			}
		case e := <-r.events:
			r.seal(e)
		case <-interval.C:
			r.closeBatch()
		case <-retry.C:
			r.correct()
			r.store()
		case <-ctx.Done():
			r.drain()
			return
		}
	}
}

// drain takes what was delivered before the end.
func (r *Recorder) drain() {
	for {
		select {
		case reading := <-r.readings:
			r.add(reading)
		case e := <-r.events:
			r.seal(e)
		default:
			r.closeBatch()
			r.correct()
			r.store()
			if len(r.waiting) > 0 {
				r.Log.Error("stopped with records that the buffer could not take", "records", len(r.waiting))
			}
			return
		}
	}
}

func (r *Recorder) add(reading telemetry.Reading) {
	r.batch.Add(reading)
	if r.batch.Size() >= telemetry.MaxBatchBytes || r.Columns && r.batch.ColumnsSize() >= telemetry.MaxBatchBytes {
		r.closeBatch()
	}
}

func (r *Recorder) closeBatch() {
	if r.batch.Empty() {
		return
	}
	zero, quality := r.Clock.Zero()
	r.accept(record{class: spool.Telemetry}, r.batch.Seal(r.VehicleID, r.Clock.BootID, zero, quality))
	r.batch.Reset()
}

func (r *Recorder) seal(e telemetry.Event) { r.sealAs(e, nil) }

func (r *Recorder) sealAs(e telemetry.Event, tells *telemetry.Correction) {
	zero, quality := r.Clock.Zero()
	rec, err := e.Seal(r.VehicleID, r.Clock.BootID, zero, quality)
	if err != nil {
		r.Log.Error("event left out", "error", err) // a mistake in this program
		return
	}
	r.accept(record{class: spool.Event, tells: tells}, rec)
}

// correct tells what the time was while it was only guessed.
func (r *Recorder) correct() {
	if slices.ContainsFunc(r.waiting, func(w record) bool { return w.tells != nil }) {
		return
	}
	if owed, ok := r.Clock.Correction(); ok {
		r.sealAs(telemetry.Event{Type: "clock_correction", Severity: telemetry.Info, At: r.Clock.Uptime(), Data: owed}, &owed)
	}
}

// accept hands a record over, behind those that wait already.
func (r *Recorder) accept(w record, rec telemetry.Record) {
	var err error
	if w.payload, err = rec.Marshal(); err != nil {
		r.Log.Error("record left out", "error", err) // a mistake in this program
		return
	}
	r.waiting = append(r.waiting, w)
	r.bytes += len(w.payload)
	r.store()
	for r.bytes > waitingBytes {
		r.remove()
		r.givenUp++
	}
}

// remove takes the oldest record that waits away. A correction is owed again unless the
// clock was told that it is durable.
func (r *Recorder) remove() {
	r.bytes -= len(r.waiting[0].payload)
	r.waiting = r.waiting[1:]
}

// store writes what waits, oldest first, until the buffer refuses.
func (r *Recorder) store() {
	for len(r.waiting) > 0 {
		w := r.waiting[0]
		if _, err := r.Store.Append(w.class, w.payload); err != nil {
			r.Health.Set("buffer", telemetry.Condition{Code: "buffer_failing", Severity: telemetry.Warning,
				Title:  fmt.Sprintf("The buffer cannot be written: %v", err),
				Remedy: "is the disk full, read-only or worn out? The newest data waits in memory and is written when it can be"})
			return
		}
		if w.tells != nil {
			r.Clock.Corrected(*w.tells)
		}
		r.remove()
	}
	if r.waiting = nil; r.givenUp > 0 {
		r.Log.Warn("batches were lost while the buffer could not be written", "batches", r.givenUp)
		r.givenUp = 0
	}
	r.Health.Clear("buffer", "The buffer takes data again")
}
