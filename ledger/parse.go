package ledger

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Message is one payload: a batch (Samples), an event (Type) or a status (State).
type Message struct {
	VehicleID string `json:"vehicle_id"`
	StreamID  string `json:"stream_id"`
	BootID    string `json:"boot_id"`
	Seq       uint64 `json:"seq"` // of a batch or an event
	Clock     string `json:"clock"`
	T         string `json:"t"`

	// Samples are flat objects, with t as RFC 3339, whether the batch came in rows or in
	// columns.
	Samples []json.RawMessage `json:"samples"`

	Type     string          `json:"type"`
	Severity string          `json:"severity"`
	Data     json.RawMessage `json:"data"`

	State            string `json:"state"`
	LastSeq          uint64 `json:"last_seq"`
	OldestUnackedSeq uint64 `json:"oldest_unacked_seq"` // 0: none
}

// mostSeq is far above what a vehicle ever counts.
const mostSeq = 1 << 62

// mostBytes bounds a payload that is unpacked. A batch has 64 KiB or little more.
const mostBytes = 16 << 20

// Parse reads a payload of the topics telemetry, backfill, events or status.
func Parse(payload []byte) (Message, error) {
	plain, err := Unpack(payload)
	if err != nil {
		return Message{}, err
	}
	var m struct {
		Message
		Columns json.RawMessage `json:"columns"`
	}
	if err := json.Unmarshal(plain, &m); err != nil {
		return Message{}, fmt.Errorf("a payload that is no message: %w", err)
	}
	if m.Columns != nil {
		if m.Samples, err = rows(m.Columns); err != nil {
			return Message{}, fmt.Errorf("columns of seq %d: %w", m.Seq, err)
		}
	}
	if max(m.Seq, m.LastSeq, m.OldestUnackedSeq) > mostSeq {
		return Message{}, fmt.Errorf("a payload that is no message: a seq above %d", uint64(mostSeq))
	}
	if m.StreamID == "" || m.Seq == 0 && m.State == "" {
		return Message{}, errors.New("a payload that is no message: it has no stream_id, or neither seq nor state")
	}
	return m.Message, nil
}

// Unpack returns a payload as plain JSON; compression is told by the first bytes.
func Unpack(payload []byte) ([]byte, error) {
	var r io.Reader
	switch {
	case bytes.HasPrefix(payload, []byte{0x1f, 0x8b}): // RFC 1952
		z, err := gzip.NewReader(bytes.NewReader(payload))
		if err != nil {
			return nil, fmt.Errorf("unpack gzip: %w", err)
		}
		r = z
	case bytes.HasPrefix(payload, []byte{0x28, 0xb5, 0x2f, 0xfd}): // RFC 8878
		z, err := zstd.NewReader(bytes.NewReader(payload), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(mostBytes))
		if err != nil {
			return nil, fmt.Errorf("unpack zstd: %w", err)
		}
		defer z.Close()
		r = z
	default:
		return payload, nil
	}
	plain, err := io.ReadAll(io.LimitReader(r, mostBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("unpack a payload: %w", err)
	case len(plain) > mostBytes:
		return nil, fmt.Errorf("a payload of more than %d bytes unpacked", mostBytes)
	}
	return plain, nil
}

// rows makes samples of columns; names keep their order.
func rows(columns json.RawMessage) ([]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(columns))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, fmt.Errorf("%v in place of an object", open)
	}
	var samples []json.RawMessage
	for first := true; d.More(); first = false {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := key.(string) // of an object it is one
		var values []json.RawMessage
		if err := d.Decode(&values); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if first {
			samples = make([]json.RawMessage, len(values))
		}
		if len(values) != len(samples) {
			return nil, fmt.Errorf("%s has %d values, the first column %d", name, len(values), len(samples))
		}
		quoted, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		for i, value := range values {
			if string(value) == "null" {
				continue
			}
			if name == "t" {
				var ms int64
				if err := json.Unmarshal(value, &ms); err != nil {
					return nil, fmt.Errorf("t: %w", err)
				}
				value = time.UnixMilli(ms).UTC().AppendFormat(nil, `"2006-01-02T15:04:05.000Z"`)
			}
			between := byte(',')
			if samples[i] == nil {
				between = '{'
			}
			samples[i] = append(append(append(samples[i], between), quoted...), ':')
			samples[i] = append(samples[i], value...)
		}
	}
	for i := range samples {
		if samples[i] == nil {
			samples[i] = json.RawMessage{'{'}
		}
		samples[i] = append(samples[i], '}')
	}
	return samples, nil
}
