package gps

import (
	"bytes"
	"errors"
	"io"
	"time"

	"telemetryd/internal/telemetry"
)

// decoder turns one receiver's bytes into fixes. It is not safe for concurrent
// use.
type decoder struct {
	framer    framer
	parser    *parser
	assembler assembler
	counters  *Counters
	sentences uint64 // with a good checksum
	started   bool   // a $ has come
}

// pause is what separates the cycles of a receiver that rests between them.
const pause = 75 * time.Millisecond

// newDecoder returns a decoder that calls fix for each fix and dropped for each
// thing refused, and counts both. build is explained at Config.BuildDate. A live
// decoder takes silence for the end of an epoch.
func newDecoder(live bool, build time.Time, c *Counters, fix func(telemetry.Reading), dropped func(why Reason, text string)) *decoder {
	d := &decoder{parser: newParser(), counters: c}
	d.assembler = assembler{
		calendar: calendar{build: build},
		fix:      fix,
		fixes:    func() { c.fixes.Add(1) },
		dropped: func(why Reason, text string) {
			c.drop(why)
			dropped(why, text)
		},
	}
	if live {
		d.assembler.cadence = newCadence()
	}
	return d
}

// feed takes the bytes that arrived at arrived.
func (d *decoder) feed(data []byte, arrived time.Duration) {
	d.assembler.quiet(arrived)
	if arrived-d.assembler.heard >= pause {
		d.assembler.burst = arrived
	}
	d.assembler.heard = arrived
	for _, b := range data {
		if b == '$' {
			d.assembler.line = arrived
		}
		switch line, why := d.framer.push(b); {
		case why != "":
			d.assembler.dropped(why, string(line))
		case len(line) > 0:
			d.sentence(line, arrived)
		}
		d.started = d.started || b == '$'
	}
}

// sentence takes a whole line.
func (d *decoder) sentence(line []byte, arrived time.Duration) {
	body, why := checked(line)
	if why != "" {
		d.assembler.dropped(why, string(line))
		return
	}
	d.sentences++
	d.counters.sentences.Add(1)
	s, relevant, err := d.parser.parse(string(body))
	switch {
	case err != nil:
		why := Unreadable
		if r, ok := errors.AsType[refusal](err); ok {
			why = r.why
		}
		d.assembler.dropped(why, string(line))
	case relevant:
		if s.badDate {
			d.assembler.dropped(BadDate, string(line))
		}
		d.assembler.add(&s, arrived)
	}
}

// quiet tells that nothing has come until now.
func (d *decoder) quiet(now time.Duration) { d.assembler.quiet(now) }

// silence is how long to wait for the next bytes before quiet has something to
// do; 0 when it has not.
func (d *decoder) silence() time.Duration {
	if d.assembler.cadence == nil || d.assembler.open == nil {
		return 0
	}
	return d.assembler.cadence.silence
}

// end tells that nothing will come any more.
func (d *decoder) end() {
	if line := d.framer.rest(); len(line) > 0 {
		if bytes.IndexByte(line, '*') < 0 {
			d.assembler.dropped(CutOff, string(line))
		} else {
			d.sentence(line, d.assembler.heard)
		}
	}
	d.assembler.end()
}

// Decode reads recorded NMEA 0183 from r to its end. It calls fix for each fix and
// dropped for each thing refused, with the reason and what is to be seen of it.
// It ends at the first error of r, fix or dropped and returns that.
//
// Dates are taken as recorded: a recording may be older than any build. Readings
// have no Arrived.
func Decode(r io.Reader, fix func(telemetry.Reading) error, dropped func(reason, text string) error) error {
	var failed error
	d := newDecoder(false, time.Time{}, &Counters{},
		func(r telemetry.Reading) {
			if failed == nil {
				failed = fix(r)
			}
		},
		func(why Reason, text string) {
			if failed == nil {
				failed = dropped(string(why), text)
			}
		})
	buf := make([]byte, 32<<10)
	some := false
	for failed == nil {
		n, err := r.Read(buf)
		some = some || n > 0
		d.feed(buf[:n], 0)
		if err == io.EOF {
			d.end()
			if some && !d.started {
				d.assembler.dropped(NotNMEA, "")
			}
			break
		}
		if err != nil {
			d.end()
			if failed == nil {
				failed = err
			}
		}
	}
	return failed
}
