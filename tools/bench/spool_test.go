package bench

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"telemetryd/internal/spool"
)

// TestMain runs the tests, or one step of a measurement that needs a process of its own.
func TestMain(m *testing.M) {
	if step := os.Getenv("BENCH_STEP"); step != "" {
		if err := runStep(step, os.Getenv("BENCH_DIR")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// zeroFilled is how large the file of zeros is, in which appends neither change size nor
// place; it is begun anew when it is full, as a store would take the next one.
const zeroFilled = 8 << 20

// appenders are ways to make a record durable.
var appenders = []struct {
	name string
	open func(b *testing.B, dir string) (add func([]byte) error)
}{
	{"spool", func(b *testing.B, dir string) func([]byte) error {
		s, err := spool.Open(dir, spool.Options{StreamID: "bench", MaxBytes: 2 * gigabyte})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Close() })
		return func(p []byte) error { _, err := s.Append(spool.Telemetry, p); return err }
	}},
	{"growing-file-fsync", func(b *testing.B, dir string) func([]byte) error {
		f := create(b, dir)
		return func(p []byte) error {
			if _, err := f.Write(p); err != nil {
				return err
			}
			return f.Sync()
		}
	}},
	{"zero-filled-file-fdatasync", func(b *testing.B, dir string) func([]byte) error {
		f := create(b, dir)
		if _, err := f.Write(make([]byte, zeroFilled)); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		at := 0
		return func(p []byte) error {
			if at+len(p) > zeroFilled {
				at = 0
			}
			if _, err := f.WriteAt(p, int64(at)); err != nil {
				return err
			}
			at += len(p)
			return unix.Fdatasync(int(f.Fd()))
		}
	}},
	{"bbolt", func(b *testing.B, dir string) func([]byte) error {
		db, err := bbolt.Open(filepath.Join(dir, "db"), 0o600, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { db.Close() })
		return func(p []byte) error {
			return db.Update(func(tx *bbolt.Tx) error {
				records, err := tx.CreateBucketIfNotExists([]byte("records"))
				if err != nil {
					return err
				}
				seq, err := records.NextSequence()
				if err != nil {
					return err
				}
				return records.Put(binary.BigEndian.AppendUint64(nil, seq), p)
			})
		}
	}},
}

func create(b *testing.B, dir string) *os.File {
	b.Helper()
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return f
}

// BenchmarkAppend is one durable record after the other.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{500, 2000} {
		for _, a := range appenders {
			b.Run(fmt.Sprintf("%d/%s", size, a.name), func(b *testing.B) {
				add, payload := a.open(b, b.TempDir()), bytes.Repeat([]byte("x"), size)
				b.SetBytes(int64(size))
				for b.Loop() {
					if err := add(payload); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkDrain takes a backlog of 1 kB records out, acknowledgements on disk included,
// beside reading a plain file of the same records with a checksum each.
func BenchmarkDrain(b *testing.B) {
	const records = 200_000
	full := b.TempDir()
	payload := bytes.Repeat([]byte("x"), 1000)
	fillWith(b, full, payload, records)
	rates := func(b *testing.B, took time.Duration) {
		b.ReportMetric(records/took.Seconds(), "records/s")
		b.ReportMetric(float64(records*len(payload))/1e6/took.Seconds(), "MB/s")
		b.ReportMetric(0, "ns/op")
	}
	b.Run("spool", func(b *testing.B) {
		var took time.Duration
		for range b.N {
			dir := b.TempDir()
			copyDir(b, dir, full)
			s, err := spool.Open(dir, spool.Options{StreamID: "bench", MaxBytes: 2 * gigabyte})
			if err != nil {
				b.Fatal(err)
			}
			began := time.Now()
			n := 0
			for at := uint64(0); ; n++ {
				r, ok, err := s.Next(spool.Telemetry, at)
				if err != nil {
					b.Fatal(err)
				}
				if !ok {
					break
				}
				s.Ack(r.LSN)
				at = r.LSN
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			took += time.Since(began)
			if n != records {
				b.Fatalf("%d of %d records came", n, records)
			}
		}
		rates(b, took/time.Duration(b.N))
	})
	b.Run("file", func(b *testing.B) {
		f := create(b, b.TempDir())
		sum := crc32.MakeTable(crc32.Castagnoli)
		w := bufio.NewWriterSize(f, 1<<20)
		for range records {
			frame := binary.LittleEndian.AppendUint32(nil, crc32.Checksum(payload, sum))
			if _, err := w.Write(append(frame, payload...)); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			b.Fatal(err)
		}
		frame := make([]byte, 4+len(payload))
		began := time.Now()
		for range b.N {
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				b.Fatal(err)
			}
			in := bufio.NewReaderSize(f, 256<<10)
			for range records {
				if _, err := io.ReadFull(in, frame); err != nil {
					b.Fatal(err)
				}
				if crc32.Checksum(frame[4:], sum) != binary.LittleEndian.Uint32(frame) {
					b.Fatal("checksum")
				}
			}
		}
		rates(b, time.Since(began)/time.Duration(b.N))
	})
}

// opened is what a step of TestOpen found in a process of its own.
type opened struct {
	Took    time.Duration
	Heap    uint64 // bytes in use afterwards
	Peak    int    // bytes that the process had in memory at most
	Records uint64
}

func runStep(step, dir string) error {
	var o opened
	began := time.Now()
	switch step {
	case "open":
		s, err := spool.Open(dir, spool.Options{StreamID: fmt.Sprint(began.UnixNano()), MaxBytes: 2 * gigabyte})
		if err != nil {
			return err
		}
		o.Took = time.Since(began)
		o.Records = s.Stats().Records
		defer s.Close()
	case "read":
		if err := readAll(dir); err != nil {
			return err
		}
		o.Took = time.Since(began)
	default:
		return fmt.Errorf("unknown step %s", step)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	o.Heap = m.HeapAlloc
	var err error
	if o.Peak, err = peakOf(os.Getpid()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(o)
}

func readAll(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	buf := make([]byte, 256<<10)
	for _, file := range files {
		f, err := os.Open(filepath.Join(dir, file.Name()))
		if err != nil {
			return err
		}
		for err == nil {
			_, err = f.Read(buf)
		}
		f.Close()
		if err != io.EOF {
			return err
		}
	}
	return nil
}

// TestOpen is how long a start waits for a buffer with a million records of 1 kB, with the
// files in the memory of the kernel and without, beside reading the same files in full.
func TestOpen(t *testing.T) {
	const records, wanted = 1_000_000, 200 * time.Millisecond
	dir := t.TempDir()
	fillWith(t, dir, bytes.Repeat([]byte("x"), 1000), records)
	for _, cold := range []bool{false, true} {
		for _, step := range []string{"read", "open", "open"} {
			if cold {
				if err := dropCaches(); err != nil {
					t.Logf("LEFT OUT: a start from a cold disk: %v; it needs root", err)
					return
				}
			}
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "BENCH_STEP="+step, "BENCH_DIR="+dir)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			var o opened
			if err == nil {
				err = json.Unmarshal(out, &o)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s, cold=%v: %v, heap %.1f MB, VmHWM %.1f MB", step, cold, o.Took.Round(100*time.Microsecond), float64(o.Heap)/1e6, float64(o.Peak)/1e6)
			if step == "open" && o.Records != records {
				t.Errorf("%d of %d records are known after the start", o.Records, records)
			}
			if step == "open" && o.Took >= wanted {
				t.Errorf("cold=%v: opening took %v, wanted: under %v", cold, o.Took, wanted)
			}
		}
	}
}

// dropCaches makes the kernel forget what is on disks.
func dropCaches() error {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0)
}
