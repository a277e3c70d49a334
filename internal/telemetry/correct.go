package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// unsyncedBody is how the body of a record begins that was sealed with a guessed time.
var unsyncedBody = []byte(`"clock":"unsynced",`)

// Guessed reports whether the record was sealed with a guessed time.
func (r Record) Guessed() bool { return bytes.HasPrefix(r.body, unsyncedBody) }

// Corrected is the record as it would have been sealed had the zero of its boot been
// known: its own times follow from uptime_ms; those of the receiver stay. Nothing else
// changes. A record that was not guessed is returned as it is.
func (r Record) Corrected(zero time.Time, q Quality) (Record, error) {
	if !r.Guessed() {
		return r, nil
	}
	rest := r.body[len(unsyncedBody):]
	body := fmt.Appendf(nil, `"clock":%q,`, q)
	trip := tripOf(rest)
	samples, isBatch := bytes.CutPrefix(rest[len(trip):], []byte(`"samples":`))
	if !isBatch {
		corrected, err := correctedObject(append([]byte{'{'}, rest...), zero)
		if err != nil {
			return r, err
		}
		r.body = append(body, corrected[1:]...)
		return r, nil
	}
	var list []json.RawMessage
	if err := json.NewDecoder(bytes.NewReader(samples)).Decode(&list); err != nil {
		return r, fmt.Errorf("samples of a record: %w", err)
	}
	type dated struct{ t, object []byte }
	var err error
	all := make([]dated, len(list))
	for i, object := range list {
		corrected, err := correctedObject(object, zero)
		if err != nil {
			return r, err
		}
		all[i] = dated{corrected[len(timeKey) : len(timeKey)+len(timeFormat)], corrected}
	}
	// The form of a time sorts as the time does.
	slices.SortStableFunc(all, func(a, b dated) int { return bytes.Compare(a.t, b.t) })
	body = append(append(body, trip...), `"samples":[`...)
	for i, d := range all {
		if i+1 < len(all) && bytes.Equal(d.t, all[i+1].t) { // one sample a time
			if all[i+1].object, err = merged(d.object, all[i+1].object); err != nil {
				return r, err
			}
			continue
		}
		body = append(append(body, d.object...), ',')
	}
	body[len(body)-1] = ']'
	r.body = append(body, '}')
	return r, nil
}

// tripOf is the part of a body that names the trip, its comma included. It is empty when
// there is none. An id has nothing to escape.
func tripOf(body []byte) []byte {
	id, ok := bytes.CutPrefix(body, []byte(tripKey+`"`))
	end := bytes.Index(id, []byte(`",`))
	if !ok || end < 0 {
		return nil
	}
	return body[:len(tripKey)+1+end+2]
}

// merged joins two samples of the same time; where both have a name, the later speaks.
func merged(earlier, later []byte) ([]byte, error) {
	var fields, newer map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(earlier, &fields), json.Unmarshal(later, &newer)); err != nil {
		return nil, fmt.Errorf("samples of one time: %w", err)
	}
	maps.Copy(fields, newer)
	t := fields["t"]
	delete(fields, "t")
	b := append([]byte(`{"t":`), t...)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		b = append(appendString(append(b, ','), name), ':')
		b = append(b, fields[name]...)
	}
	return append(b, '}'), nil
}

const timeKey = `{"t":"`

// correctedObject takes uptime_ms out of an object that begins {"t":"...","uptime_ms":N
// and derives t from it. One without uptime_ms is the receiver's and stays.
func correctedObject(object []byte, zero time.Time) ([]byte, error) {
	if !bytes.HasPrefix(object, []byte(timeKey)) || len(object) < len(timeKey)+len(timeFormat)+2 {
		return nil, fmt.Errorf("%.60q does not begin with a time", object)
	}
	tail := object[len(timeKey)+len(timeFormat)+1:]
	number, isOurs := bytes.CutPrefix(tail, []byte(`,"uptime_ms":`))
	if !isOurs {
		return object, nil
	}
	end := bytes.IndexAny(number, ",}")
	if end < 0 {
		return nil, fmt.Errorf("%.60q does not end", object)
	}
	ms, err := strconv.ParseInt(string(number[:end]), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("uptime_ms of %.60q: %w", object, err)
	}
	b := append([]byte(timeKey), FormatTime(zero.Add(time.Duration(ms)*time.Millisecond))...)
	return append(append(b, '"'), number[end:]...), nil
}
