package publish

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// oneBatch is the stored form of a batch of another boot with a text of so many bytes.
func oneBatch(t *testing.T, clock *telemetry.Clock, bytes int) []byte {
	t.Helper()
	var b telemetry.Batch
	b.Add(telemetry.Reading{Fields: []telemetry.Field{{Name: "note", Value: telemetry.Text(strings.Repeat("x", bytes))}}})
	zero, q := clock.Zero()
	payload, err := b.Seal("van-1", "another", zero, q).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

// What is larger than the broker takes is named as lost, and costs no connection.
func TestMaxMessage(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nmax_packet_size 5000\nlistener %[1]d 127.0.0.1\n", []int{port})
	r := startPublisherWith(t, fmt.Sprintf("mqtt://127.0.0.1:%d", port), Credentials{}, func(c *Config) {
		c.Limits.MaxMessage = 5000
		if room := c.Limits.Room(c.TopicPrefix, c.VehicleID); room != 5000-len("ttttt")-2-len("vehicles/van-1/telemetry")-2 {
			t.Errorf("room for %d bytes", room)
		}
		c.Rates = func() (rates []telemetry.Rate) { // a status that is too large with them
			for n := range 100 {
				rates = append(rates, telemetry.Rate{Signal: fmt.Sprint("long_term_fuel_trim_bank", n), Wanted: 1})
			}
			return rates
		}
	})
	for _, size := range []int{100, 4000, 6000, 100} {
		if _, err := r.spool.Append(spool.Telemetry, oneBatch(t, r.clock, size)); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the rest", func() bool { return r.spool.Stats().Records == 0 })
	r.stop()
	said := r.log.String()
	if strings.Count(said, "is larger than --max-message 5000") != 1 || !strings.Contains(said, "seq=3") || strings.Count(said, "msg=connected") != 1 || strings.Contains(said, "broker_") {
		t.Errorf("%s", said)
	}
}

// Messages leave evenly, and one that was late does not hold the next ones up.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(Limits{Rate: 10}.limiter())
		began := time.Now()
		for n := range 100 {
			for !p.open() {
				<-p.opens
				time.Sleep(time.Duration(n%5) * 10 * time.Millisecond) // a busy machine
			}
			p.spent()
		}
		if took := time.Since(began); took < 9900*time.Millisecond || took > 10*time.Second {
			t.Errorf("100 messages at 10 a second took %v", took)
		}
	})
	p := newPace(Limits{}.limiter())
	for p.spent(); !p.open(); {
		t.Fatal("no limit holds messages up")
	}
}

// With few messages a second, what is live goes before a backlog that takes long.
func TestLiveFirstAtARate(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nlistener %[1]d 127.0.0.1\n", []int{port})
	r := startPublisherWith(t, fmt.Sprintf("mqtt://127.0.0.1:%d", port), Credentials{}, func(c *Config) { c.Limits.Rate = 10 })
	for range 60 {
		if _, err := r.spool.Append(spool.Telemetry, oneBatch(t, r.clock, 100)); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the drain", func() bool { return r.spool.Stats().Records < 58 })
	began := time.Now()
	r.record(t, 50)
	newest, _ := r.spool.Newest(spool.Telemetry)
	await(t, "the live batch", func() bool {
		_, waits, err := r.spool.Get(newest)
		return err == nil && !waits
	})
	if left, took := r.spool.Stats().Records, time.Since(began); left < 40 || took > time.Second {
		t.Errorf("it took %v, and %d of the backlog are left", took, left)
	}
}

// No more than the broker allows is without PUBACK, status included.
func TestInFlight(t *testing.T) {
	for limit, want := range map[int]int{1: 1, 4: 4, 0: MostInFlight} {
		var mu sync.Mutex
		published := 0
		done := make(chan struct{})
		address, stop := serveTCP(t, func(c net.Conn) {
			defer c.Close()
			for {
				packet, err := packets.ReadPacket(c)
				if err != nil {
					return
				}
				switch packet.(type) {
				case *packets.ConnectPacket:
					_, _ = c.Write([]byte{0x20, 2, 0, 0}) // CONNACK
					_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
				case *packets.PublishPacket:
					mu.Lock()
					if published++; published == want {
						close(done)
					}
					mu.Unlock()
				}
			}
		})
		r := startPublisherWith(t, "mqtt://"+address, Credentials{}, func(c *Config) { c.Limits.InFlight = limit })
		for range MostInFlight + 10 { // of a rank that may use all the room
			r.event(t, "sos", telemetry.Emergency)
		}
		<-done
		time.Sleep(200 * time.Millisecond) // what is proven is that no more come
		mu.Lock()
		if published != want {
			t.Errorf("%d in flight where %d are allowed", published, want)
		}
		mu.Unlock()
		r.stop()
		stop()
	}
}

// A broker without retained messages gets none, and arrival is checked all the same; with
// them it ends each connection.
func TestNoRetain(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nretain_available false\nlistener %[1]d 127.0.0.1\n", []int{port})
	address := fmt.Sprintf("mqtt://127.0.0.1:%d", port)
	without := startPublisherWith(t, address, Credentials{}, func(c *Config) { c.Limits.NoRetain = true })
	without.record(t, 50)
	await(t, "the PUBACK of a batch", func() bool { return without.spool.Stats().Records == 0 })
	with := startPublisherWith(t, address, Credentials{}, func(c *Config) { c.ClientID = "with" })
	await(t, "a refusal", func() bool { return strings.Contains(with.log.String(), "broker_") })
	with.stop()
	time.Sleep(echoLimit + 2*time.Second) // what is proven is that nothing is said
	if said := without.log.String(); strings.Count(said, "msg=connected") != 1 || strings.Contains(said, "broker_") {
		t.Errorf("%s", said)
	}
}
