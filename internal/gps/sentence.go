package gps

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/adrianmo/go-nmea"
)

// sentence is what one sentence says of a fix. What it does not say, or says of a
// fix it calls invalid, is absent.
type sentence struct {
	address string // talker and type, "GPRMC"
	line    string

	timed bool
	time  time.Duration // since 0:00 UTC; 24 h in a leap second
	day   time.Time     // zero without a date
	rmc   bool          // an RMC that is valid

	badDate bool // an RMC whose date is none; what else it says stands

	position            bool
	latitude, longitude float64 // degrees, north and east positive
	coasting            bool    // computed from fewer than three satellites

	speed, course  value // km/h; degrees from true north
	altitude, hdop value // metres above mean sea level
	satellites     value // used
	allSystems     bool  // satellites counts every system (GNS)
	mode           int   // 2 or 3 dimensions by GSA; 0 when it does not say
	gsaHDOP        value // hdop by GSA
}

// refusal is the error of a sentence that is refused.
type refusal struct {
	why Reason
	err error
}

func (r refusal) Error() string {
	if r.err == nil {
		return string(r.why)
	}
	return fmt.Sprintf("%s: %v", r.why, r.err)
}

func (r refusal) Unwrap() error { return r.err }

// form is what the fields of a type of sentence may be. Only the fields it names
// reach go-nmea, padded or cut to full.
type form struct {
	min, full, max int    // counts of fields
	time           int    // index of the time, -1 for none
	position       int    // index of the latitude, -1 for none
	unsigned       []int  // numbers without a sign
	signed         []int  // numbers with or without one
	whole          []int  // numbers without a point
	text           []int  // other fields that are needed
	status         int    // index of what tells valid from invalid, -1 for none
	known          string // the status characters that go-nmea takes
	faa            int    // index of the mode indicator where it counts, 0 for none
}

// forms is NMEA 0183 as real receivers speak it. GSA: the Navior CH-4701 has 24
// satellites in place of 12.
var forms = map[string]*form{
	"RMC": {min: 9, full: 11, max: 14, time: 0, position: 2, unsigned: []int{6, 7}, text: []int{8}, status: 1, known: "AV"},
	"GGA": {min: 9, full: 14, max: 16, time: 0, position: 1, unsigned: []int{7}, whole: []int{6}, signed: []int{8}, text: []int{9}, status: 5, known: "0123456"},
	"GNS": {min: 9, full: 12, max: 14, time: 0, position: 1, unsigned: []int{7}, whole: []int{6}, signed: []int{8}, status: 5, known: "NADPRFEMS"},
	"GLL": {min: 6, full: 6, max: 8, time: 4, position: 0, status: 5, known: "AV", faa: 6},
	"VTG": {min: 6, full: 8, max: 10, time: -1, position: -1, unsigned: []int{0, 4, 6}, text: []int{1, 5, 7}, status: -1, faa: 8},
	"GSA": {min: 2, full: 17, max: 31, time: -1, position: -1, unsigned: []int{15}, text: []int{1}, status: -1},
	"ZDA": {min: 4, full: 6, max: 8, time: 0, position: -1, whole: []int{1, 2, 3}, status: -1},
}

// parser reads sentences with go-nmea. It is not safe for concurrent use.
type parser struct {
	nmea   nmea.SentenceParser
	form   *form
	status string // before what go-nmea refuses was blanked
	faa    string // mode indicator of a VTG or GLL
	date   string // of an RMC
}

func newParser() *parser {
	p := &parser{}
	p.nmea.CheckCRC = func(nmea.BaseSentence, string) error { return nil } // checked did
	p.nmea.OnBaseSentence = p.repair
	return p
}

// parse reads a line whose checksum is good. relevant is false for a type that
// tells nothing of a fix; err is a refusal.
func (p *parser) parse(line string) (s sentence, relevant bool, err error) {
	address, _, _ := strings.Cut(line[1:], ",")
	if len(address) != 5 || address[0] == 'P' { // P starts a maker's own sentence
		return s, false, nil
	}
	if p.form = forms[address[2:]]; p.form == nil {
		return s, false, nil
	}
	defer func() {
		if r := recover(); r != nil { // go-nmea panics on sentences of other types
			s, err = sentence{}, refusal{Unreadable, fmt.Errorf("go-nmea: %v", r)}
		}
	}()
	parsed, err := p.nmea.Parse(line)
	if err != nil {
		if _, ok := errors.AsType[refusal](err); !ok {
			err = refusal{Unreadable, err}
		}
		return s, true, err
	}
	s = sentence{address: address, line: line}
	if err = p.fill(&s, parsed); err == nil && !s.plausible() {
		err = refusal{why: OutOfRange}
	}
	return s, true, err
}

