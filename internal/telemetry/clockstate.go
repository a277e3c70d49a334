package telemetry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"
)

// ClockState is what a Clock keeps over restarts and power cuts.
type ClockState struct {
	Format   int             `json:"format"`    // always 1
	LastGood time.Time       `json:"last_good"` // the last UTC that was known; it is later now
	Boots    map[string]Boot `json:"boots"`     // by boot id, as long as the buffer may hold something of them
}

// Boot is what is known of one boot.
type Boot struct {
	Zero    time.Time `json:"uptime_zero,omitzero"` // UTC of time since boot zero; zero while unknown
	Quality Quality   `json:"clock,omitempty"`
	ErrorMS int64     `json:"error_ms,omitempty"`
	SeenMS  int64     `json:"seen_ms,omitempty"` // time since boot at which the source said so

	// Of what was sealed with a guessed time: since when, and the zero for it, as it was
	// when it became known. Time since boot drifts from UTC: later zeros are not better.
	Guessed      bool      `json:"guessed,omitempty"`
	GuessedMS    int64     `json:"guessed_ms,omitempty"`
	GuessZero    time.Time `json:"guess_zero,omitzero"`
	GuessClock   Quality   `json:"guess_clock,omitempty"`
	GuessErrorMS int64     `json:"guess_error_ms,omitempty"`
	LearnedMS    int64     `json:"learned_ms,omitempty"`
	ToldZero     time.Time `json:"told_zero,omitzero"` // what a durable clock_correction says
}

func milliseconds(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

func (b *Boot) know(k known) {
	b.Zero, b.Quality, b.ErrorMS, b.SeenMS = k.zero, k.quality, k.err.Milliseconds(), k.seen.Milliseconds()
}

// isBetter reports whether the zero for guesses is missing, or wrong by more than errors
// and drift explain; or, before it was told, known better. A receiver is late only, so
// that two of its zeros share their error.
func (b *Boot) isBetter(k known, up time.Duration) bool {
	if b.GuessZero.IsZero() {
		return true
	}
	own := milliseconds(b.GuessErrorMS)
	if b.ToldZero.IsZero() && b.guessError(k, up) < own {
		return true
	}
	explained := max(own, k.err)
	if b.GuessClock != k.quality {
		explained = own + k.err
	}
	return k.zero.Sub(b.GuessZero).Abs() > explained+drift(up-milliseconds(b.LearnedMS))
}

// learn takes k as the zero for guesses.
func (b *Boot) learn(k known, up time.Duration) {
	b.GuessZero, b.GuessClock = k.zero, k.quality
	b.GuessErrorMS, b.LearnedMS = b.guessError(k, up).Milliseconds(), up.Milliseconds()
}

// guessError is how far k may be off at the time of the first guess.
func (b *Boot) guessError(k known, up time.Duration) time.Duration {
	return (k.err + drift(up-milliseconds(b.GuessedMS))).Truncate(time.Millisecond)
}

const (
	clockFormat = 1
	// mostBoots bounds what is kept; those that are known longest go.
	mostBoots = 1000
)

func (s *ClockState) clone() ClockState {
	c := *s
	c.Format = clockFormat
	if c.Boots = maps.Clone(s.Boots); c.Boots == nil {
		c.Boots = map[string]Boot{}
	}
	return c
}

// keepOnly drops all boots but one, and reports whether there were others.
func (s *ClockState) keepOnly(id string) bool {
	n := len(s.Boots)
	maps.DeleteFunc(s.Boots, func(other string, _ Boot) bool { return other != id })
	return len(s.Boots) < n
}

// LoadClock reads the state kept at path. A file that is missing, damaged or of a
// format that is not known is an empty state: what it told is guessed anew; the error
// says why, nil for a missing one.
func LoadClock(path string) (ClockState, error) {
	var s ClockState
	b, err := LoadKept(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s.clone(), nil
	}
	if err != nil {
		return s.clone(), err
	}
	if err = json.Unmarshal(b, &s); err == nil && s.Format != clockFormat {
		err = fmt.Errorf("format %d, this version knows %d", s.Format, clockFormat)
	}
	if err != nil {
		return (&ClockState{}).clone(), fmt.Errorf("read %s: %w", path, err)
	}
	return s.clone(), nil
}

// SaveClock writes the state to path, whole or not at all; it is durable when
// SaveClock returns.
func SaveClock(path string, s ClockState) error {
	for len(s.Boots) > mostBoots {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(s.Boots)), func(a, b string) int {
			x, y := s.Boots[a].Zero, s.Boots[b].Zero
			switch { // one whose time is not known is this one
			case x.IsZero():
				return 1
			case y.IsZero():
				return -1
			}
			return x.Compare(y)
		})
		delete(s.Boots, oldest)
	}
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode the clock's state: %w", err)
	}
	return SaveKept(path, b)
}
