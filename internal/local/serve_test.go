package local

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// daemon is what the socket sees of one.
type daemon struct {
	mu        sync.Mutex
	events    []telemetry.Event
	err       error
	trouble   error
	acked     bool
	gone      bool
	condition atomic.Value
}

func (d *daemon) Emit(_ context.Context, e telemetry.Event) (spool.Record, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return spool.Record{}, d.err
	}
	d.events = append(d.events, e)
	n := uint64(len(d.events))
	return spool.Record{LSN: 100 + n, StreamID: "stream", Seq: n}, nil
}

func (d *daemon) Get(uint64) (spool.Record, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return spool.Record{}, !d.gone, nil
}

func (d *daemon) Trouble() (spool.Trouble, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return spool.Trouble{Err: d.trouble}, d.trouble != nil
}

func (d *daemon) Has(lsn uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.acked && lsn > 100
}

func (d *daemon) Set(_ string, c telemetry.Condition) { d.condition.Store(c.Code + ": " + c.Title) }
func (d *daemon) Clear(string, string)                { d.condition.Store("") }

func (d *daemon) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// serving runs the socket in a directory until the test ends, or stop.
func serving(t *testing.T, dir string) (d *daemon, stop func()) {
	t.Helper()
	d = &daemon{}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		Serve(ctx, Config{Dir: dir, Recorder: d, Store: d, Receipts: d, Health: d, Uptime: func() time.Duration { return 7 * time.Second }, lookEvery: 20 * time.Millisecond})
	})
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	await(t, "the socket", func() bool { return d.condition.Load() != nil })
	return d, stop
}

