package drive

import (
	"slices"
	"time"

	"telemetryd/internal/telemetry"
)

const (
	// parkedVoltageEvery is how often the voltage of a parked vehicle is kept.
	parkedVoltageEvery = 5 * time.Minute
	// defaultParkedFix is how often its position is kept.
	defaultParkedFix = 10 * time.Minute
	// early is how much too soon is soon enough: a receiver's period is not exact.
	early = time.Second / 2
)

// thinner leaves out what nobody needs to keep. All of it was judged before.
type thinner struct {
	fix, volts     time.Duration // when one was kept last
	hasFix, parked bool
}

// keep is what may be kept of a reading.
func (t *thinner) keep(c Config, s *situation, r telemetry.Reading) telemetry.Reading {
	if s.parked != t.parked { // where it was parked, and where it left, are told
		t.parked, t.hasFix, t.volts = s.parked, false, 0
	}
	every := c.FixEvery
	if s.parked {
		every = c.ParkedFixEvery
		if every == 0 {
			every = defaultParkedFix
		}
	}
	fix, volts := false, false
	for _, f := range r.Fields {
		if f.Name == "battery_voltage_v" {
			volts = true
		}
		if signal, known := telemetry.FindSignal(f.Name); known && signal.Source == telemetry.FromReceiver {
			fix = true
		}
	}
	switch {
	case fix && every > 0 && t.hasFix && r.Arrived-t.fix < every-early:
		r.Fields = nil
	case fix:
		t.fix, t.hasFix = r.Arrived, true
	case volts && s.parked && t.volts > 0 && r.Arrived-t.volts < parkedVoltageEvery:
		r.Fields = slices.DeleteFunc(slices.Clone(r.Fields), func(f telemetry.Field) bool { return f.Name == "battery_voltage_v" })
	case volts:
		t.volts = r.Arrived
	}
	return r
}
