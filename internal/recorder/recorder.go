// Package recorder turns readings and events into durable records: it keeps the
// one open batch, closes it after the batch interval or before it exceeds its size limit, and
// hands it to the buffer.
//
// It promises that what is under way is bounded, that what comes at once is handed over
// at once, to share a sync, and that the open batch is closed and handed over before Run
// returns. What becomes of it on a disk that fails is the buffer's; the recorder tells of it.
package recorder

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// Store is where records become durable.
type Store interface {
	AppendAll(entries []spool.Entry) ([]spool.Record, error)
	Trouble() (spool.Trouble, bool)
}

// Health is where conditions are reported.
type Health interface {
	Set(source string, c telemetry.Condition)
	Clear(source, resolved string)
}

// Meaning is what readings mean: the recorder asks it about each, in the order in which
// they come, before anything of them is kept. Its methods are called by Run alone.
type Meaning interface {
	// Observe takes a reading as it came. kept is what may be recorded of it.
	Observe(r telemetry.Reading) (kept telemetry.Reading, events []telemetry.Event)
	// Pass says that it is now, since boot; at least once a second.
	Pass(now time.Duration) []telemetry.Event
	// Placed completes an event with what is known beside it: trip and position.
	Placed(e telemetry.Event) telemetry.Event
	// TripID is the trip under way; empty for none.
	TripID() string
}

// nothing is the meaning of readings where nobody asks for one.
type nothing struct{}

func (nothing) Observe(r telemetry.Reading) (telemetry.Reading, []telemetry.Event) { return r, nil }
func (nothing) Pass(time.Duration) []telemetry.Event                               { return nil }
func (nothing) Placed(e telemetry.Event) telemetry.Event                           { return e }
func (nothing) TripID() string                                                     { return "" }

// Config says what the recorder writes and where.
type Config struct {
	VehicleID string
	Clock     *telemetry.Clock
	Store     Store
	Meaning   Meaning                 // nil: none
	Interval  time.Duration           // a batch is closed this long after its first reading
	Columns   bool                    // it will leave in this form: its size counts, too
	Limit     int                     // bytes that a batch takes at the most as a message; 0 means telemetry.MaxBatchBytes
	Few       func() bool             // whether values are to be few now (thin.go); nil: never
	Kept      func(telemetry.Reading) // is told of each reading that may be recorded, at once; nil: nobody is
	// Happened is told of each event that the buffer took, with its message as it will
	// leave. It must not wait. It may be nil.
	Happened func(e telemetry.Event, message []byte)
	Health   Health
	Log      *slog.Logger
}

const (
	// arriving bounds the readings that wait for the recorder.
	arriving = 256
	// lookEvery is how often the time and the buffer are asked how they are.
	lookEvery = time.Second
)

// Recorder collects from any number of sources.
type Recorder struct {
	Config
	readings chan telemetry.Reading
	events   chan telemetry.Event
	done     chan struct{}

	emissions chan emission

	batch  telemetry.Batch
	newest time.Duration // reading in it
	thin   thinner
	sealed []spool.Entry // to be handed over
	owed   []owed        // events among them
}

// New returns a recorder; Run makes it work.
func New(c Config) *Recorder {
	c.Limit = cmp.Or(c.Limit, telemetry.MaxBatchBytes)
	if c.Meaning == nil {
		c.Meaning = nothing{}
	}
	if c.Few == nil {
		c.Few = func() bool { return false }
	}
	if c.Kept == nil {
		c.Kept = func(telemetry.Reading) {}
	}
	return &Recorder{
		Config:   c,
		readings: make(chan telemetry.Reading, arriving),
		events:   make(chan telemetry.Event, arriving),
		done:     make(chan struct{}),

		emissions: make(chan emission),
	}
}

// Begin records the first event of the stream. It must be called before Run and
// before any source delivers.
func (r *Recorder) Begin(e telemetry.Event) {
	r.seal(e)
	r.store()
}

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
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case reading := <-r.readings:
			if r.observe(reading) {
				interval.Reset(r.interval())
			}
		case e := <-r.events:
			r.seal(e)
			for more := true; more; { // what comes at once
				select {
				case e := <-r.events:
					r.seal(e)
				default:
					more = false
				}
			}
		case m := <-r.emissions:
			r.emit(m)
		case <-interval.C:
			r.closeBatch()
		case <-look.C:
			if r.catchUp() {
				interval.Reset(r.interval())
			}
			r.happened(r.Meaning.Pass(r.Clock.Uptime()))
			if r.Clock.Uptime()-r.newest >= quietAfter {
				r.closeBatch()
			}
			r.correct()
			r.report()
		case <-ctx.Done():
			r.drain()
			return
		}
		r.store()
	}
}

// catchUp takes the readings that wait: what it is now, a disk that was slow or not, is
// judged after what was measured before. begun is as of add.
func (r *Recorder) catchUp() (begun bool) {
	for range 2 * arriving { // what sources hold that waited, too
		select {
		case reading := <-r.readings:
			begun = r.observe(reading) || begun
		default:
			return begun
		}
	}
	return begun
}

