package drive

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"telemetryd/internal/telemetry"
)

// around keeps what was recorded in the last half minute, and hands out what was measured
// around an event.
type around struct {
	limit  int // bytes of a message
	ring   []telemetry.Reading
	bytes  int
	wanted []wanted
}

// wanted is an event whose readings are to follow.
type wanted struct {
	telemetry.Event
	id string
}

// readingsData is the data of event_readings, whose t is that of its event.
type readingsData struct {
	EventType string `json:"event_type"`
	EventID   string `json:"event_id"`
	// LeftOut is how many readings the broker's limit left no room for.
	LeftOut int               `json:"left_out,omitempty"`
	Samples []json.RawMessage `json:"samples"`
}

const (
	aroundTime  = 5 * time.Second  // before an event, and after
	aroundKept  = 30 * time.Second // an event is told some seconds after it began
	aroundBytes = 256 << 10
	aroundMost  = 8 // events that wait for their readings at once
	// envelope is what a message takes besides its samples, at the most.
	envelope = 900
)

// keep takes a reading as it is recorded: nothing else may be in an event.
func (a *around) keep(r telemetry.Reading) {
	if a.limit == 0 || len(r.Fields) == 0 {
		return
	}
	a.ring = append(a.ring, r)
	a.bytes += weight(r)
	old := 0
	for old < len(a.ring) && (r.Arrived-a.ring[old].Arrived > aroundKept || a.bytes > aroundBytes) {
		a.bytes -= weight(a.ring[old])
		old++
	}
	clear(a.ring[:old])
	a.ring = a.ring[old:]
}

// weight is about what a reading takes.
func weight(r telemetry.Reading) int { return 64 + 56*len(r.Fields) }

func (a *around) reading(s *situation, _ telemetry.Reading) { a.pass(s) }

func (a *around) pass(s *situation) {
	for _, w := range s.wanted {
		if a.limit > 0 && len(a.wanted) < aroundMost {
			a.wanted = append(a.wanted, w)
		}
	}
	s.wanted = nil
	a.wanted = slices.DeleteFunc(a.wanted, func(w wanted) bool {
		if s.now < w.At+aroundTime {
			return false
		}
		s.report(telemetry.Event{Type: "event_readings", Severity: telemetry.Info, At: w.At, Position: w.Position, TripID: w.TripID, Data: a.of(w)})
		return true
	})
}

// of is the readings around an event, as many as fit into a message: every second, third
// and so on of each kind where they are too many.
func (a *around) of(w wanted) readingsData {
	d := readingsData{EventType: w.Type, EventID: w.id, Samples: []json.RawMessage{}}
	var all []telemetry.Reading
	for _, r := range a.ring {
		if (r.Arrived - w.At).Abs() <= aroundTime {
			all = append(all, r)
		}
	}
	for every := 1; every <= max(1, len(all)); every++ {
		d.Samples = d.Samples[:0]
		size := envelope
		count := map[string]int{}
		for _, r := range all {
			kind := r.Fields[0].Name
			if count[kind]++; (count[kind]-1)%every != 0 {
				continue
			}
			sample := sampleAround(r, w.At)
			size += len(sample) + len(",")
			d.Samples = append(d.Samples, sample)
		}
		if d.LeftOut = len(all) - len(d.Samples); size <= a.limit {
			break
		}
	}
	return d
}

// sampleAround is a reading with its distance from an event in place of its time: so it
// stays right when the clock is corrected. A fix has the receiver's own time as well.
func sampleAround(r telemetry.Reading, at time.Duration) json.RawMessage {
	b := strconv.AppendInt([]byte(`{"offset_ms":`), (r.Arrived - at).Milliseconds(), 10)
	rest := r.AppendSample(nil, r.FixTime)
	if len(rest) > len("{}") {
		b = append(b, ',')
	}
	return append(b, rest[1:]...)
}
