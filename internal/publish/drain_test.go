package publish

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
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
	pass := func(to, from net.Conn) { late(to, from, roundTrip/2, nil) }
	return newProxy(t, broker, pass, pass)
}

// late copies until either side ends; then it ends the other one. What passes while hole,
// which may be nil, is set, is gone.
func late(to, from net.Conn, by time.Duration, hole *atomic.Bool) {
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
		if hole != nil && hole.Load() {
			continue
		}
		if _, err := to.Write(p.bytes); err != nil {
			break
		}
	}
	for hole != nil && hole.Load() { // it swallows the end, too
		time.Sleep(20 * time.Millisecond)
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

// drainBridge lets mosquitto's bridge, on this side of the link, send as many messages. It
// has them in memory when the link opens; how long it took until the last one arrived.
func drainBridge(t testing.TB, broker string, n int) time.Duration {
	t.Helper()
	far := strings.TrimPrefix(broker, "mqtt://")
	last := make(chan struct{}, 1)
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(broker).SetClientID("last"))
	if token := client.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	defer client.Disconnect(100)
	// The last one alone, or reading them would cost what the bridge needs.
	if token := client.Subscribe("vehicles/van-1/last", 1, func(mqtt.Client, mqtt.Message) { last <- struct{}{} }); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	open := make(chan struct{})
	gate := newProxy(t, far, func(to, from net.Conn) { <-open; late(to, from, 0, nil) }, func(to, from net.Conn) { late(to, from, 0, nil) })
	_, port, _ := net.SplitHostPort(gate)
	near := freePort(t)
	dir := t.TempDir()
	startMosquitto(t, dir, "allow_anonymous true\nlistener %[1]d 127.0.0.1\nmax_queued_messages 0\n"+fmt.Sprintf("max_inflight_messages %d\n", window)+
		"persistence true\npersistence_location "+dir+"/\nautosave_on_changes true\nautosave_interval 1000\n"+
		"connection far\naddress 127.0.0.1:"+port+"\ntopic # out 1\ncleansession false\nnotifications false\ntry_private false\n", []int{near})
	drainPaho(t, fmt.Sprintf("mqtt://127.0.0.1:%d", near), n-1)
	local := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(fmt.Sprintf("mqtt://127.0.0.1:%d", near)).SetClientID("load"))
	if token := local.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	if token := local.Publish("vehicles/van-1/last", 1, false, strings.Repeat("x", 1000)); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	local.Disconnect(100)
	began := time.Now()
	close(open)
	select {
	case <-last:
	case <-time.After(5 * time.Minute):
		t.Fatal("the last message did not arrive")
	}
	return time.Since(began)
}

// BenchmarkDrain empties a backlog of 20,000 records of 1 kB, from the buffer on disk,
// beside a bare paho sender with the same window, which has nothing to read or to keep, and
// mosquitto's bridge.
func BenchmarkDrain(b *testing.B) {
	contenders := []struct {
		name string
		took func(testing.TB, string, int) time.Duration
	}{{"paho", drainPaho}, {"telemetryd", drainOurs}, {"bridge", drainBridge}}
	for _, roundTrip := range []time.Duration{0, 50 * time.Millisecond, 100 * time.Millisecond} {
		var bare float64
		for _, who := range contenders {
			b.Run(fmt.Sprintf("%v/%s", roundTrip, who.name), func(b *testing.B) {
				port := freePort(b)
				startMosquitto(b, b.TempDir(), "allow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\nlistener %[1]d 127.0.0.1\n", []int{port})
				address := fmt.Sprintf("127.0.0.1:%d", port)
				if roundTrip > 0 {
					address = newFar(b, address, roundTrip)
				}
				var total time.Duration
				for b.Loop() {
					total += who.took(b, "mqtt://"+address, drained)
				}
				rate := float64(b.N*drained) / total.Seconds()
				if who.name == "paho" {
					bare = rate
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(rate, "messages/s")
				if bare > 0 {
					b.ReportMetric(rate/bare, "x-paho")
				}
			})
		}
	}
}

// The short form of the drain: all of a backlog arrives, each lane in the order in which it
// was recorded, whatever goes on meanwhile.
func TestDrain(t *testing.T) {
	t.Parallel()
	const backlogged, meanwhile = 2000, 100
	h := startHole(t, "drain", "", backlogged)
	for range meanwhile {
		h.load(t, 100)
		h.event(t, "harsh_braking", telemetry.Warning)
	}
	await(t, "everything", h.complete)
	newest := map[lane]uint64{}
	count := map[lane]int{}
	twice := 0
	seen := map[uint64]bool{}
	for _, a := range h.far.all() {
		if seen[a.Seq] {
			twice++
			continue
		}
		seen[a.Seq] = true
		if a.Seq <= newest[a.lane] {
			t.Errorf("%s: seq %d after %d", a.lane, a.Seq, newest[a.lane])
		}
		newest[a.lane] = a.Seq
		count[a.lane]++
	}
	if count[backfill] < backlogged || count[event] != meanwhile || count[live]+count[backfill] != backlogged+meanwhile || twice != 0 {
		t.Errorf("%v, %d twice", count, twice)
	}
}
