package gps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
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
	uptime func() time.Duration
	once   sync.Once
}

func (d *device) Chunks() <-chan port.Chunk { return d.chunks }
func (d *device) Err() error                { return io.EOF }
func (d *device) Close() error              { return nil }
func (d *device) SetBaud(b int) error {
	d.baud, d.bauds = b, append(d.bauds, b)
	return nil
}
func (d *device) send(s string) { d.chunks <- port.Chunk{Data: []byte(s), Arrived: d.uptime()} }
func (d *device) unplug()       { d.once.Do(func() { close(d.chunks) }) }

// bench runs a source on devices within a synctest bubble.
type bench struct {
	health  health
	devices chan *device // opened one after the other; none: the open fails
	mu      sync.Mutex   // guards opened, at and found
	opened  []string     // addresses
	at      []time.Duration
	fixes   []telemetry.Reading
	late    []time.Duration // of each fix after its arrival
	found   []port.Address
	start   time.Time
	begin   func() // starts the source
}

func (b *bench) uptime() time.Duration { return time.Since(b.start) }

// attempts returns where and when a port was opened since the last call.
func (b *bench) attempts() (opened []string, at []time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	opened, at = b.opened, b.at
	b.opened, b.at = nil, nil
	return opened, at
}

func (b *bench) find() []port.Address {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.found
}

func (b *bench) device() *device {
	return &device{chunks: make(chan port.Chunk), uptime: b.uptime}
}

