package gps

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// What gpsd says: lines of JSON, each an object with a class (gpsd_json(5)). Only
// the classes and fields that tell of a fix are read; others may come and go with
// gpsd's versions.

// maxReport bounds a line. gpsd's own bound is 10240 characters (its
// GPS_JSON_RESPONSE_MAX); what is longer is not gpsd.
const maxReport = 64 << 10

// report is one line.
type report struct {
	Class  string `json:"class"`
	Device string `json:"device"` // that a TPV or SKY is of

	// TPV: time, position, velocity.
	Mode   int      `json:"mode"` // 0 and 1 none, 2 and 3 dimensions
	Time   string   `json:"time"` // of the fix, UTC; missing until the date is known
	Lat    *float64 `json:"lat"`  // degrees
	Lon    *float64 `json:"lon"`
	AltMSL *float64 `json:"altMSL"` // metres above mean sea level
	Alt    *float64 `json:"alt"`    // the same before gpsd 3.20
	Speed  *float64 `json:"speed"`  // m/s
	Track  *float64 `json:"track"`  // degrees from true north
	// By gpsd's own clock, in seconds, where timing was asked for: when it reported, and
	// when the receiver's cycle began; 0 while it does not know.
	Reported float64 `json:"rtime"`
	Began    float64 `json:"sor"`

	// SKY: satellites.
	HDOP       *float64    `json:"hdop"`
	Used       *float64    `json:"uSat"` // since gpsd 3.21
	Satellites []satellite `json:"satellites"`

	// VERSION, DEVICES and DEVICE.
	Release   string          `json:"release"`
	Devices   []deviceReport  `json:"devices"`
	Path      string          `json:"path"`
	Activated json.RawMessage `json:"activated"` // 0: closed
}

type satellite struct {
	Used bool `json:"used"`
}

type deviceReport struct {
	Path string `json:"path"`
}

// closed reports whether a DEVICE tells that gpsd has closed it.
func (r *report) closed() bool { return string(r.Activated) == "0" }

// classes are those that are read.
var classes = map[string]bool{"VERSION": true, "DEVICES": true, "DEVICE": true, "TPV": true, "SKY": true}

// parseReport reads a line. relevant is false for a class that tells nothing here.
func parseReport(line []byte) (r report, relevant bool, why Reason) {
	if err := json.Unmarshal(line, &r); err != nil {
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); !ok {
			return report{}, false, NotJSON
		}
		if classes[r.Class] {
			return report{}, false, BadNumber
		}
		return report{}, false, ""
	}
	return r, classes[r.Class], ""
}

// epoch is what a TPV says, without the time. refused tells why nothing of it is to
// be believed.
func (r *report) epoch() (e epoch, why Reason) {
	if r.Mode != 2 && r.Mode != 3 || r.Lat == nil || r.Lon == nil {
		return e, ""
	}
	e.position, e.latitude, e.longitude, e.mode = true, *r.Lat, *r.Lon, r.Mode
	e.altitude = sent(r.AltMSL).or(sent(r.Alt))
	e.speed, e.course = sent(r.Speed), sent(r.Track)
	e.speed.x *= 3.6 // km/h
	ok := e.latitude >= -90 && e.latitude <= 90 && e.longitude >= -180 && e.longitude <= 180 &&
		e.speed.within(0, 10000) && e.course.within(0, 360) && e.altitude.within(-1000, 100000)
	if !ok {
		return epoch{}, OutOfRange
	}
	return e, ""
}

// fixTime is when the fix of a TPV was.
func (r *report) fixTime(build time.Time) (time.Time, Reason) {
	if r.Time == "" {
		return time.Time{}, NoTime
	}
	t, err := time.Parse(time.RFC3339Nano, r.Time)
	if err != nil {
		return time.Time{}, BadDate
	}
	t = t.UTC().Round(time.Millisecond)
	today := t.Truncate(24 * time.Hour)
	if _, ok := day(t.Year(), int(t.Month()), t.Day()); !ok {
		return time.Time{}, BadDate
	}
	d, ok := unroll(today, build)
	if !ok {
		return time.Time{}, BadDate
	}
	return t.Add(d.Sub(today)), ""
}

// behind is how long before the TPV the first byte of the receiver's cycle had come to
// gpsd; 0 if it does not tell.
func (r *report) behind() time.Duration {
	if s := r.Reported - r.Began; r.Began > 0 && s > 0 && s < gpsdError.Seconds() {
		return time.Duration(s * float64(time.Second))
	}
	return 0
}

// sky is what a SKY says. gpsd sends several of one epoch; some tell hdop only.
func (r *report) sky() (hdop, satellites value) {
	if hdop = sent(r.HDOP); hdop.ok {
		hdop.ok = hdop.x > 0 && hdop.x < 90 // as of NMEA
	}
	if satellites = sent(r.Used); !satellites.ok && r.Satellites != nil {
		satellites.ok = true
		for _, s := range r.Satellites {
			if s.Used {
				satellites.x++
			}
		}
	}
	satellites.ok = satellites.ok && satellites.x >= 0 && satellites.x <= 255
	return hdop, satellites
}

// sent makes a value of a number that may be missing. JSON has no NaN.
func sent(x *float64) value {
	if x == nil {
		return value{}
	}
	return value{*x, true}
}

// lines cuts bytes into lines, of maxReport at most.
type lines struct {
	line    []byte
	tooLong bool // drops until the end of the line
}

// push takes bytes and hands over each whole line, without its end; what is too long
// is handed to refused in part.
func (l *lines) push(data []byte, take, refused func(line []byte)) {
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		piece := data
		if end >= 0 {
			piece = data[:end]
		}
		if !l.tooLong && len(l.line)+len(piece) > maxReport {
			refused(append(l.line, piece[:min(len(piece), shownMost)]...))
			l.tooLong, l.line = true, nil
		}
		if !l.tooLong {
			l.line = append(l.line, piece...)
		}
		if end < 0 {
			return
		}
		if line := bytes.TrimSpace(l.line); len(line) > 0 {
			take(line)
		}
		l.line, l.tooLong = l.line[:0], false
		data = data[end+1:]
	}
}

// shown is the beginning of a line, for the log.
func shown(line []byte) string {
	return strings.ToValidUTF8(string(line[:min(len(line), shownMost)]), "?")
}

const shownMost = 200
