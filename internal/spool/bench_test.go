package spool

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkAppend measures a durable append beside its peer: the same bytes written to
// a growing file and synced.
func BenchmarkAppend(b *testing.B) {
	payload := bytes.Repeat([]byte("x"), 2000)
	b.Run("spool", func(b *testing.B) {
		s := open(b, b.TempDir(), "one", 0)
		b.SetBytes(int64(len(payload)))
		for b.Loop() {
			if _, err := s.Append(Telemetry, payload); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("file", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "f"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		b.SetBytes(int64(len(payload)))
		for b.Loop() {
			if _, err := f.Write(payload); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