// on runs test, which starts a source at address ("" for auto) with b.begin.
func on(t *testing.T, address string, test func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{devices: make(chan *device, 10), start: time.Now()}
		c := Config{
			Uptime: b.uptime, Health: &b.health,
			Find: b.find,
			Deliver: func(r telemetry.Reading) {
				b.fixes = append(b.fixes, r)
				b.late = append(b.late, b.uptime()-r.Arrived)
			},
		}
		if address != "" {
			a, err := port.Parse(address, "serial", "tcp", "file")
			if err != nil {
				t.Fatal(err)
			}
			c.Address = &a
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

const given = "serial:///dev/ttyUSB9?baud=9600"

func TestConditions(t *testing.T) {
	on(t, given, func(t *testing.T, b *bench) {
		b.begin()
		b.health.want(t, "gps_missing")
		pass(time.Minute)
		b.health.want(t)

		d := b.device()
		b.devices <- d
		pass(40 * time.Second)
		b.health.want(t, "gps_silent")
		for range 20 {
			d.send("ELM327 v1.5\r\r>")
			pass(500 * ms)
		}
		b.health.want(t, "gps_wrong_data")
		for range 20 {
			d.send("\xb5\x62\x01\x07$\x00\x08\x19")
			pass(500 * ms)
		}
		b.health.want(t, "gps_binary")
		for i := range 20 {
			d.send(say(fmt.Sprintf("GPRMC,1200%02d,V,,,,,,,231126,,", i)))
			pass(500 * ms)
		}
		b.health.want(t, "gps_no_fix")
		for i := range 20 {
			d.send(second(i))
			pass(time.Second)
		}
		b.health.want(t, "GPS receiver delivers fixes")
		if len(b.fixes) != 20 {
			t.Errorf("%d fixes of 20", len(b.fixes))
		}
		d.unplug()
		pass(10 * time.Second)
		b.health.want(t, "gps_missing")
		d = b.device()
		b.devices <- d
		pass(20 * time.Second)
		b.health.want(t, "gps_silent")
		d.send(second(30))
		pass(time.Second)
		b.health.want(t, "GPS receiver delivers fixes")
	})
}

// The titles and remedies are complete, whatever the address.
func TestConditionTexts(t *testing.T) {
	list := []telemetry.Condition{nothingFound, silent, wrongData, binaryOutput, noFix}
	for _, scheme := range []string{"serial", "tcp", "file"} {
		a := port.Address{Scheme: scheme, Path: "/x", Host: "h:1"}
		list = append(list, missing(a, io.EOF), fileEnded(a, 0), fileEnded(a, 1))
	}
	for _, c := range list {
		if !strings.HasPrefix(c.Code, "gps_") || c.Severity == "" || c.Title == "" || c.Remedy == "" {
			t.Errorf("incomplete: %+v", c)
		}
	}
}

// A receiver just switched on is in no trouble for its first seconds.
func TestNoConditionWhenAllIsWell(t *testing.T) {
	on(t, given, func(t *testing.T, b *bench) {
		d := b.device()
		b.devices <- d
		b.begin()
		pass(4 * time.Second)
		for i := range 10 {
			d.send(second(i))
			pass(time.Second)
		}
		b.health.want(t)
	})
}

// Live fixes come with the last sentence once the cadence is known, and 150 ms of
// silence after it before.
func TestLatency(t *testing.T) {
	on(t, given, func(t *testing.T, b *bench) {
		d := b.device()
		b.devices <- d
		b.begin()
		for i := range 10 {
			for line := range strings.SplitAfterSeq(second(i), "\n") {
				if line != "" {
					d.send(line)
					pass(20 * ms)
				}
			}
			pass(920 * ms)
		}
		for i, late := range b.late {
			want := firstSilence
			if i >= firstLesson {
				want = 0
			}
			if late != want {
				t.Errorf("fix %d came %v after its last byte, want %v", i, late, want)
			}
		}
		if len(b.late) != 10 {
			t.Errorf("%d fixes of 10", len(b.late))
		}
	})
}

func TestBackOff(t *testing.T) {
	on(t, "tcp://192.0.2.1:2000", func(t *testing.T, b *bench) {
		b.begin()
		pass(10 * time.Minute)
		_, at := b.attempts()
		for i, base := 1, firstRetry; i < len(at); i, base = i+1, min(2*base, lastRetry) {
			gap := at[i] - at[i-1]
			if gap < base*8/10 || gap > min(base*12/10, lastRetry) {
				t.Errorf("attempt %d after %v, want %v or so", i, gap, base)
			}
		}
		if len(at) < 20 {
			t.Errorf("%d attempts in 10 minutes", len(at))
		}
		d := b.device()
		b.devices <- d
		pass(lastRetry)
		d.send(second(0))
		d.unplug()
		synctest.Wait()
		b.attempts()
		pass(1300 * ms)
		if _, at := b.attempts(); len(at) == 0 {
			t.Error("the back-off did not begin anew after data came")
		}
	})
}

// A connection that is closed at once, again and again, is a silent receiver.
func TestClosedAtOnce(t *testing.T) {
	on(t, "tcp://192.0.2.1:2000", func(t *testing.T, b *bench) {
		for range 10 {
			d := b.device()
			d.unplug()
			b.devices <- d
		}
		b.begin()
		pass(20 * time.Second)
		b.health.want(t, "gps_silent")
	})
}

// A TCP peer that lost power never closes its connection.
func TestSilentConnectionIsMadeAnew(t *testing.T) {
	on(t, "tcp://192.0.2.1:2000", func(t *testing.T, b *bench) {
		d := b.device()
		b.devices <- d
		b.begin()
		d.send(second(0))
		synctest.Wait()
		b.attempts()
		pass(20 * time.Second)
		if _, at := b.attempts(); len(at) != 0 {
			t.Error("connected again too soon")
		}
		pass(20 * time.Second)
		if _, at := b.attempts(); len(at) == 0 {
			t.Error("not connected again")
		}
	})
}

func TestHunt(t *testing.T) {
	on(t, "serial:///dev/ttyUSB9", func(t *testing.T, b *bench) {
		d := b.device()
		b.devices <- d
		b.begin()
		for i := range 60 { // a receiver at 4800
			if d.baud == 4800 {
				d.send(second(i))
			} else {
				d.send("\xf8\x00\x86\x98")
			}
			pass(time.Second)
		}
		b.health.want(t)
		if d.baud != 4800 || !slices.Equal(d.bauds, []int{38400, 115200, 4800}) {
			t.Errorf("rates %v", d.bauds)
		}
		for i := range 100 { // exchanged for one at 38400
			if d.baud == 38400 {
				d.send(second(i))
			} else {
				d.send("\xf8\x00\x86\x98")
			}
			pass(time.Second)
		}
		if d.baud != 38400 {
			t.Errorf("rates %v", d.bauds)
		}
		b.health.want(t, "gps_wrong_data", "GPS receiver delivers fixes")
	})
}

func TestHuntInVain(t *testing.T) {
	on(t, "serial:///dev/ttyUSB9", func(t *testing.T, b *bench) {
		d := b.device()
		b.devices <- d
		b.begin()
		for range 14 {
			d.send("\xf8\x00\x86\x98")
			pass(time.Second)
		}
		b.health.want(t)
		for range 40 {
			d.send("\xf8\x00\x86\x98")
			pass(time.Second)
		}
		b.health.want(t, "gps_wrong_data")
		if !slices.Equal(d.bauds[:7], []int{38400, 115200, 4800, 57600, 19200, 9600, 38400}) {
			t.Errorf("rates %v", d.bauds)
		}
	})
}

// A receiver that speaks UBX has been found, even if there is nothing to read.
func TestHuntFindsBinary(t *testing.T) {
	on(t, "serial:///dev/ttyUSB9", func(t *testing.T, b *bench) {
		d := b.device()
		b.devices <- d
		b.begin()
		for range 60 {
			if d.baud == 38400 {
				d.send(strings.Repeat("\xb5\x62\x01\x07\x02\x00$\x00\x08\x19", 4))
			} else {
				d.send("\xf8\x00\x86\x98")
			}
			pass(time.Second)
		}
		if d.baud != 38400 {
			t.Errorf("rates %v", d.bauds)
		}
		b.health.want(t, "gps_binary")
	})
}

func TestNoHunt(t *testing.T) {
	for _, address := range []string{given, "serial:///dev/ttyACM7", "tcp://192.0.2.1:2000"} {
		on(t, address, func(t *testing.T, b *bench) {
			d := b.device()
			b.devices <- d
			b.begin()
			for range 60 {
				d.send("\xf8\x00\x86\x98")
				pass(time.Second)
			}
			if d.bauds != nil {
				t.Errorf("%s: rates %v", address, d.bauds)
			}
		})
	}
}

// With no address given, every port named as a receiver gets its turn until one
// speaks.
func TestAuto(t *testing.T) {
	on(t, "", func(t *testing.T, b *bench) {
		b.begin()
		b.health.want(t, "gps_missing")
		deaf, good := b.device(), b.device()
		b.devices <- deaf
		b.devices <- good
		b.mu.Lock()
		b.found = []port.Address{{Scheme: "serial", Path: "/dev/ttyACM7"}, {Scheme: "serial", Path: "/dev/ttyACM8"}}
		b.mu.Unlock()
		for i := range 100 {
			select {
			case good.chunks <- port.Chunk{Data: []byte(second(i)), Arrived: b.uptime()}:
			default:
			}
			pass(time.Second)
		}
		opened, _ := b.attempts()
		if want := []string{"serial:///dev/ttyACM7", "serial:///dev/ttyACM8"}; !slices.Equal(opened, want) {
			t.Errorf("opened %q, want %q", opened, want)
		}
		b.health.want(t, "gps_silent", "GPS receiver delivers fixes")
	})
}
