package publish

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// toll is a proxy that counts every byte it was given, either way, and passes ends on
// without losing what is under way.
type toll struct {
	address  string
	up, down atomic.Uint64
}

func newToll(t *testing.T, broker string) *toll {
	t.Helper()
	c := &toll{}
	var passing sync.WaitGroup
	pass := func(to, from net.Conn, n *atomic.Uint64) {
		buf := make([]byte, 32<<10)
		for {
			got, err := from.Read(buf)
			n.Add(uint64(got))
			_, _ = to.Write(buf[:got]) // what the other end no longer takes was sent all the same
			if err != nil {
				_ = to.(*net.TCPConn).CloseWrite()
				return
			}
		}
	}
	address, stop := serveTCP(t, func(near net.Conn) {
		far, err := net.Dial("tcp", broker)
		if err != nil {
			near.Close()
			return
		}
		passing.Go(func() {
			var both sync.WaitGroup
			both.Go(func() { pass(far, near, &c.up) })
			both.Go(func() { pass(near, far, &c.down) })
			both.Wait()
			near.Close()
			far.Close()
		})
	})
	c.address = address
	t.Cleanup(func() {
		stop()
		passing.Wait()
	})
	return c
}

// What the link has counted is what passes between it and the broker, to the byte: with
// handshakes that fail, a connection that the broker ends, what is published, and pings.
func TestLinkCountsEveryByte(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, cert, key := certificates(t, dir)
	ports := []int{freePort(t), freePort(t), freePort(t), freePort(t)}
	tlsLines := fmt.Sprintf("certfile %s\nkeyfile %s\n", cert, key)
	startMosquitto(t, dir, "allow_anonymous true\nlistener %[1]d 127.0.0.1\n"+
		"listener %[2]d 127.0.0.1\n"+tlsLines+"listener %[3]d 127.0.0.1\nprotocol websockets\n"+
		"listener %[4]d 127.0.0.1\nprotocol websockets\n"+tlsLines, ports)
	for i, scheme := range []string{"mqtt", "mqtts", "ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			c := newToll(t, fmt.Sprintf("127.0.0.1:%d", ports[i]))
			noTLS := newToll(t, fmt.Sprintf("127.0.0.1:%d", ports[0]))
			link := new(Link)
			r := startPublisherWith(t, scheme+"://"+c.address, Credentials{CAFile: ca}, func(p *Config) {
				p.Link, p.ClientID = link, scheme
				if p.Brokers[0].secure() {
					first, err := ParseBroker(scheme + "://" + noTLS.address)
					if err != nil {
						t.Fatal(err)
					}
					p.Brokers, p.Return = []Broker{first, p.Brokers[0]}, 300*time.Millisecond
				}
			})
			up, down := func() uint64 { return c.up.Load() + noTLS.up.Load() }, func() uint64 { return c.down.Load() + noTLS.down.Load() }
			exact := func(what string) {
				t.Helper()
				await(t, what, func() bool {
					sent, received := link.Sockets()
					return r.spool.Stats().Records == 0 && sent > 0 && sent == up() && received == down()
				})
			}
			for speed := range 20 {
				r.record(t, float64(speed))
			}
			exact("the same count after 20 batches")
			other := mqtt.NewClient(mqtt.NewClientOptions().SetClientID(scheme).SetAutoReconnect(false).
				AddBroker(fmt.Sprintf("%s://127.0.0.1:%d", scheme, ports[i])).SetTLSConfig(&tls.Config{InsecureSkipVerify: true}))
			if token := other.Connect(); !token.WaitTimeout(5*time.Second) || token.Error() != nil {
				t.Fatal(token.Error())
			}
			other.Disconnect(0)
			await(t, "a second connection", func() bool { return strings.Count(r.log.String(), "msg=connected") > 1 })
			r.record(t, 50)
			exact("the same count after the broker ended the connection")
			before, _ := link.Sockets()
			await(t, "a ping, or an attempt at the first broker", func() bool { sent, _ := link.Sockets(); return sent > before })
			exact("the same count after that")
			r.stop()
			await(t, "the same count of what was sent until the end", func() bool {
				sent, _ := link.Sockets()
				return sent == up()
			})
			if n := noTLS.up.Load(); (scheme == "mqtts" || scheme == "wss") != (n > 0) {
				t.Errorf("%d bytes of handshakes that failed", n)
			}
			total := link.Read()
			t.Logf("%d bytes sent, %d received; headers %d and %d", total.Sent, total.Received, total.SentHeaders, total.ReceivedHeaders)
		})
	}
}

// What has arrived when a connection is closed counts, though nobody has read it.
func TestLinkCountsUnread(t *testing.T) {
	written := make(chan struct{})
	address, stop := serveTCP(t, func(c net.Conn) {
		_, _ = c.Write(make([]byte, 150)) // one segment
		close(written)
		_, _ = io.Copy(io.Discard, c)
		c.Close()
	})
	defer stop()
	var link Link
	c, err := link.dial(t.Context(), &net.Dialer{}, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	<-written
	if n, err := c.Read(make([]byte, 50)); n != 50 || err != nil {
		t.Fatal(n, err)
	}
	for range 2 { // the second counts nothing
		c.Close()
	}
	if sent, received := link.Sockets(); sent != 0 || received != 150 {
		t.Errorf("%d sent, %d received", sent, received)
	}
}

// While backlog has to wait, live batches and events go; then it goes, too.
func TestBacklogWaits(t *testing.T) {
	t.Parallel()
	ports := []int{freePort(t)}
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nlistener %[1]d 127.0.0.1\n", ports)
	s, clock := backlogOf(t, 3)
	var free atomic.Bool
	var counters Counters
	r := startPublisherWith(t, fmt.Sprintf("mqtt://127.0.0.1:%d", ports[0]), Credentials{}, func(c *Config) {
		c.Store, c.Clock, c.Counters, c.Backlog = s, clock, &counters, free.Load
	})
	zero, q := clock.Zero()
	put := func() {
		e := telemetry.Event{Type: "bell", Severity: telemetry.Info, At: clock.Uptime()}
		rec, err := e.Seal("van-1", "boot", zero, q)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := rec.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(spool.Event, payload); err != nil {
			t.Fatal(err)
		}
	}
	put()
	r.spool = s
	for range 5 {
		r.record(t, 50)
	}
	put()
	await(t, "two events and five live batches", func() bool { return counters.Events.Load() == 2 && counters.Live.Load() == 5 })
	if n := s.Stats().Records; n != 3 || counters.Backfill.Load() != 0 {
		t.Errorf("%d records wait, %d of the backlog were sent", n, counters.Backfill.Load())
	}
	free.Store(true)
	put()
	await(t, "the backlog", func() bool { return counters.Backfill.Load() == 3 && s.Stats().Records == 0 })
}
