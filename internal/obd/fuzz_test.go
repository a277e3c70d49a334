package obd

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"telemetryd/internal/telemetry"
)

var recorded = []string{
	"7E8 04 41 0C 1A F8\r\r>", "41 0C 1A F8\r>", "SEARCHING...\r7E8064100BE3FA813\r\r>", "BUS INIT: ...OK\r41 00 BE 3E B8 11\r>",
	"7E8101241010007E500\r7E82103010004000680\r7E822077D0C00000000\r\r>", "014\r0:490201575030\r1:5A5A5A39395A54\r2:53333932313234\r>",
	"48 6B 10 41 0D 33 44\r>", "83F110410D3305\r>", "7F2212\r7F2212\r7E803410D33\r>", "NO DATA\r>", "UNABLE TO CONNECT\r>", "?\r>", "12.6V\r>",
	"\xfc\r\rELM327 v1.5\r>", "41 0C 1A <DATA ERROR\r>", "18DAF11003410D33\r>",
}

// errorWords are those of the data sheet ("Error Messages and Alerts").
var errorWords = []string{"ERROR", "NO DATA", "UNABLE", "BUSY", "BUFFER", "STOPPED", "?", "RESET", "ALERT", "ERR"}

// Whatever an adapter sends: no panic, and only whole answers become messages.
func FuzzAnswer(f *testing.F) {
	for _, r := range recorded {
		f.Add([]byte(r), "010C0D", byte(0))
		f.Add([]byte(r), "010C", byte(CAN11))
	}
	f.Fuzz(func(t *testing.T, raw []byte, request string, bus byte) {
		a := parseAnswer(raw, request, Bus(bus%5))
		for _, m := range a.Messages {
			if len(m.Data) == 0 || len(m.Data) > maxMessage || !isResponse(m.Data[0]) {
				t.Errorf("message %X", m.Data)
			}
			items, err := split(m.Data, []byte{0x0C, 0x0D})
			if err != nil {
				continue
			}
			for _, it := range items {
				if it.pid != 0x0C && it.pid != 0x0D || len(it.data) != width(it.pid) {
					t.Errorf("item %+v of %X", it, m.Data)
				}
			}
		}
		// No value comes from a line that holds an error word.
		var bad []string
		for line := range lines(raw) {
			if slices.ContainsFunc(errorWords, func(w string) bool { return strings.Contains(line, w) }) {
				bad = append(bad, line)
			}
		}
		if a := parseAnswer([]byte(strings.Join(bad, "\r")), request, Bus(bus%5)); len(a.Messages) > 0 {
			t.Errorf("%q gave %+v", bad, a.Messages)
		}
	})
}

// Whatever lies in a recording: no panic, valid JSON, and the same for any chunks.
func FuzzDecode(f *testing.F) {
	for _, r := range recorded {
		f.Add([]byte(r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		decode := func(chunks bool) (out []string) {
			r := iotest.OneByteReader(bytes.NewReader(b))
			if chunks {
				r = bytes.NewReader(b)
			}
			err := Decode(r, func(x telemetry.Reading) error {
				line := x.AppendSample(nil, time.Time{})
				if !json.Valid(line) || len(x.Fields) == 0 {
					t.Errorf("reading %s", line)
				}
				for _, field := range x.Fields {
					s, ok := telemetry.FindSignal(field.Name)
					if v, number := field.Value.Float(); !ok || number && (v < s.Min || v > s.Max) {
						t.Errorf("%s=%v", field.Name, field.Value)
					}
				}
				out = append(out, string(line))
				return nil
			}, func(string, string) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		if one, all := decode(false), decode(true); !slices.Equal(one, all) {
			t.Errorf("byte by byte %v, at once %v", one, all)
		}
	})
}
