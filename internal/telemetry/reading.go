package telemetry

import (
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// Value is one measured value: a number, a text or a yes or no. The zero Value
// is absent and never published.
type Value struct {
	kind valueKind
	num  float64
	text string
}

type valueKind uint8

const (
	absent valueKind = iota
	number
	text
	boolean
)

// Number makes a Value of x, rounded to digits decimals. NaN and infinities
// become the absent Value: they are not measurements.
func Number(x float64, digits int) Value {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return Value{}
	}
	p := math.Pow10(digits)
	if r := math.Round(x*p) / p; !math.IsInf(r, 0) {
		x = r
	}
	if x == 0 {
		x = 0 // no "-0" in JSON
	}
	return Value{kind: number, num: x}
}

// Text makes a Value of s.
func Text(s string) Value { return Value{kind: text, text: s} }

// Bool makes a Value of b.
func Bool(b bool) Value {
	v := Value{kind: boolean}
	if b {
		v.num = 1
	}
	return v
}

// Present reports whether v was measured.
func (v Value) Present() bool { return v.kind != absent }

// Float returns the number in v, and whether it is one.
func (v Value) Float() (float64, bool) { return v.num, v.kind == number }

// String returns v for people.
func (v Value) String() string {
	if v.kind == text {
		return v.text
	}
	return string(v.appendJSON(nil))
}

func (v Value) appendJSON(b []byte) []byte {
	switch v.kind {
	case number:
		return strconv.AppendFloat(b, v.num, 'f', -1, 64)
	case text:
		return appendString(b, v.text)
	case boolean:
		return strconv.AppendBool(b, v.num != 0)
	default:
		return append(b, "null"...)
	}
}

// MarshalJSON implements json.Marshaler.
func (v Value) MarshalJSON() ([]byte, error) { return v.appendJSON(nil), nil }

func appendString(b []byte, s string) []byte {
	if isPlain(s) {
		return append(append(append(b, '"'), s...), '"')
	}
	q, err := json.Marshal(s) // a string always marshals; bad UTF-8 becomes U+FFFD
	if err != nil {
		return append(b, `""`...)
	}
	return append(b, q...)
}

// isPlain tells a text that JSON takes as it is, as names and ids are.
func isPlain(s string) bool {
	for _, c := range []byte(s) {
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// Field is a named value. Name is a name of the signal table.
type Field struct {
	Name  string
	Value Value
}

// Reading is what one source measured at one moment: the values of one answer
// of the car, or one fix of the receiver.
type Reading struct {
	// Arrived is the time since boot at which the last byte came in.
	Arrived time.Duration
	// FixTime is the receiver's own time of fix, UTC. Zero for readings that
	// only our clock can stamp.
	FixTime time.Time
	Fields  []Field
}

// Number is the number under name; ok is false where there is none.
func (r Reading) Number(name string) (x float64, ok bool) {
	for _, f := range r.Fields {
		if f.Name == name {
			return f.Value.Float()
		}
	}
	return 0, false
}

// Add appends the number x under name with the decimals of the signal table.
// A number that is not finite or not within the table's range is refused: Add
// returns false.
func (r *Reading) Add(name string, x float64) bool {
	s, ok := signalByName[name]
	return ok && r.AddTo(*s, x)
}

// AddTo appends the number x under a signal that need not be in the table, with
// its decimals and within its range, as Add does.
func (r *Reading) AddTo(s Signal, x float64) bool {
	v := Number(x, s.Digits) // before the range: sums in binary may be off by a hair
	if !v.Present() || v.num < s.Min || v.num > s.Max {
		return false
	}
	r.Fields = append(r.Fields, Field{s.Name, v})
	return true
}

// AddText appends the text s under name; an empty text is nothing and left out.
func (r *Reading) AddText(name, s string) {
	if s != "" {
		r.Fields = append(r.Fields, Field{name, Text(s)})
	}
}

// AppendSample appends r as one flat JSON object with the time t, as it stands
// in a batch and as `telemetryd decode` prints it. A zero t is left out.
func (r *Reading) AppendSample(b []byte, t time.Time) []byte {
	return appendSample(b, t, -1, r.Fields)
}

// timeFormat is RFC 3339 with milliseconds, UTC.
const timeFormat = "2006-01-02T15:04:05.000Z"

// FormatTime writes t as every payload does: UTC, milliseconds.
func FormatTime(t time.Time) string { return t.UTC().Format(timeFormat) }

// appendSample writes one sample. uptime < 0 leaves `uptime_ms` out.
func appendSample(b []byte, t time.Time, uptime time.Duration, fields []Field) []byte {
	b = append(b, '{')
	if !t.IsZero() {
		b = append(b, `"t":"`...)
		b = t.UTC().AppendFormat(b, timeFormat)
		b = append(b, `",`...)
	}
	if uptime >= 0 {
		b = append(b, `"uptime_ms":`...)
		b = strconv.AppendInt(b, uptime.Milliseconds(), 10)
		b = append(b, ',')
	}
	for _, f := range fields {
		if !f.Value.Present() {
			continue
		}
		b = appendString(b, f.Name)
		b = append(b, ':')
		b = f.Value.appendJSON(b)
		b = append(b, ',')
	}
	if b[len(b)-1] == ',' {
		b = b[:len(b)-1]
	}
	return append(b, '}')
}
