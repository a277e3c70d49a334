package budget

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"telemetryd/internal/telemetry"
)

// months is what the file keeps.
type months struct {
	Format int `json:"format"` // always 1
	Month  Use `json:"month"`
	// Before is the month before: a date that was wrong for a while made it end too soon.
	Before Use `json:"before,omitzero"`
}

const format = 1

// turn makes now part of the month. What cannot be told apart counts as used in this one:
// rather too much than too little.
func (m *months) turn(now time.Time, day int) {
	from, to := monthOf(now, day)
	switch u := &m.Month; {
	case u.From.Equal(from) && u.To.Equal(to):
	case u.From.IsZero(): // counted before the time was known
		u.From, u.To, u.Since = from, to, now.UTC().Truncate(time.Second)
	case !now.Before(u.To):
		m.Before = *u
		m.Month = Use{From: from, To: to, Since: from}
	case m.Before.From.Equal(from) && m.Before.To.Equal(to): // the date was wrong
		b := m.Before
		b.Sent, b.Received = b.Sent+u.Sent, b.Received+u.Received
		m.Month, m.Before = b, Use{}
	default: // the date was wrong, or the plan begins on another day
		u.From, u.To = from, to
		if u.Since.After(now) {
			u.Since = from
		}
	}
}

// load reads the file at path. One that is missing is empty; one that is damaged, too, and
// the error says why.
func load(path string) (m months, err error) {
	b, err := telemetry.LoadKept(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return months{}, nil
	case err != nil:
		return months{}, err
	}
	if err = json.Unmarshal(b, &m); err == nil && m.Format != format {
		err = fmt.Errorf("format %d, this version knows %d", m.Format, format)
	}
	if err != nil {
		return months{}, fmt.Errorf("read %s: %w", path, err)
	}
	return m, nil
}

func (m months) save(path string) error {
	m.Format = format
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode what the month has used: %w", err)
	}
	return telemetry.SaveKept(path, b)
}
