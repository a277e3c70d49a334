package spool

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzRecovery opens whatever bytes lie in a directory: no panic, no refusal but of the
// format, and never a record whose checksum does not hold.
func FuzzRecovery(f *testing.F) {
	dir := f.TempDir()
	s := open(f, dir, "one", 0)
	for range 5 {
		mustAppend(f, s, Telemetry, "telemetry")
	}
	s.Ack(2)
	s.Close()
	seg, err := os.ReadFile(filepath.Join(dir, segmentName(Telemetry, 1)))
	if err != nil {
		f.Fatal(err)
	}
	acks, err := os.ReadFile(filepath.Join(dir, ackName))
	if err != nil {
		f.Fatal(err)
	}
	gaps, err := os.ReadFile(filepath.Join(dir, gapName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seg[:2048], acks[:200], gaps[:100])
	f.Add(seg[:700], []byte{}, []byte{})
	f.Add([]byte{}, acks, gaps)
	f.Fuzz(func(t *testing.T, seg, acks, gaps []byte) {
		if len(seg) > 1<<16 || len(acks) > 1<<16 || len(gaps) > 1<<16 {
			return
		}
		dir := t.TempDir()
		for name, b := range map[string][]byte{
			"format": []byte("telemetryd spool 1\n"), segmentName(Telemetry, 1): seg, segmentName(Event, 3): seg, ackName: acks, gapName: gaps,
		} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(dir, Options{StreamID: "two"})
		if err != nil {
			return
		}
		defer s.Close()
		r, err := s.Append(Telemetry, []byte("new"))
		if err != nil {
			t.Fatalf("append after damage: %v", err)
		}
		for c := range numClasses {
			for after := uint64(0); ; {
				got, ok, err := s.Next(c, after)
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				if got.LSN > r.LSN || got.LSN == r.LSN && !bytes.Equal(got.Payload, []byte("new")) {
					t.Fatalf("record %d %q after %d", got.LSN, got.Payload, r.LSN)
				}
				after = got.LSN
				s.Ack(got.LSN)
			}
		}
		if err := s.ForgetGaps(s.Gaps()); err != nil {
			t.Fatal(err)
		}
	})
}