// repair is called by go-nmea with the fields of a sentence before it reads them.
func (p *parser) repair(b *nmea.BaseSentence) error {
	f := p.form
	n := len(b.Fields)
	if n < f.min || n > f.max {
		return refusal{why: FieldCount}
	}
	p.faa = ""
	if f.faa > 0 && n > f.faa {
		p.faa = strings.TrimSpace(b.Fields[f.faa])
	}
	from := b.Fields
	if b.Type == nmea.TypeGSA && n > f.full+1 {
		from = append(append([]string(nil), from[:14]...), from[26:]...)
	}
	to := make([]string, f.full)
	take := func(i int) string {
		if i < len(from) {
			to[i] = strings.TrimSpace(from[i])
		}
		return to[i]
	}
	b.Fields = to
	if f.time >= 0 {
		if s := take(f.time); s != "" {
			if why := checkTime(s); why != "" {
				return refusal{why: why}
			}
		}
	}
	if f.status >= 0 {
		p.status = take(f.status)
		if strings.Trim(p.status, f.known) != "" {
			to[f.status] = ""
		}
		if !p.valid(b.Type) {
			return nil // nothing else is to be believed
		}
	}
	if err := f.takeValues(take); err != nil {
		return err
	}
	if b.Type == nmea.TypeRMC {
		if p.date = to[8]; !isDigits(p.date, 6) { // Telit's HE910 prints a year of -1
			to[8] = ""
		}
	}
	return nil
}

func (f *form) takeValues(take func(int) string) error {
	if i := f.position; i >= 0 {
		lat, ns, lon, ew := take(i), take(i+1), take(i+2), take(i+3)
		if lat+lon != "" {
			if why := checkCoordinate(lat, ns, 2, "NS"); why != "" {
				return refusal{why: why}
			}
			if why := checkCoordinate(lon, ew, 3, "EW"); why != "" {
				return refusal{why: why}
			}
		}
	}
	for _, i := range f.text {
		take(i)
	}
	for _, numbers := range []struct {
		fields []int
		is     func(string) bool
	}{
		{f.unsigned, func(s string) bool { return isNumber(s, false) }},
		{f.signed, func(s string) bool { return isNumber(s, true) }},
		{f.whole, func(s string) bool { return isDigits(s, 0) }},
	} {
		for _, i := range numbers.fields {
			if s := take(i); s != "" && !numbers.is(s) {
				return refusal{why: BadNumber}
			}
		}
	}
	return nil
}

// valid tells whether the status of this type of sentence means a fix.
func (p *parser) valid(typ string) bool {
	switch typ {
	case nmea.TypeGGA:
		return isDigits(p.status, 1) && p.status != "0"
	case nmea.TypeGNS:
		return strings.Trim(p.status, "N") != ""
	case nmea.TypeGLL: // NMEA 2.3: N is "data not valid", whatever the status says
		return p.status == "A" && p.faa != nmea.FAAModeDataNotValid
	default:
		return p.status == "A"
	}
}

