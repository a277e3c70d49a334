package obd

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"telemetryd/internal/port"
	"telemetryd/internal/telemetry"
	"telemetryd/sim"
)

// stopper ends a context when a text is sent, and notes what is sent from then on.
type stopper struct {
	at   string
	stop context.CancelFunc

	mu      sync.Mutex
	stopped bool
	after   []string
}

func (s *stopper) Opened(port.Address) {}
func (s *stopper) Received([]byte)     {}
func (s *stopper) Closed(error)        {}

func (s *stopper) Sent(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		s.after = append(s.after, string(b))
	} else if string(b) == s.at+"\r" {
		s.stopped = true
		s.stop()
	}
}

// silentHealth is for who does not look.
type silentHealth struct{}

func (silentHealth) Set(string, telemetry.Condition) {}
func (silentHealth) Clear(string, string)            {}

// Whenever the end comes, no request is sent after it, and the bus is closed if it is one
// that the adapter would keep awake: also while it is still looked for.
func TestStop(t *testing.T) {
	for _, protocol := range []byte{'3', '5', '6', '1'} {
		for _, at := range []string{"ATZ", "ATDPN", "0100", "0120", "0140", "0A"} {
			t.Run(fmt.Sprintf("%c/%s", protocol, at), func(t *testing.T) {
				t.Parallel()
				q := new(requests)
				v, err := sim.Start(t.Context(), sim.Config{Seed: 1, Speedup: 10, OBD: sim.OBDConfig{Listen: "pty", Protocol: protocol, OnRequest: q.note}})
				if err != nil {
					t.Fatal(err)
				}
				defer v.Close()
				a, err := port.Parse(v.OBDAddress(), "serial")
				if err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
				defer stop()
				tap, start := &stopper{at: at, stop: stop}, time.Now()
				var log bytes.Buffer
				Run(ctx, Config{Address: &a, Tap: tap, Health: silentHealth{}, Uptime: func() time.Duration { return time.Since(start) },
					Wanted:  map[string]float64{"control_module_voltage_v": 5},
					Deliver: func(telemetry.Reading) {}, Log: slog.New(slog.NewTextHandler(&log, nil))})
				var want []string
				if kLine := protocol == '3' || protocol == '5'; at[0] == '0' && (kLine || at == "0100") {
					want = []string{" ", "ATPC\r"} // at 0100 no bus is known yet
				}
				tap.mu.Lock()
				defer tap.mu.Unlock()
				if !tap.stopped || !slices.Equal(tap.after, want) {
					t.Errorf("stopped %v, sent after it: %q, want %q", tap.stopped, tap.after, want)
				}
				time.Sleep(100 * time.Millisecond) // the request that was just sent
				n, traffic := q.count(), v.BusTraffic()
				time.Sleep(200 * time.Millisecond)
				if q.count() != n || v.BusTraffic() != traffic {
					t.Errorf("on the bus after the end: %d requests, then %d; %+v, then %+v", n, q.count(), traffic, v.BusTraffic())
				}
			})
		}
	}
}
