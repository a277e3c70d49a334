package telemetry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
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
	// Emergency marks an event that goes before everything else.
	Emergency bool

	body []byte // `"clock":...}`: the message's tail
}

type recordHead struct {
	VehicleID string `json:"vehicle_id"`
	BootID    string `json:"boot_id"`
	NewestMS  int64  `json:"newest_ms"`
	Emergency bool   `json:"emergency,omitempty"`
}

// Marshal returns the stored form.
func (r Record) Marshal() ([]byte, error) {
	head, err := json.Marshal(recordHead{r.VehicleID, r.BootID, r.Newest.Milliseconds(), r.Emergency})
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
	h, plain := plainHead(line)
	if !plain {
		if err := json.Unmarshal(line, &h); err != nil {
			return Record{}, fmt.Errorf("head of a record: %w", err)
		}
	}
	return Record{h.VehicleID, h.BootID, time.Duration(h.NewestMS) * time.Millisecond, h.Emergency, body}, nil
}

// plainHead reads a head as Marshal writes it, with nothing escaped; not plain for any
// other. It takes an eighth of the time, and a drain reads one for each message.
func plainHead(line []byte) (h recordHead, plain bool) {
	rest := string(line)
	text := func(before string) (found string) {
		var ok bool
		if rest, ok = strings.CutPrefix(rest, before); ok {
			found, rest, ok = strings.Cut(rest, `"`)
		}
		for _, c := range []byte(found) {
			ok = ok && c >= ' ' && c < 0x7f && c != '\\'
		}
		plain = plain && ok
		return found
	}
	plain = true
	h.VehicleID = text(`{"vehicle_id":"`)
	h.BootID = text(`,"boot_id":"`)
	number, isNumber := strings.CutPrefix(rest, `,"newest_ms":`)
	number, isEnd := strings.CutSuffix(number, `}`)
	number, h.Emergency = strings.CutSuffix(number, `,"emergency":true`)
	var err error
	h.NewestMS, err = strconv.ParseInt(number, 10, 64)
	plain = plain && isNumber && isEnd && err == nil
	if !plain {
		return recordHead{}, false
	}
	return h, true
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
