package gps

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"telemetryd/internal/port"
	"telemetryd/internal/telemetry"
)

// running is Run on a real port.
type running struct {
	t      *testing.T
	health *health
	fixes  chan telemetry.Reading
	stop   func()
}

// run starts Run at address; it has to end within 2 s of the test.
func run(t *testing.T, a port.Address) *running {
	t.Helper()
	r := &running{t: t, health: &health{now: make(chan string, 100)}, fixes: make(chan telemetry.Reading, 1000)}
	start := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{
			Address: &a, Uptime: func() time.Duration { return time.Since(start) },
			Deliver: func(f telemetry.Reading) { r.fixes <- f }, Health: r.health,
		})
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run returned %v", err)
			}
		case <-time.After(2 * time.Second):
			t.Error("Run does not end with its context")
		}
	})
	t.Cleanup(r.stop)
	return r
}

const patient = 20 * time.Second

// fix waits for the next fix and checks its time of day.
func (r *running) fix(clock string) {
	r.t.Helper()
	select {
	case f := <-r.fixes:
		if got := f.FixTime.Format(time.TimeOnly); got != clock {
			r.t.Fatalf("fix of %s, want %s", got, clock)
		}
	case <-time.After(patient):
		r.t.Fatalf("no fix of %s", clock)
	}
}

// told waits until Health is told this.
func (r *running) told(want string) {
	r.t.Helper()
	for deadline := time.After(patient); ; {
		select {
		case got := <-r.health.now:
			if got == want {
				return
			}
			r.t.Fatalf("health was told %q, want %q", got, want)
		case <-deadline:
			r.t.Fatalf("health was not told %q", want)
		}
	}
}

// plug makes a pty whose slave is at path.
func plug(t *testing.T, path string) (master *os.File, unplug func()) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(slave.Name(), path); err != nil {
		t.Fatal(err)
	}
	unplug = sync.OnceFunc(func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
		_ = slave.Close()
		_ = master.Close()
	})
	t.Cleanup(unplug)
	return master, unplug
}

func send(t *testing.T, w interface{ Write([]byte) (int, error) }, s string) {
	t.Helper()
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
}

// repeat writes in to w until stop is called: a receiver does not wait for its
// reader.
func repeat(w *os.File, in string) (stop func()) {
	done := make(chan struct{})
	var talking sync.WaitGroup
	talking.Go(func() {
		again := time.NewTicker(2 * firstSilence)
		defer again.Stop()
		for {
			if _, err := w.WriteString(in); err != nil {
				return
			}
			select {
			case <-done:
				return
			case <-again.C:
			}
		}
	})
	return func() {
		close(done)
		talking.Wait()
	}
}

func TestRunSerial(t *testing.T) {
	path := filepath.Join(t.TempDir(), "receiver")
	r := run(t, port.Address{Scheme: "serial", Path: path})
	r.told("gps_missing")
	master, unplug := plug(t, path)
	stop := repeat(master, second(0))
	r.told("GPS receiver delivers fixes")
	r.fix("12:00:00")
	stop()
	send(t, master, "$GPGGA,12"+second(1)) // silence ends it
	r.fix("12:00:01")
	unplug()
	r.told("gps_missing")
	master, _ = plug(t, path)
	stop = repeat(master, second(5))
	defer stop()
	r.told("GPS receiver delivers fixes")
	r.fix("12:00:05")
}

// A receiver that speaks UBX is named as such, and found again when it speaks NMEA.
func TestRunBinary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "receiver")
	master, _ := plug(t, path)
	r := run(t, port.Address{Scheme: "serial", Path: path})
	stop := repeat(master, "\xb5\x62\x01\x07\x02\x00$\x00\x08\x19")
	r.told("gps_binary")
	stop()
	stop = repeat(master, second(0))
	defer stop()
	r.told("GPS receiver delivers fixes")
	r.fix("12:00:00")
}

func TestRunTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := run(t, port.Address{Scheme: "tcp", Host: l.Addr().String()})
	for i := range 2 { // the second time after the connection was lost
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		send(t, c, second(2*i))
		r.fix(fmt.Sprintf("12:00:%02d", 2*i))
		send(t, c, second(2*i+1)) // the end of the connection ends it
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		r.fix(fmt.Sprintf("12:00:%02d", 2*i+1))
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	r.told("gps_missing")
}

func TestRunFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "drive.nmea")
	var all []byte
	for i := range 500 {
		all = append(all, second(i)...)
	}
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, port.Address{Scheme: "file", Path: path})
	for i := range 500 {
		r.fix(fmt.Sprintf("12:%02d:%02d", i/60, i%60))
	}
	r.told("gps_file_ended")
	select {
	case s := <-r.health.now:
		t.Errorf("then health was told %q", s)
	case f := <-r.fixes:
		t.Errorf("then came %s", sample(f))
	case <-time.After(100 * ms):
	}
}

// A recording's fixes are those of Decode.
func TestRunFileAsDecode(t *testing.T) {
	const path = "testdata/mixed.nmea"
	in, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := decoded(t, string(in))
	r := run(t, port.Address{Scheme: "file", Path: path})
	r.told("gps_file_ended")
	r.stop()
	close(r.fixes)
	var got []string
	for f := range r.fixes {
		got = append(got, sample(f))
	}
	if !slices.Equal(got, want) || len(got) != 3 {
		t.Errorf("got %q, want %q", got, want)
	}
}

// writeFIFO opens the FIFO and writes to it; again if it had opened it to a reader that
// was about to leave.
func writeFIFO(t *testing.T, path, s string) *os.File {
	t.Helper()
	for {
		w, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = w.WriteString(s); err == nil {
			return w
		}
		_ = w.Close()
		if !errors.Is(err, syscall.EPIPE) {
			t.Fatal(err)
		}
	}
}

// A FIFO is a file that begins again, and one that nobody writes to holds nobody.
func TestRunFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, port.Address{Scheme: "file", Path: path})
	for i := range 2 {
		w := writeFIFO(t, path, second(i))
		r.fix(fmt.Sprintf("12:00:%02d", i))
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	r.stop()

	r = run(t, port.Address{Scheme: "file", Path: path})
	r.stop() // while it waits for a writer, or before
}

// The open of a FIFO may begin only after the context has ended.
func TestFreeFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	release := freeFIFO(ctx, path)
	f, err := os.Open(path) // hangs if it fails
	release()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestRunEndsAtOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, Config{}); err != nil {
		t.Error(err)
	}
}

// Nothing at all is named, found or listened to.
func TestRunWithoutFind(t *testing.T) {
	h := &health{now: make(chan string, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = Run(ctx, Config{Health: h}) })
	if got := <-h.now; got != "gps_missing" {
		t.Errorf("health was told %q", got)
	}
	cancel()
	running.Wait()
}

// A candidate that cannot be opened, ends at once or speaks binary leaves the others
// their turn.
func TestAutoOthersHaveTheirTurn(t *testing.T) {
	two := []port.Address{{Scheme: "serial", Path: "/dev/ttyACM1"}, {Scheme: "serial", Path: "/dev/ttyACM2"}}
	turns := func(t *testing.T, b *rig) {
		t.Helper()
		opened, _ := b.attempts()
		n := map[string]int{}
		for _, a := range opened {
			n[a]++
		}
		if len(n) != 2 {
			t.Errorf("opened %v", n)
		}
		b.health.said = nil
	}
	t.Run("cannot be opened", func(t *testing.T) {
		on(t, "", func(t *testing.T, b *rig) {
			b.found = two
			b.begin()
			pass(time.Minute)
			turns(t, b)
		})
	})
	t.Run("ends", func(t *testing.T) {
		on(t, "", func(t *testing.T, b *rig) {
			b.found = two
			for range 8 {
				d := b.device()
				d.unplug()
				b.devices <- d
			}
			b.begin()
			pass(time.Minute)
			turns(t, b)
		})
	})
	t.Run("binary", func(t *testing.T) {
		on(t, "", func(t *testing.T, b *rig) {
			b.found = two
			d := &device{chunks: make(chan port.Chunk, 100), uptime: b.uptime}
			b.devices <- d
			b.begin()
			for range 40 { // what it sends after it was given up is read by nobody
				d.send("\xb5\x62\x01\x07\x00\x00\xb5\x62\x01\x07\x00\x00")
				pass(time.Second)
			}
			pass(10 * time.Second)
			turns(t, b)
		})
	})
}
