package publish

import (
	"bytes"
	"compress/gzip"

	"github.com/klauspost/compress/zstd"

	"telemetryd/internal/telemetry"
)

// Form is how batches leave. Events and status are always plain JSON: they are small, and
// people read them.
type Form struct {
	Columns     bool // else rows
	Compression Compression
}

// Compression of a batch; consumers tell by the first bytes: `{`, 1f 8b (RFC 1952) or
// 28 b5 2f fd (RFC 8878).
type Compression string

// The compressions.
const (
	Plain Compression = "none"
	Gzip  Compression = "gzip"
	Zstd  Compression = "zstd"
)

// former brings batches into their form.
type former struct {
	Form
	zstd *zstd.Encoder // where it is asked for
}

func newFormer(f Form) *former {
	b := &former{Form: f}
	if f.Compression == Zstd {
		// One thread and little memory: batches are small. NewWriter refuses wrong options
		// alone, and these are right.
		b.zstd, _ = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(128<<10))
	}
	return b
}

// message is a batch as it leaves.
func (f *former) message(r telemetry.Record, streamID string, seq uint64) ([]byte, error) {
	if f.Columns {
		var err error
		if r, err = r.Columns(); err != nil {
			return nil, err
		}
	}
	plain := r.Message(streamID, seq)
	switch f.Compression {
	case Gzip:
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write(plain); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		return b.Bytes(), nil
	case Zstd:
		return f.zstd.EncodeAll(plain, nil), nil
	default:
		return plain, nil
	}
}
