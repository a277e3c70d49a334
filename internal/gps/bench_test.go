package gps

import (
	"bytes"
	"strings"
	"testing"

	"github.com/adrianmo/go-nmea"

	"telemetryd/internal/telemetry"
)

// BenchmarkDecode compares with go-nmea's bare Parse over the same lines.
func BenchmarkDecode(b *testing.B) {
	var stream bytes.Buffer
	for i := range 100 {
		stream.WriteString(second(i))
	}
	in := stream.Bytes()
	lines := strings.Split(strings.TrimSpace(stream.String()), "\r\n")
	b.Run("telemetryd", func(b *testing.B) {
		b.SetBytes(int64(len(in)))
		for b.Loop() {
			n := 0
			err := Decode(bytes.NewReader(in), func(telemetry.Reading) error { n++; return nil }, func(string, string) error { return errStop })
			if err != nil || n != 100 {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("go-nmea", func(b *testing.B) {
		b.SetBytes(int64(len(in)))
		for b.Loop() {
			for _, line := range lines {
				if _, err := nmea.Parse(line); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
