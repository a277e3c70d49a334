package telemetry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Record is a sealed batch or event as the buffer keeps it: everything but its
// stream and sequence number, which the buffer gives. Its stored form is one
// line of JSON with what the sender has to know, then the rest of the message
// as it will leave; so sending costs no decoding.
type Record struct {
	VehicleID string
	BootID    string
	// Newest is the time since boot of the newest sample, or of the event.
	Newest time.Duration

	body []byte // `"clock":...}`: the message's tail
}

type recordHead struct {
	VehicleID string `json:"vehicle_id"`
	BootID    string `json:"boot_id"`
	NewestMS  int64  `json:"newest_ms"`
}

// Marshal returns the stored form.
func (r Record) Marshal() ([]byte, error) {
	head, err := json.Marshal(recordHead{r.VehicleID, r.BootID, r.Newest.Milliseconds()})
	if err != nil {
		return nil, fmt.Errorf("encode the head of a record: %w", err)
	}
	return append(append(head, '\n'), r.body...), nil
}

// ParseRecord reads the stored form. The result refers to stored, which must
// not change afterwards.
func ParseRecord(stored []byte) (Record, error) {
	line, body, ok := bytes.Cut(stored, []byte{'\n'})
	if !ok {
		return Record{}, fmt.Errorf("record of %d bytes has no head line", len(stored))
	}
	var h recordHead
	if err := json.Unmarshal(line, &h); err != nil {
		return Record{}, fmt.Errorf("head of a record: %w", err)
	}
	return Record{h.VehicleID, h.BootID, time.Duration(h.NewestMS) * time.Millisecond, body}, nil
}

// Message returns the JSON that leaves, as sequence number seq of streamID.
func (r Record) Message(streamID string, seq uint64) []byte {
	b := make([]byte, 0, len(r.body)+256)
	b = append(b, `{"schema":1,"vehicle_id":`...)
	b = appendString(b, r.VehicleID)
	b = append(b, `,"stream_id":`...)
	b = appendString(b, streamID)
	b = append(b, `,"boot_id":`...)
	b = appendString(b, r.BootID)
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, seq, 10)
	b = append(b, ',')
	return append(b, r.body...)
}
