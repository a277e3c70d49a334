package recorder

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// ErrStopped is that an event came when nothing is recorded any more.
var ErrStopped = errors.New("the daemon stops")

// TooLargeError is an event that would be larger as a message than one may be.
type TooLargeError struct{ Bytes, Limit int }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the event would be a message of %d bytes, %d are allowed: send less data", e.Bytes, e.Limit)
}

// emission is an event whose sender waits for its place in the stream.
type emission struct {
	event telemetry.Event
	told  chan<- emitted // holds one
}

type emitted struct {
	record spool.Record
	err    error
}

// Emit records an event and tells its place in the stream. When it returns, the buffer has
// it: on the disk or, while that fails, in memory; see [spool.Spool.Trouble]. When ctx ends
// first it is not known whether it was recorded.
func (r *Recorder) Emit(ctx context.Context, e telemetry.Event) (spool.Record, error) {
	told := make(chan emitted, 1)
	select {
	case r.emissions <- emission{e, told}:
	case <-r.done:
		return spool.Record{}, ErrStopped
	case <-ctx.Done():
		return spool.Record{}, ctx.Err()
	}
	select {
	case t := <-told:
		return t.record, t.err
	case <-ctx.Done():
		return spool.Record{}, ctx.Err()
	}
}

// owed is an event that somebody is to hear of when the buffer has it.
type owed struct {
	at     int // among what is sealed
	event  telemetry.Event
	record telemetry.Record
	told   chan<- emitted // nil: nobody waits
}

// emit seals an event somebody waits for. Each has a sync of its own: they are few.
func (r *Recorder) emit(m emission) {
	if err := r.sealFor(m.event, m.told); err != nil {
		m.told <- emitted{err: err}
	}
}

// sealFor seals an event, for one who waits for its place or for nobody.
func (r *Recorder) sealFor(e telemetry.Event, told chan<- emitted) error {
	zero, quality := r.Clock.Zero()
	e = r.Meaning.Placed(e)
	rec, err := e.Seal(r.VehicleID, r.Clock.BootID, zero, quality)
	if err != nil {
		return err
	}
	if told != nil { // our own are known to fit
		if n := len(rec.Message(longestStream, math.MaxUint64)); n > r.Limit {
			return &TooLargeError{n, r.Limit}
		}
	}
	if err := r.accept(spool.Event, rec); err != nil {
		return err
	}
	if told != nil || r.Happened != nil {
		r.owed = append(r.owed, owed{len(r.sealed) - 1, e, rec, told})
	}
	return nil
}

// longestStream is as long as an id of a stream, which the buffer gives later.
var longestStream = strings.Repeat("0", 26)

// tell tells what became of events.
func (r *Recorder) tell(records []spool.Record, err error) {
	for _, o := range r.owed {
		var record spool.Record
		if err == nil {
			record = records[o.at]
		}
		if o.told != nil {
			o.told <- emitted{record, err}
		}
		if err == nil && r.Happened != nil {
			r.Happened(o.event, o.record.Message(record.StreamID, record.Seq))
		}
	}
	r.owed = nil
}
