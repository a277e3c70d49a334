package sim

import (
	"encoding/json"
	"io"
	"math"
	"sync"
	"time"
)

// Truth is what the vehicle told: one parameter of an OBD answer or one epoch of
// the receiver. Its values are what a correct reader makes of the bytes sent.
type Truth struct {
	// T is when the last byte of the answer was handed to the wire, UTC.
	T time.Time `json:"t"`
	// Source is "obd" or "gps".
	Source string `json:"source"`
	// ECU is who answered, as its header names it ("7E8", "18DAF110", "10"); ""
	// for what the adapter measures itself.
	ECU string `json:"ecu,omitempty"`
	// Request is what the client asked, without spaces: "010C0D", "ATRV".
	Request string `json:"request,omitempty"`
	// PID and Bytes are the mode 01 parameter and its bytes in hexadecimal.
	PID   string `json:"pid,omitempty"`
	Bytes string `json:"bytes,omitempty"`
	// FixTime is the receiver's own time, "2026-11-24T10:00:00.200Z", gps only.
	FixTime string `json:"fix_time,omitempty"`
	// Valid is whether the epoch has a fix, gps only.
	Valid *bool `json:"valid,omitempty"`
	// Values holds numbers (float64), strings and booleans by signal name. It is
	// empty for parameters that are no signals, such as the bitmaps.
	Values map[string]any `json:"values"`
}

// truthLog hands truths on, one at a time.
type truthLog struct {
	mu     sync.Mutex
	writer io.Writer
	call   func(Truth)
}

func (l *truthLog) add(t Truth) {
	if l.writer == nil && l.call == nil {
		return
	}
	t.T = t.T.UTC().Truncate(time.Microsecond)
	if t.Values == nil {
		t.Values = map[string]any{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writer != nil {
		// Nothing in a Truth can fail to be encoded. A log that cannot be written
		// must not stop the vehicle: its owner sees the failure in his Writer.
		if b, err := json.Marshal(t); err == nil {
			_, _ = l.writer.Write(append(b, '\n'))
		}
	}
	if l.call != nil {
		l.call(t)
	}
}

// round rounds to decimals, never to a negative zero.
func round(x float64, decimals int) float64 {
	p := math.Pow10(decimals)
	return math.Round(x*p)/p + 0
}
