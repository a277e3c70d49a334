package main

import (
	"bufio"
	"fmt"
	"io"
	"os"

	"telemetryd/internal/gps"
	"telemetryd/internal/obd"
	"telemetryd/internal/record"
	"telemetryd/internal/telemetry"
)

type decodeCommand struct {
	OBD decodeOBD `cmd:"" name:"obd" help:"What an ELM327 adapter sent."`
	GPS decodeGPS `cmd:"" name:"gps" help:"What a GPS receiver sent, NMEA 0183."`
}

type recording struct {
	File string `arg:"" help:"What was received, raw or as --record keeps it; - is standard input."`
}

type (
	decodeOBD struct{ recording }
	decodeGPS struct{ recording }
)

type decoder func(r io.Reader, reading func(telemetry.Reading) error, dropped func(reason, text string) error) error

// Run decodes an adapter's bytes.
func (c *decodeOBD) Run(s streams) error { return c.decode(s, obd.Decode) }

// Run decodes a receiver's bytes.
func (c *decodeGPS) Run(s streams) error { return c.decode(s, gps.Decode) }

func (c *recording) decode(s streams, decode decoder) error {
	in := s.in
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return &usageError{err}
		}
		defer f.Close()
		in = f
	}
	out := bufio.NewWriter(s.out)
	defer out.Flush()
	var line []byte
	buffered := bufio.NewReader(in)
	in = buffered
	if first, _ := buffered.Peek(64); record.IsRecording(first) { // what is shorter is none
		in = record.Received(buffered, func(bad error) { fmt.Fprintf(s.err, "telemetryd: left out: %s: %v\n", c.File, bad) })
	}
	err := decode(in, func(r telemetry.Reading) error {
		line = append(r.AppendSample(line[:0], r.FixTime), '\n')
		_, err := out.Write(line)
		return err
	}, func(reason, text string) error {
		_, err := fmt.Fprintf(s.err, "telemetryd: left out (%s): %q\n", reason, text)
		return err
	})
	if err != nil {
		return fmt.Errorf("decode %s: %w", c.File, err)
	}
	return out.Flush()
}
