package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
	"telemetryd/ledger"
)

// A batch in any form says what the car said. The subscriber is stock mosquitto_sub,
// which prints payloads in hexadecimal.
func TestForms(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--batch-form", "columns"},
		{"--compress", "gzip"},
		{"--batch-form", "columns", "--compress", "zstd"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			m := newMosquitto(t)
			v := startVehicle(t)
			d := startDaemon(t, m, v, t.TempDir(), args...)
			out, err := exec.CommandContext(t.Context(), "mosquitto_sub", "-h", "127.0.0.1", "-p", fmt.Sprint(m.port), "-W", "30",
				"-t", "vehicles/van-1/telemetry", "-t", "vehicles/van-1/backfill", "-F", "%x", "-C", "10").Output()
			if err != nil {
				t.Fatalf("mosquitto_sub: %v", err)
			}
			d.end(syscall.SIGTERM)
			var ms []message
			for line := range strings.FieldsSeq(string(out)) {
				payload, err := hex.DecodeString(line)
				if err != nil {
					t.Fatal(err)
				}
				plain, err := ledger.Unpack(payload)
				if err != nil {
					t.Fatal(err)
				}
				if compressed := !bytes.Equal(plain, payload); compressed != strings.Contains(t.Name(), "compress") {
					t.Errorf("begins %x", payload[:4])
				}
				ms = append(ms, inRows(t, plain))
			}
			if n := checkSamples(t, ms, v.truth); n < 50 {
				t.Errorf("%d values in %d batches", n, len(ms))
			}
		})
	}
}

// inRows reads a batch of either form.
func inRows(t *testing.T, plain []byte) (m message) {
	t.Helper()
	var columns struct{ Columns map[string][]json.RawMessage }
	if err := json.Unmarshal(plain, &m); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(plain, &columns); err != nil {
		t.Fatal(err)
	}
	for i := range columns.Columns["t"] {
		m.Samples = append(m.Samples, map[string]json.RawMessage{})
		for name, values := range columns.Columns {
			value := values[i]
			if name == "t" {
				var ms int64
				if err := json.Unmarshal(value, &ms); err != nil {
					t.Fatal(err)
				}
				value = fmt.Appendf(nil, "%q", telemetry.FormatTime(time.UnixMilli(ms)))
			}
			if string(value) != "null" {
				m.Samples[i][name] = value
			}
		}
	}
	return m
}
