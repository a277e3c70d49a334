package gps

import "sync/atomic"

// Reason says why something the receiver sent did not become part of a fix. It is
// a label of a metric.
type Reason string

// The reasons for refusing bytes, sentences and epochs.
const (
	// Noise: a byte that NMEA 0183 does not allow, within a sentence.
	Noise Reason = "noise"
	// TooLong: a sentence of more than 256 characters.
	TooLong Reason = "too_long"
	// CutOff: another sentence began, or the input ended, before this one's end.
	CutOff Reason = "cut_off"
	// NoChecksum: a sentence that does not end in * and two hexadecimal digits.
	NoChecksum Reason = "no_checksum"
	// WrongChecksum: the checksum is not that of the sentence.
	WrongChecksum Reason = "wrong_checksum"
	// FieldCount: fewer or more fields than this type of sentence can have.
	FieldCount Reason = "field_count"
	// BadNumber: a field that should be a number is none.
	BadNumber Reason = "bad_number"
	// OutOfRange: a time, date, position or value that cannot be.
	OutOfRange Reason = "out_of_range"
	// Unreadable: go-nmea refused the sentence.
	Unreadable Reason = "unreadable"
	// NoTime: a valid position without a time of day.
	NoTime Reason = "no_time"
	// NoDate: an epoch with a position before the date is known.
	NoDate Reason = "no_date"
	// BadDate: a date that is none, of an RMC whose other fields count, or an epoch
	// whose date cannot be, even allowing for week rollovers.
	BadDate Reason = "bad_date"
	// Coasting: an epoch whose only position was computed from fewer than three
	// satellites.
	Coasting Reason = "coasting"
	// NotNMEA: input that holds no beginning of a sentence at all.
	NotNMEA Reason = "not_nmea"
	// NotJSON: a line of gpsd that is no JSON object.
	NotJSON Reason = "not_json"
	// Frozen: a fix whose time, or on the move whose position, is that of those before.
	Frozen Reason = "frozen"
	// Jumped: a fix at a place that no car can have reached since the one before.
	Jumped Reason = "jumped"
	// Withheld: more of a fix that was kept back.
	Withheld Reason = "withheld"
)

var reasons = [...]Reason{
	Noise, TooLong, CutOff, NoChecksum, WrongChecksum, FieldCount, BadNumber,
	OutOfRange, Unreadable, NoTime, NoDate, BadDate, Coasting, NotNMEA,
	NotJSON, Frozen, Jumped, Withheld,
}

// Counters counts what came and what was dropped. The zero value is ready; it is
// safe for concurrent use and never goes back.
type Counters struct {
	sentences, fixes atomic.Uint64
	drops            [len(reasons)]atomic.Uint64
}

// Sentences is how many sentences with a good checksum came, of any type.
func (c *Counters) Sentences() uint64 { return c.sentences.Load() }

// Fixes is how many epochs became a fix.
func (c *Counters) Fixes() uint64 { return c.fixes.Load() }

// Drops is how much was refused, by reason; every reason is in it.
func (c *Counters) Drops() map[Reason]uint64 {
	m := make(map[Reason]uint64, len(reasons))
	for i, r := range reasons {
		m[r] = c.drops[i].Load()
	}
	return m
}

func (c *Counters) drop(why Reason) {
	for i, r := range reasons {
		if r == why {
			c.drops[i].Add(1)
			return
		}
	}
}
