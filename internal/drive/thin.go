package drive

import (
	"time"

	"telemetryd/internal/telemetry"
)

// thinner leaves fixes out that come sooner than they are wanted. What is found in readings
// is found before.
type thinner struct {
	kept time.Duration // when the last was kept
	any  bool
}

// of is the part of a reading that is kept: nothing of a fix that comes too soon after the
// last.
func (t *thinner) of(r telemetry.Reading, every time.Duration) telemetry.Reading {
	if every == 0 || r.FixTime.IsZero() {
		return r
	}
	// A receiver's period is not exact: half a second too soon is soon enough.
	if t.any && r.Arrived-t.kept < every-time.Second/2 {
		r.Fields = nil
		return r
	}
	t.kept, t.any = r.Arrived, true
	return r
}

// fixEvery is how often a fix is kept now.
func (d *Drive) fixEvery() time.Duration {
	if d.situation.parked && d.ParkedFixEvery != 0 {
		return d.ParkedFixEvery
	}
	return d.FixEvery
}
