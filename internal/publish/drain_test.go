package publish

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"telemetryd/internal/spool"
	"telemetryd/internal/status"
	"telemetryd/internal/telemetry"
)

// newProxy passes connections to a broker on, with up and down for what goes to it and
// comes from it.
func newProxy(t testing.TB, broker string, up, down func(to, from net.Conn)) (address string) {
	t.Helper()
	var passing sync.WaitGroup
	address, stop := serveTCP(t, func(near net.Conn) {
		far, err := net.Dial("tcp", broker)
		if err != nil {
			near.Close()
			return
		}
		passing.Go(func() { up(far, near) })
		passing.Go(func() { down(near, far) })
	})
	t.Cleanup(func() {
		stop()
		passing.Wait()
	})
	return address
}

// newFar is a proxy where each byte comes half a round trip late, either way.
func newFar(t testing.TB, broker string, roundTrip time.Duration) (address string) {
	t.Helper()
	pass := func(to, from net.Conn) { late(to, from, roundTrip/2) }
	return newProxy(t, broker, pass, pass)
}

// late copies until either side ends; then it ends the other one.
func late(to, from net.Conn, by time.Duration) {
	type piece struct {
		bytes []byte
		due   time.Time
	}
	under := make(chan piece, 1<<16)
	go func() {
		defer close(under)
		for {
			buf := make([]byte, 32<<10)
			n, err := from.Read(buf)
			if n > 0 {
				under <- piece{buf[:n], time.Now().Add(by)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range under {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.bytes); err != nil {
			break
		}
	}
	to.Close()
	from.Close()
	for range under { // until the reader has ended
	}
}

const drained = 20000

// backlogOf fills a buffer with records of about 1 kB that are old.
func backlogOf(t testing.TB, n int) (*spool.Spool, *telemetry.Clock) {
	t.Helper()
	dir := t.TempDir()
	began := time.Now()
	clock := telemetry.NewClock(telemetry.ClockConfig{BootID: "boot", Uptime: func() time.Duration { return time.Since(began) },
		System: func() telemetry.SystemTime { return telemetry.SystemTime{Now: time.Now(), Synced: true} }})
	s, err := spool.Open(dir, spool.Options{StreamID: "earlier"})
	if err != nil {
		t.Fatal(err)
	}
	zero, q := clock.Zero()
	var b telemetry.Batch
	b.Add(telemetry.Reading{Fields: []telemetry.Field{{Name: "note", Value: telemetry.Text(strings.Repeat("x", 780))}}})
	payload, err := b.Seal("van-1", "another", zero, q).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		if _, err := s.Append(spool.Telemetry, payload); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = spool.Open(dir, spool.Options{StreamID: "stream"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, clock
}

// drainOurs publishes all of a backlog and returns how long it took.
func drainOurs(t testing.TB, broker string, n int) time.Duration {
	t.Helper()
	s, clock := backlogOf(t, n)
	b, err := ParseBroker(broker)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	began := time.Now()
	running.Go(func() {
		Run(ctx, Config{Brokers: []Broker{b}, ClientID: "drain", TopicPrefix: "vehicles", VehicleID: "van-1", StreamID: "stream", Version: "test",
			Store: s, Clock: clock, Health: status.NewHealth(log), Log: log})
	})
	for s.Stats().Records > 0 && time.Since(began) < 5*time.Minute {
		time.Sleep(5 * time.Millisecond)
	}
	took := time.Since(began)
	cancel()
	running.Wait()
	return took
}

// drainPaho is a bare sender that keeps the same window full.
func drainPaho(t testing.TB, broker string, n int) time.Duration {
	t.Helper()
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(broker).SetClientID("paho").SetOrderMatters(false))
	began := time.Now()
	if token := client.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	defer client.Disconnect(100)
	payload := []byte(strings.Repeat("x", 1000))
	var underway []mqtt.Token
	for range n {
		if len(underway) == window {
			underway[0].Wait()
			underway = underway[1:]
		}
		underway = append(underway, client.Publish("vehicles/van-1/backfill", 1, false, payload))
	}
	for _, token := range underway {
		if token.Wait(); token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	return time.Since(began)
}

// BenchmarkDrain empties a backlog of 20,000 records of 1 kB, from the buffer on disk,
// beside a bare paho sender with the same window, which has nothing to read or to keep.
func BenchmarkDrain(b *testing.B) {
	for _, roundTrip := range []time.Duration{0, 50 * time.Millisecond, 100 * time.Millisecond} {
		var bare float64
		for _, who := range []string{"paho", "telemetryd"} {
			b.Run(fmt.Sprintf("%v/%s", roundTrip, who), func(b *testing.B) {
				port := freePort(b)
				startMosquitto(b, b.TempDir(), "allow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\nlistener %[1]d 127.0.0.1\n", []int{port})
				address := fmt.Sprintf("127.0.0.1:%d", port)
				if roundTrip > 0 {
					address = newFar(b, address, roundTrip)
				}
				for b.Loop() {
					took := drainPaho
					if who == "telemetryd" {
						took = drainOurs
					}
					rate := drained / took(b, "mqtt://"+address, drained).Seconds()
					b.ReportMetric(rate, "messages/s")
					b.ReportMetric(0, "ns/op")
					if who == "paho" {
						bare = rate
					}
					if bare > 0 {
						b.ReportMetric(rate/bare, "x-paho")
					}
				}
			})
		}
	}
}
