package local

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"telemetryd/internal/telemetry"
)

const (
	// MostNote is how long a note may be, in characters.
	MostNote = 500
	// MostData is how large the data of an event may be, in bytes of JSON.
	MostData = 4 << 10
	// MostWait is how long an answer may be held back for the broker.
	MostWait = 10 * time.Minute

	// mostLine has room for a note with every character escaped twice.
	mostLine = 16 << 10
)

// Request is an event to be recorded.
type Request struct {
	Type     string             `json:"type"`
	Severity telemetry.Severity `json:"severity,omitempty"` // empty: info, of an emergency emergency
	Note     string             `json:"note,omitempty"`
	Data     json.RawMessage    `json:"data,omitempty"`    // an object; empty: none
	WaitMS   int64              `json:"wait_ms,omitempty"` // how long to wait for the broker's acknowledgement
}

// Answer is what became of it.
type Answer struct {
	Error    string `json:"error,omitempty"` // why nothing was recorded, or why it is not known
	StreamID string `json:"stream_id,omitempty"`
	Seq      uint64 `json:"seq,omitempty"`
	// Durable: it is on the disk. Else it waits in memory, for this reason.
	Durable bool   `json:"durable"`
	Trouble string `json:"trouble,omitempty"`
	// Acknowledged: the broker had it when the answer was given. GivenUp: no broker will get it.
	Acknowledged bool `json:"acknowledged"`
	GivenUp      bool `json:"given_up,omitempty"`
}

// parse reads a line as it came.
func parse(line []byte) (r Request, err error) {
	if !utf8.Valid(line) {
		return r, errors.New("the request is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, fmt.Errorf(`the request is no line like {"type":"door_open"}: %w`, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return r, errors.New("the request is more than one object in a line")
	}
	return r, nil
}

// Event is the request as an event of now, or why it cannot be one.
func (r Request) Event(now time.Duration) (telemetry.Event, error) {
	e := telemetry.Event{Type: r.Type, Severity: r.Severity, At: now}
	urgent := r.Type == string(telemetry.Emergency)
	switch {
	case !telemetry.IsEventType(r.Type):
		return e, fmt.Errorf("type %q is not allowed; allowed: %s", r.Type, telemetry.AllowedEventType)
	case telemetry.IsOwnEvent(r.Type):
		return e, fmt.Errorf("type %q is the daemon's own: choose another name, for example my_%[1]s", r.Type)
	case r.WaitMS < 0 || r.WaitMS > MostWait.Milliseconds():
		return e, fmt.Errorf("a wait of %d ms is not allowed; allowed: 0 to %v", r.WaitMS, MostWait)
	case utf8.RuneCountInString(r.Note) > MostNote:
		return e, fmt.Errorf("the note has %d characters; allowed: %d", utf8.RuneCountInString(r.Note), MostNote)
	case urgent && cmp.Or(r.Severity, telemetry.Emergency) != telemetry.Emergency:
		return e, fmt.Errorf("severity %q is not allowed for an emergency; leave it out", r.Severity)
	case urgent:
		e.Severity = telemetry.Emergency
	}
	switch e.Severity {
	case "":
		e.Severity = telemetry.Info
	case telemetry.Info, telemetry.Warning, telemetry.Emergency:
	default:
		return e, fmt.Errorf("severity %q is not allowed; allowed: info, warning, emergency", r.Severity)
	}
	data, err := r.data()
	e.Data = data
	return e, err
}

// data is the object of the event, with the note in it.
func (r Request) data() (map[string]json.RawMessage, error) {
	data := map[string]json.RawMessage{}
	if len(r.Data) > MostData {
		return nil, fmt.Errorf("the data has %d bytes; allowed: %d", len(r.Data), MostData)
	}
	if len(r.Data) > 0 {
		var values map[string]any // also numbers that no consumer could read are refused
		if err := errors.Join(json.Unmarshal(r.Data, &values), json.Unmarshal(r.Data, &data)); err != nil || data == nil {
			return nil, errors.New(`the data is no JSON object of texts, numbers and the like; allowed: as {"door":"rear","count":2}`)
		}
	}
	if r.Note == "" {
		return data, nil
	}
	if _, twice := data["note"]; twice {
		return nil, errors.New("the note is given twice, in the data as well: give one")
	}
	note, err := json.Marshal(r.Note)
	data["note"] = note
	return data, err
}