// fill takes from what go-nmea read what was really sent.
func (p *parser) fill(s *sentence, parsed nmea.Sentence) error {
	switch m := parsed.(type) {
	case nmea.RMC:
		s.setTime(m.Time)
		if !p.valid(nmea.TypeRMC) {
			return nil
		}
		s.rmc = true
		s.setPosition(m.Latitude, m.Longitude, m.Fields[2])
		s.speed, s.course = known(m.Speed*kmhPerKnot, m.Fields[6]), known(m.Course, m.Fields[7])
		s.setShortDate(p.date, m.Date)
	case nmea.GGA:
		s.setTime(m.Time)
		if !p.valid(nmea.TypeGGA) {
			return nil
		}
		s.setPosition(m.Latitude, m.Longitude, m.Fields[1])
		s.satellites = known(float64(m.NumSatellites), m.Fields[6])
		s.coasting = s.satellites.ok && s.satellites.x < 3
		s.hdop = dilution(m.HDOP, m.Fields[7])
		if u := m.Fields[9]; u == "M" || u == "" {
			s.altitude = known(m.Altitude, m.Fields[8])
		}
	case nmea.GNS:
		s.setTime(m.Time)
		if !p.valid(nmea.TypeGNS) {
			return nil
		}
		s.setPosition(m.Latitude, m.Longitude, m.Fields[1])
		s.satellites, s.allSystems = known(float64(m.SVs), m.Fields[6]), true
		s.hdop = dilution(m.HDOP, m.Fields[7])
		s.altitude = known(m.Altitude, m.Fields[8])
	case nmea.GLL:
		s.setTime(m.Time)
		if p.valid(nmea.TypeGLL) {
			s.setPosition(m.Latitude, m.Longitude, m.Fields[0])
		}
	case nmea.VTG:
		return p.fillVTG(s, m)
	case nmea.GSA:
		switch m.FixType {
		case nmea.Fix2D:
			s.mode = 2
		case nmea.Fix3D:
			s.mode = 3
		}
		s.gsaHDOP = dilution(m.HDOP, m.Fields[15])
	case nmea.ZDA:
		s.setTime(m.Time)
		return s.setLongDate(m)
	}
	return nil
}

const kmhPerKnot = 1.852

func (p *parser) fillVTG(s *sentence, m nmea.VTG) error {
	t, n, k := m.Fields[1], m.Fields[5], m.Fields[7]
	if t != "" && t != "T" || n != "" && n != "N" || k != "" && k != "K" {
		return refusal{why: FieldCount} // the form of NMEA 0183 before 2.0, or a splice
	}
	if p.faa == nmea.FAAModeDataNotValid {
		return nil
	}
	s.speed = known(m.GroundSpeedKnots*kmhPerKnot, m.Fields[4]).or(known(m.GroundSpeedKPH, m.Fields[6]))
	s.course = known(m.TrueTrack, m.Fields[0])
	return nil
}

// plausible tells values that can be from those that only a damaged sentence has.
func (s *sentence) plausible() bool {
	return s.speed.within(0, 10000) && s.course.within(0, 360) &&
		s.altitude.within(-1000, 100000) && s.satellites.within(0, 255)
}

// dilution is hdop; 0.00, 99.0 and 99.99 are how receivers write "unknown".
func dilution(x float64, field string) value {
	v := known(x, field)
	v.ok = v.ok && x > 0 && x < 90
	return v
}

func (s *sentence) setTime(t nmea.Time) {
	s.timed = t.Valid
	s.time = time.Duration(t.Hour)*time.Hour + time.Duration(t.Minute)*time.Minute +
		time.Duration(t.Second)*time.Second + time.Duration(t.Millisecond)*time.Millisecond // may be 1000
}

func (s *sentence) setPosition(lat, lon float64, field string) {
	s.position, s.latitude, s.longitude = field != "", lat, lon
}

// setShortDate takes an RMC's ddmmyy; years 80 to 99 are of the last century. A
// receiver that does not know it sends nothing, zeros or what is no date; its
// position and speed are no worse for that.
func (s *sentence) setShortDate(field string, d nmea.Date) {
	if field == "" || field == "000000" {
		return
	}
	year := 2000 + d.YY
	if d.YY >= 80 {
		year = 1900 + d.YY
	}
	s.badDate = !d.Valid || s.setDay(year, d.MM, d.DD) != nil
}

// setLongDate takes a ZDA's date. A receiver that does not know it yet sends
// nothing or zeros.
func (s *sentence) setLongDate(m nmea.ZDA) error {
	if m.Fields[1] == "" || m.Fields[2] == "" || m.Fields[3] == "" || m.Day == 0 && m.Month == 0 {
		return nil
	}
	return s.setDay(int(m.Year), int(m.Month), int(m.Day))
}

func (s *sentence) setDay(year, month, d int) error {
	t, ok := day(year, month, d)
	if !ok {
		return refusal{why: OutOfRange}
	}
	s.day = t
	return nil
}