// drain takes what was delivered before the end.
func (r *Recorder) drain() {
	for {
		select {
		case reading := <-r.readings:
			r.observe(reading)
		case e := <-r.events:
			r.seal(e)
		case m := <-r.emissions:
			r.emit(m)
		default:
			r.closeBatch()
			r.correct()
			r.store()
			return
		}
	}
}

// observe asks what a reading means and records what is to be kept of it; begun is as of
// add. Its events go before it: the first of a trip is its start.
func (r *Recorder) observe(reading telemetry.Reading) (begun bool) {
	kept, events := r.Meaning.Observe(reading)
	r.happened(events)
	r.Kept(kept)
	return r.add(kept)
}

// happened seals what readings meant. A batch does not span two trips.
func (r *Recorder) happened(events []telemetry.Event) {
	if trip := r.Meaning.TripID(); trip != r.batch.TripID {
		r.closeBatch()
		r.batch.TripID = trip
	}
	for _, e := range events {
		r.seal(e)
	}
}

// add puts a reading into the open batch, after it closed one that has no room for it.
// begun tells that it is the first one of a batch.
func (r *Recorder) add(reading telemetry.Reading) (begun bool) {
	if r.Few() {
		reading = r.thin.of(reading)
	}
	if !r.batch.Fits(reading, r.Limit, r.Columns) {
		if !new(telemetry.Batch).Fits(reading, r.Limit, r.Columns) { // a reading has a few values: a mistake in this program
			r.Log.Error("a reading is left out: it is larger than a message may be", "limit", r.Limit, "fields", len(reading.Fields))
			return false
		}
		r.closeBatch()
	}
	begun = r.batch.Empty()
	r.batch.Add(reading)
	if len(reading.Fields) > 0 {
		r.newest = reading.Arrived
	}
	return begun && !r.batch.Empty()
}

func (r *Recorder) closeBatch() {
	if r.batch.Empty() {
		return
	}
	zero, quality := r.Clock.Zero()
	if err := r.accept(spool.Telemetry, r.batch.Seal(r.VehicleID, r.Clock.BootID, zero, quality)); err != nil {
		r.Log.Error("batch left out", "error", err) // a mistake in this program
	}
	r.batch.Reset()
}

func (r *Recorder) seal(e telemetry.Event) {
	if err := r.sealFor(e, nil); err != nil {
		r.Log.Error("event left out", "error", err) // a mistake in this program
	}
}

// correct tells what the time was while it was only guessed.
func (r *Recorder) correct() {
	if owed, ok := r.Clock.Correction(); ok {
		r.seal(telemetry.Event{Type: "clock_correction", Severity: telemetry.Info, At: r.Clock.Uptime(), Data: owed})
		r.store()
		r.Clock.Corrected(owed)
	}
}

func (r *Recorder) accept(c spool.Class, rec telemetry.Record) error {
	payload, err := rec.Marshal()
	if err == nil {
		r.sealed = append(r.sealed, spool.Entry{Class: c, Payload: payload})
	}
	return err
}

// store hands over what is sealed.
func (r *Recorder) store() {
	if len(r.sealed) == 0 {
		return
	}
	records, err := r.Store.AppendAll(r.sealed)
	if err != nil {
		r.Log.Error("records left out", "records", len(r.sealed), "error", err) // a mistake in this program
	}
	r.sealed = nil
	r.tell(records, err)
	r.report()
}

// report tells how the buffer is.
func (r *Recorder) report() {
	trouble, bad := r.Store.Trouble()
	if !bad {
		r.Health.Clear("buffer", "The buffer takes data again")
		return
	}
	r.Health.Set("buffer", failing(trouble))
}

// failing is a buffer that cannot be written, in the words of who can mend it.
func failing(t spool.Trouble) telemetry.Condition {
	c := telemetry.Condition{Code: "buffer_failing", Severity: telemetry.Warning}
	switch t.State {
	case spool.Full:
		c.Code, c.Title = "disk_full", "The disk of the buffer is full"
		c.Remedy = "free some space there, or give the buffer less with --buffer-size."
	case spool.ReadOnly:
		c.Code, c.Title = "disk_read_only", "The file system of the buffer is read-only"
		c.Remedy = "look into the kernel's log (dmesg) for why; a card that fails often ends like this: check it, mount it writable again."
	case spool.Gone:
		c.Code, c.Title = "state_dir_gone", "The directory of the buffer is gone"
		c.Remedy = "is its disk mounted and plugged in, was it removed?"
	case spool.Denied:
		c.Code, c.Title = "state_dir_denied", "There is no permission to write the buffer any more"
		c.Remedy = "give the directory back to the user of the daemon."
	default:
		c.Title = "The disk of the buffer fails"
		c.Remedy = "the card or disk may be worn out: look into the kernel's log (dmesg), and change it."
	}
	c.Title += fmt.Sprintf(" (%v)", t.Err)
	c.Remedy += " Data goes on from memory, up to 4 MB, and is written when the disk is back"
	return c
}
