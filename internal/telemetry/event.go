package telemetry

import (
	"encoding/json"
	"fmt"
	"time"
)

// Severity ranks events and conditions.
type Severity string

// The severities, from the least on.
const (
	Info      Severity = "info"
	Warning   Severity = "warning"
	Emergency Severity = "emergency"
)

// Event is something that happened once.
type Event struct {
	Type     string // snake_case, for example "stream_start"
	Severity Severity
	At       time.Duration // time since boot
	Data     any           // marshals to a JSON object
	Position *Position     // where the vehicle was; nil: not known, or not to be told
	TripID   string        // of the trip under way; empty for none
}

// Position is where the vehicle was last, and how long before the event that was.
type Position struct {
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
	AgeMS     int64   `json:"age_ms"`
}

// Seal renders the event as a Record.
func (e Event) Seal(vehicleID, bootID string, zero time.Time, q Quality) (Record, error) {
	body := struct {
		Clock    Quality   `json:"clock"`
		T        string    `json:"t"`
		UptimeMS *int64    `json:"uptime_ms,omitempty"`
		Type     string    `json:"type"`
		Severity Severity  `json:"severity"`
		TripID   string    `json:"trip_id,omitempty"`
		Position *Position `json:"position,omitempty"`
		Data     any       `json:"data"`
	}{Clock: q, T: FormatTime(zero.Add(e.At)), Type: e.Type, Severity: e.Severity, TripID: e.TripID, Position: e.Position, Data: e.Data}
	if body.Data == nil {
		body.Data = struct{}{}
	}
	if q == Unsynced {
		ms := e.At.Milliseconds()
		body.UptimeMS = &ms
	}
	b, err := json.Marshal(body)
	if err != nil {
		return Record{}, fmt.Errorf("encode event %s: %w", e.Type, err)
	}
	return Record{VehicleID: vehicleID, BootID: bootID, Newest: e.At, Emergency: e.Severity == Emergency, body: b[1:]}, nil
}

// StreamStart is the data of `stream_start`, the first message of a stream.
// Both fields are absent in the first stream of a state directory.
type StreamStart struct {
	PreviousStreamID string `json:"previous_stream_id,omitempty"`
	PreviousLastSeq  uint64 `json:"previous_last_seq,omitempty"`
}

// DataGap is the data of `data_gap`: sequence numbers that will never arrive.
type DataGap struct {
	StreamID string `json:"gap_stream_id"`
	FirstSeq uint64 `json:"first_seq"`
	LastSeq  uint64 `json:"last_seq"`
	Reason   string `json:"reason"` // evicted, damaged, refused, lost_in_crash
}
