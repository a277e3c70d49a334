package obd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"telemetryd/internal/port"
	"telemetryd/internal/telemetry"
	"telemetryd/sim"
)

// keeper says when the vehicle counts as parked: from the moment on that a text is sent, or that
// the test says so. It notes what is sent from then on.
type keeper struct {
	at string

	mu      sync.Mutex
	parked  bool
	changed chan struct{}
	after   []string
}

func (k *keeper) Opened(port.Address) {}
func (k *keeper) Received([]byte)     {}
func (k *keeper) Closed(error)        {}

func (k *keeper) Sent(b []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.parked {
		k.after = append(k.after, string(b))
	} else if k.at != "" && strings.HasPrefix(string(b), k.at) {
		k.change()
	}
}

func (k *keeper) Parked() (bool, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.parked, k.changed
}

func (k *keeper) park() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.change()
}

func (k *keeper) change() {
	close(k.changed)
	k.parked, k.changed = true, make(chan struct{})
}

// requests are those to the car that were sent while it was parked.
func (k *keeper) requests() (list []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, text := range k.after {
		if text != " " && !strings.HasPrefix(text, "AT") {
			list = append(list, text)
		}
	}
	return list
}

// slowLine delays what the adapter says.
type slowLine struct {
	net.Conn
	by *atomic.Int64
}

func (l slowLine) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	time.Sleep(time.Duration(l.by.Load()))
	return n, err
}

// lot is a virtual vehicle whose reader asks a keeper. It must be called in a bubble; end ends what
// it started.
func lot(t *testing.T, o sim.OBDConfig, k *keeper, c Config) (v *sim.Vehicle, slow *atomic.Int64, end func()) {
	t.Helper()
	o.Listen, k.changed, slow = "pipe", make(chan struct{}), new(atomic.Int64)
	v, err := sim.Start(t.Context(), sim.Config{Seed: 1, OBD: o})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	start := time.Now()
	c.Address, c.Health, c.Log = &port.Address{Scheme: "tcp", Host: "pipe"}, silentHealth{}, slog.New(slog.DiscardHandler)
	c.Uptime, c.Parked = func() time.Duration { return time.Since(start) }, k.Parked
	if c.Rest == nil {
		c.Rest = func() (time.Duration, time.Duration) { return 2 * time.Second, 0 }
	}
	if c.Deliver == nil {
		c.Deliver = func(telemetry.Reading) {}
	}
	c.Open = func(ctx context.Context, a port.Address) (*port.Port, error) {
		conn, err := v.DialOBD(ctx)
		if err != nil {
			return nil, err
		}
		return port.New(a, slowLine{conn, slow}, c.Uptime, k), nil
	}
	var running sync.WaitGroup
	running.Go(func() { Run(ctx, c) })
	return v, slow, func() {
		stop()
		running.Wait()
		v.Close()
	}
}

// Whenever the decision falls - in the search, while the car is asked what it has, while a command
// is under way - no further request is sent, and the bus is closed.
func TestParkedAtAnyMoment(t *testing.T) {
	for _, protocol := range []byte{'3', '6'} {
		for _, at := range []string{"ATZ", "ATDPN", "0100", "0120", "0140", "03", "0902", "010D", "010C"} {
			for _, closes := range []bool{true, false} {
				t.Run(fmt.Sprintf("%c/%s/%v", protocol, at, closes), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						k, control := &keeper{}, new(Control)
						command := at == "010D" || at == "010C"
						wanted := map[string]float64{"control_module_voltage_v": 1}
						if !command {
							k.at = at
						}
						v, _, end := lot(t, sim.OBDConfig{Protocol: protocol, NoClose: !closes}, k, Config{Wanted: wanted, Control: control})
						defer end()
						if command { // the codes are to be cleared, and the engine is off
							time.Sleep(30 * time.Second)
							v.StopEngine(true)
							k.mu.Lock()
							k.at = at
							k.mu.Unlock()
							if err := control.ClearCodes(t.Context()); err == nil || !strings.Contains(err.Error(), "the vehicle is parked") {
								t.Errorf("clear: %v", err)
							}
						}
						time.Sleep(time.Minute)
						if parked, _ := k.Parked(); !parked {
							t.Fatalf("%s was never sent", at)
						}
						if list := k.requests(); len(list) > 0 {
							t.Errorf("sent to the car while it was parked: %q", list)
						}
						before := v.BusTraffic()
						time.Sleep(time.Hour)
						if now := v.BusTraffic(); now != before {
							t.Errorf("on the bus: %+v, before %+v", now, before)
						}
					})
				})
			}
		}
	}
}

// A K-line of which little is read is closed as soon as the vehicle counts as parked: no keep-alive is
// left to the adapter until the next reading would be due.
func TestParkedInAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		v, _, end := lot(t, sim.OBDConfig{Protocol: '5', Denies: []byte{0x0D}}, k, Config{Wanted: map[string]float64{"fuel_level_pct": 0.01}})
		defer end()
		time.Sleep(123 * time.Second)
		for before := v.BusTraffic().Requests; v.BusTraffic().Requests == before; {
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(500 * time.Millisecond) // what is asked with it
		k.park()
		before := v.BusTraffic()
		time.Sleep(time.Minute)
		if now := v.BusTraffic(); now != before {
			t.Errorf("on the bus: %+v, before %+v", now, before)
		}
	})
}

// A line that becomes slow when little is asked, as Wi-Fi and Bluetooth do, is no adapter without
// a voltage.
func TestParkedSlowLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, volts := &keeper{}, new(atomic.Int64)
		_, slow, end := lot(t, sim.OBDConfig{}, k, Config{Deliver: func(r telemetry.Reading) {
			for _, f := range r.Fields {
				if f.Name == "battery_voltage_v" {
					volts.Add(1)
				}
			}
		}})
		defer end()
		time.Sleep(time.Minute)
		k.park()
		time.Sleep(9 * time.Second)
		slow.Store(int64(300 * time.Millisecond))
		before := volts.Load()
		time.Sleep(time.Minute)
		if n := volts.Load() - before; n < 25 {
			t.Errorf("%d voltages in a minute, want one every 2 s but for the first ones", n)
		}
	})
}