func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !so(); time.Sleep(5 * time.Millisecond) { // real sockets
		if time.Now().After(deadline) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

func send(t *testing.T, dir string, r Request) Answer {
	t.Helper()
	a, err := Send(t.Context(), dir, r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// The answer tells where the event is: on the disk or in memory, at the broker, or given up.
func TestAnswers(t *testing.T) {
	dir := t.TempDir()
	d, _ := serving(t, dir)
	if a := send(t, dir, Request{Type: "emergency", Note: "help"}); a != (Answer{StreamID: "stream", Seq: 1, Durable: true}) {
		t.Errorf("%+v", a)
	}
	if e := d.events[0]; e.Type != "emergency" || e.Severity != telemetry.Emergency || e.At != 7*time.Second {
		t.Errorf("%+v", e)
	}
	if a := send(t, dir, Request{Type: "x", WaitMS: 50}); a != (Answer{StreamID: "stream", Seq: 2, Durable: true}) {
		t.Errorf("not acknowledged in time: %+v", a)
	}
	time.AfterFunc(50*time.Millisecond, func() { d.set(func() { d.acked = true }) })
	if a := send(t, dir, Request{Type: "x", WaitMS: 20000}); a != (Answer{StreamID: "stream", Seq: 3, Durable: true, Acknowledged: true}) {
		t.Errorf("acknowledged: %+v", a)
	}
	d.set(func() { d.acked, d.gone, d.trouble = false, true, errors.New("no space left on device") })
	if a := send(t, dir, Request{Type: "x", WaitMS: 20000}); a != (Answer{StreamID: "stream", Seq: 4, Trouble: "no space left on device", GivenUp: true}) {
		t.Errorf("given up, on a full disk: %+v", a)
	}
	d.set(func() { d.err = errors.New("the daemon stops") })
	if a := send(t, dir, Request{Type: "x"}); a != (Answer{Error: "the daemon stops"}) {
		t.Errorf("not recorded: %+v", a)
	}
	if a := send(t, dir, Request{Type: "stream_start"}); !strings.Contains(a.Error, "the daemon's own") || len(d.events) != 4 {
		t.Errorf("%+v, %d events", a, len(d.events))
	}
}

// What is no request gets an answer that says so, and a program that says nothing, or too
// much, keeps no other one out.
func TestBadTalkers(t *testing.T) {
	dir := t.TempDir()
	d, stop := serving(t, dir)
	said := func(what string) string {
		t.Helper()
		c, err := net.Dial("unix", filepath.Join(dir, Name))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte(what)); err != nil && !errors.Is(err, syscall.EPIPE) {
			t.Error(err)
		}
		_ = c.(*net.UnixConn).CloseWrite()
		b := make([]byte, 1000)
		n, _ := c.Read(b)
		return string(b[:n])
	}
	for what, want := range map[string]string{
		"":                                    "",
		"hello\n":                             `"error":"the request is no line like`,
		`{"type":"x"}`:                        `"error":"the request has no end of line"`,
		strings.Repeat("x", mostLine):         `"error":"the request is larger than 16384 bytes"`,
		`{"type":"x"}` + "\n{\"type\":\"y\"}": `"seq":1`,
	} {
		if got := said(what); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%.20q: %q", what, got)
		}
	}
	var silent []net.Conn
	for range most - 1 {
		c, err := net.Dial("unix", filepath.Join(dir, Name))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	if a := send(t, dir, Request{Type: "emergency"}); a.Seq != 2 {
		t.Errorf("%+v", a)
	}
	began := time.Now()
	stop() // ends the silent ones
	if took := time.Since(began); took > talkLimit/2 || len(silent) != most-1 || len(d.events) != 2 {
		t.Errorf("the end took %v; %d events", took, len(d.events))
	}
}

// Those who wait for the broker leave room for one more event, and a stop sends them home
// with what is known.
func TestWaitingLeavesRoom(t *testing.T) {
	dir := t.TempDir()
	d, stop := serving(t, dir)
	answers := make(chan Answer, most)
	for range most {
		go func() {
			a, err := Send(context.Background(), dir, Request{Type: "x", WaitMS: 60000})
			if err != nil {
				t.Error(err)
			}
			answers <- a
		}()
	}
	for range most - mostWaiting { // are not waited for
		if a := <-answers; !a.Durable || a.Acknowledged {
			t.Errorf("%+v", a)
		}
	}
	if a := send(t, dir, Request{Type: "emergency"}); a.Seq == 0 {
		t.Errorf("%+v", a)
	}
	stop()
	for range mostWaiting {
		if a := <-answers; !a.Durable || a.Acknowledged {
			t.Errorf("%+v", a)
		}
	}
	if len(d.events) != most+1 {
		t.Errorf("%d events", len(d.events))
	}
}

// A script in a circle is held back, and holds no emergency back.
func TestTooMany(t *testing.T) {
	dir := t.TempDir()
	serving(t, dir)
	refused := 0
	for range 2 * atOnce {
		if a := send(t, dir, Request{Type: "x"}); strings.Contains(a.Error, "too many events: 5 a second") {
			refused++
		}
	}
	if a := send(t, dir, Request{Type: "emergency"}); a.Error != "" || refused == 0 {
		t.Errorf("%d refused; the emergency: %+v", refused, a)
	}
}

// The socket is its group's, replaces one that a killed daemon left, is opened again where
// somebody removed it, and is gone at the end.
func TestSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, Name)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	if _, err := Send(t.Context(), dir, Request{Type: "x"}); err == nil || !strings.Contains(err.Error(), "no telemetryd runs on the state directory "+dir) {
		t.Errorf("a dead daemon's: %v", err)
	}
	_, stop := serving(t, dir)
	send(t, dir, Request{Type: "x"})
	if s, err := os.Stat(path); err != nil || s.Mode() != os.ModeSocket|0o660 {
		t.Errorf("%v, %v", s.Mode(), err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	await(t, "the socket again", func() bool {
		_, err := Send(t.Context(), dir, Request{Type: "x"})
		return err == nil
	})
	stop()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := Send(t.Context(), dir, Request{Type: "x"}); err == nil || !strings.Contains(err.Error(), "no telemetryd runs on") {
		t.Errorf("without a daemon: %v", err)
	}
}

// A state directory whose path is longer than a socket's may be works as any.
func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100), strings.Repeat("e", 100))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, stop := serving(t, dir)
	if a := send(t, dir, Request{Type: "x"}); a.Seq != 1 {
		t.Errorf("%+v", a)
	}
	stop()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// What is in the socket's place and is none is not removed; the socket comes when it is gone.
func TestPlaceTaken(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, Name)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, _ := serving(t, dir)
	if got, _ := d.condition.Load().(string); !strings.Contains(got, "emit_unavailable: Programs on this machine cannot emit events, a panic button neither: socket is there and no socket") {
		t.Errorf("condition %q", got)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	await(t, "the socket", func() bool { return d.condition.Load() == "" })
	send(t, dir, Request{Type: "x"})
}
