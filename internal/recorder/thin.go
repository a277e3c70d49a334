package recorder

import (
	"time"

	"telemetryd/internal/telemetry"
)

// When a data budget is used up, values are to be few. They are left out here, before they
// are accepted: what is in the buffer is sent or named as lost, whatever it costs. The car
// is read as ever, because events are found in what it says.

const (
	// fewEvery is the least time between two values of a signal then.
	fewEvery = 15 * time.Second
	// fewInterval is how long a batch stays open then, at least.
	fewInterval = time.Minute
	// quietAfter is how old the newest reading of the open batch may become. A batch is
	// live only if it is offered within 30 s of it.
	quietAfter = 20 * time.Second
)

// interval is how long a batch stays open.
func (r *Recorder) interval() time.Duration {
	if r.Few() {
		return max(r.Interval, fewInterval)
	}
	return r.Interval
}

// thinner knows when each signal had a value last.
type thinner struct{ kept map[string]time.Duration }

// of is the part of a reading whose signals had no value for long enough. It has no fields
// when there is none.
func (t *thinner) of(r telemetry.Reading) telemetry.Reading {
	if t.kept == nil {
		t.kept = map[string]time.Duration{}
	}
	all := r.Fields
	r.Fields = nil
	for _, f := range all {
		last, known := t.kept[f.Name]
		if !known || r.Arrived-last >= fewEvery {
			t.kept[f.Name] = r.Arrived
			r.Fields = append(r.Fields, f)
		}
	}
	return r
}
