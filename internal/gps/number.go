package gps

import (
	"math"
	"time"
)

// The grammar of NMEA 0183's fields, kept stricter than strconv's, which takes
// "NaN", "Inf", "1e3" and "0x1p3" for numbers.

// maxDigits bounds a number: no receiver sends more, and within it nothing
// overflows.
const maxDigits = 18

// isNumber reports whether s is digits with at most one point; a sign is allowed
// only if signed.
func isNumber(s string, signed bool) bool {
	if signed && s != "" && (s[0] == '-' || s[0] == '+') {
		s = s[1:]
	}
	digits, points := 0, 0
	for i := range len(s) {
		switch {
		case isDigit(s[i]):
			digits++
		case s[i] == '.':
			points++
		default:
			return false
		}
	}
	return digits > 0 && digits <= maxDigits && points <= 1
}

// isDigits reports whether s is n digits or, for n = 0, up to maxDigits of them.
func isDigits(s string, n int) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return len(s) > 0 && len(s) <= maxDigits && (n == 0 || len(s) == n)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// checkTime checks hhmmss or hhmmss.sss. Second 60 is a leap second.
func checkTime(s string) Reason {
	if len(s) < 6 || !isDigits(s[:6], 6) || len(s) > 6 && s[6] != '.' || !isNumber(s, false) {
		return BadNumber
	}
	if s[:2] > "23" || s[2:4] > "59" || s[4:6] > "60" {
		return OutOfRange
	}
	return ""
}

// checkCoordinate checks ddmm.mmm with a hemisphere, where degrees is the number
// of digits of the whole degrees, 2 for a latitude and 3 for a longitude.
func checkCoordinate(s, hemisphere string, degrees int, hemispheres string) Reason {
	whole := degrees + 2
	if len(s) < whole || !isDigits(s[:whole], whole) || len(s) > whole && s[whole] != '.' || !isNumber(s, false) {
		return BadNumber
	}
	if len(hemisphere) != 1 || hemisphere[0] != hemispheres[0] && hemisphere[0] != hemispheres[1] {
		return OutOfRange
	}
	limit := "9000"
	if degrees == 3 {
		limit = "18000"
	}
	if s[degrees] > '5' || s[:whole] > limit {
		return OutOfRange
	}
	return ""
}

// day returns the day at 0:00 UTC, and false for one that no calendar has or no
// GNSS receiver can mean: GPS began in 1980.
func day(year, month, d int) (time.Time, bool) {
	t := time.Date(year, time.Month(month), d, 0, 0, 0, 0, time.UTC)
	return t, year >= 1980 && year < 2200 && t.Year() == year && int(t.Month()) == month && t.Day() == d
}

// value is a number that may not have been sent.
type value struct {
	x  float64
	ok bool
}

// known makes a value of x if the field it was read from is not empty: go-nmea
// reads an empty field as 0.
func known(x float64, field string) value {
	return value{x, field != "" && !math.IsNaN(x) && !math.IsInf(x, 0)}
}

// or is v, or w if v was not sent.
func (v value) or(w value) value {
	if v.ok {
		return v
	}
	return w
}

// within reports whether v is in the range, if it was sent at all.
func (v value) within(low, high float64) bool { return !v.ok || v.x >= low && v.x <= high }
