package obd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"telemetryd/internal/telemetry"
)

const (
	// longestLine bounds a line of a recording; what is longer is no answer.
	longestLine = 1024
	// blockLines bounds how much is looked at together when no prompt comes.
	blockLines = 256
)

// Decode reads what an adapter sent, as recorded: lines ended by CR or LF, prompts,
// echoes, headers on or off, spaces on or off. It calls reading for each answer that
// holds values, without a time, and dropped for each line that gave none. Where
// several ECUs answer, the engine's speaks. It ends with r, or with the
// first error of reading or dropped.
func Decode(r io.Reader, reading func(telemetry.Reading) error, dropped func(reason, text string) error) error {
	d := &decoder{reading: reading, report: dropped}
	d.p = parser{answer: &d.a}
	in := bufio.NewReader(r)
	var line []byte
	for count := 0; ; {
		b, err := in.ReadByte()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err == nil && b != '\r' && b != '\n' && b != '>' {
			if len(line) <= longestLine {
				line = append(line, b)
			}
			continue
		}
		for text := range lines(line) {
			d.line(text)
			count++
		}
		line = line[:0]
		if b == '>' || err != nil {
			d.p.finish()
			d.p.open, d.p.loose = nil, nil
		}
		if b == '>' || err != nil || count >= blockLines {
			count = 0
			if err := d.flush(); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

type decoder struct {
	p       parser
	a       Answer
	heard   []string // ECUs of the engine that have spoken
	reading func(telemetry.Reading) error
	report  func(reason, text string) error
	failed  error // of report
	volts   []float64
}

func (d *decoder) dropped(reason, text string) {
	if d.failed == nil {
		d.failed = d.report(reason, text)
	}
}

// line takes one line; what is no answer of a car is recognised first.
func (d *decoder) line(text string) {
	if len(text) > longestLine {
		d.dropped("line too long", text[:40]+"...")
		return
	}
	if volts, ok := parseVolts(text); ok {
		d.volts = append(d.volts, volts)
		return
	}
	if text == "OK" || isRequest(text) {
		return
	}
	d.p.line(text)
}

// isRequest recognises the echo of what was sent: an AT command, or a request of
// modes 01 to 0A in hex with or without a count digit.
func isRequest(text string) bool {
	digits := strings.ReplaceAll(text, " ", "")
	if strings.HasPrefix(digits, "AT") {
		return true
	}
	return len(digits) >= 2 && len(digits) <= 2+2*maxPIDs+1 && len(digits) != 3 && digits[0] == '0' && digits[1] >= '1' && digits[1] <= 'A' &&
		(digits[1] <= '9' || digits[1] == 'A') && strings.IndexFunc(digits, notHex) < 0
}

// flush decodes the messages so far.
func (d *decoder) flush() error {
	for _, t := range d.a.Trouble {
		d.dropped(strings.ReplaceAll(string(t.Cause), "_", " "), t.Text)
	}
	ecus := slices.Clone(d.heard)
	for _, m := range d.a.Messages {
		if m.ECU != "" {
			ecus = append(ecus, m.ECU)
		}
		if slices.Contains(engines, m.ECU) && !slices.Contains(d.heard, m.ECU) {
			d.heard = append(d.heard, m.ECU)
		}
	}
	var readings []telemetry.Reading
	for _, m := range d.a.Messages {
		text := fmt.Sprintf("%s %X", m.ECU, m.Data)
		if m.ECU != "" && !slices.Contains(engines, m.ECU) && m.ECU != speaker(ecus) {
			d.dropped("not the engine's ECU", text)
			continue
		}
		if m.Data[0] != 0x41 {
			d.dropped("no current values (mode 01)", text)
			continue
		}
		items, err := split(m.Data, nil)
		if err != nil {
			d.dropped(err.Error(), text)
			continue
		}
		var r telemetry.Reading
		for _, it := range items {
			if err := measure(&r, it, nil); err != nil {
				d.dropped(err.Error(), text)
			}
		}
		if len(r.Fields) > 0 {
			readings = append(readings, r)
		}
	}
	for _, volts := range d.volts {
		var r telemetry.Reading
		if r.Add("battery_voltage_v", volts) {
			readings = append(readings, r)
		} else {
			d.dropped("out of range", fmt.Sprintf("%vV", volts))
		}
	}
	d.a, d.volts = Answer{}, nil
	if d.failed != nil {
		return d.failed
	}
	for _, r := range readings {
		if err := d.reading(r); err != nil {
			return err
		}
	}
	return nil
}
