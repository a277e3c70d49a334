package gps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"telemetryd/internal/port"
	"telemetryd/internal/telemetry"
)

// health notes what is set and cleared.
type health struct {
	mu   sync.Mutex
	said []string
	now  chan string // if not nil, gets what is said
}

func (h *health) say(s string) {
	h.mu.Lock()
	h.said = append(h.said, s)
	h.mu.Unlock()
	if h.now != nil {
		h.now <- s
	}
}

func (h *health) Set(source string, c telemetry.Condition) {
	if source != "gps" || c.Title == "" || c.Remedy == "" || c.Severity == "" {
		h.say(fmt.Sprintf("bad condition of %s: %+v", source, c))
	}
	h.say(c.Code)
}

func (h *health) Clear(_, resolved string) { h.say(resolved) }

func (h *health) want(t *testing.T, want ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.said, want) {
		t.Errorf("conditions %q, want %q", h.said, want)
	}
	h.said = nil
}

// device is a port under the test's control.
type device struct {
	chunks chan port.Chunk
	baud   int
	bauds  []int // set after opening
	mu     sync.Mutex
	said   []string          // written to it
	answer func(said string) // may be nil
	uptime func() time.Duration
	once   sync.Once
}

func (d *device) Receive(ctx context.Context, timeout time.Duration) (port.Chunk, error) {
	select {
	case c, ok := <-d.chunks:
		if !ok {
			return port.Chunk{}, io.EOF
		}
		return c, nil
	case <-time.After(timeout):
		return port.Chunk{}, nil
	case <-ctx.Done():
		return port.Chunk{}, ctx.Err()
	}
}

func (d *device) Write(b []byte, _ time.Duration) error {
	d.mu.Lock()
	d.said = append(d.said, string(b))
	d.mu.Unlock()
	if d.answer != nil {
		d.answer(string(b))
	}
	return nil
}

// heard returns what was written since the last call.
func (d *device) heard() (said []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	said, d.said = d.said, nil
	return said
}

func (d *device) Close() error { return nil }
func (d *device) SetBaud(b int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.baud, d.bauds = b, append(d.bauds, b)
	return nil
}

// rate is what the port was set to.
func (d *device) rate() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.baud
}

func (d *device) send(s string) { d.chunks <- port.Chunk{Data: []byte(s), Arrived: d.uptime()} }
func (d *device) unplug()       { d.once.Do(func() { close(d.chunks) }) }

// rig runs a source on devices within a synctest bubble.
type rig struct {
	health  health
	devices chan *device // opened one after the other; none: the open fails
	mu      sync.Mutex   // guards what follows
	opened  []string     // addresses
	at      []time.Duration
	fixes   []telemetry.Reading
	late    []time.Duration // of each fix after its arrival
	found   []port.Address
	start   time.Time
	begin   func() // starts the source
}

func (b *rig) uptime() time.Duration { return time.Since(b.start) }

// attempts returns where and when a port was opened since the last call.
func (b *rig) attempts() (opened []string, at []time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	opened, at = b.opened, b.at
	b.opened, b.at = nil, nil
	return opened, at
}

func (b *rig) find() []port.Address {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.found
}

func (b *rig) device() *device {
	return &device{chunks: make(chan port.Chunk), uptime: b.uptime}
}

// on runs test, which starts a source at address ("" for auto) with b.begin.
// changes alter its Config.
func on(t *testing.T, address string, test func(t *testing.T, b *rig), changes ...func(*Config)) {
	synctest.Test(t, func(t *testing.T) {
		b := &rig{devices: make(chan *device, 10), start: time.Now()}
		c := Config{
			Uptime: b.uptime, Health: &b.health,
			Find: b.find,
			Deliver: func(r telemetry.Reading) {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.fixes = append(b.fixes, r)
				b.late = append(b.late, b.uptime()-r.Arrived)
			},
		}
		if address != "" {
			a, err := port.Parse(address, "serial", "tcp", "gpsd", "file")
			if err != nil {
				t.Fatal(err)
			}
			c.Address = &a
		}
		for _, change := range changes {
			change(&c)
		}
		s := newSource(c)
		s.open = func(_ context.Context, a port.Address) (stream, error) {
			b.mu.Lock()
			b.opened, b.at = append(b.opened, a.String()), append(b.at, b.uptime())
			b.mu.Unlock()
			select {
			case d := <-b.devices:
				d.baud = firstRate(a).Baud
				return d, nil
			default:
				return nil, errors.New("no such device")
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		b.begin = func() {
			running.Go(func() { s.run(ctx) })
			synctest.Wait()
		}
		test(t, b)
		cancel()
		running.Wait()
	})
}

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
