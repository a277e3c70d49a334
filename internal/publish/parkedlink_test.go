package publish

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"telemetryd/internal/telemetry"
)

// The network forgets a connection that is silent for long. What is sent on it then, an
// emergency above all, is not kept for the minute that a busy broker has.
func TestParkedDeadConnection(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nlistener %[1]d 127.0.0.1\n", []int{port})
	broker := fmt.Sprintf("127.0.0.1:%d", port)
	w, told, s := watch(t, "mqtt://"+broker), watchStates(t, "mqtt://"+broker), newStand()
	var n atomic.Int32
	var dead atomic.Bool
	pass := func(to, from net.Conn) { // the second connection is the one that dies
		hole := &dead
		if way := n.Add(1); way != 3 && way != 4 {
			hole = nil
		}
		late(to, from, 0, hole)
	}
	address := newProxy(t, broker, pass, pass)
	t.Cleanup(func() { dead.Store(false) }) // before the proxy's own
	r := startPublisherWith(t, "mqtt://"+address, Credentials{}, func(c *Config) { c.WriteOnly, c.Parked = true, Parked{Is: s.is} })
	await(t, "online", func() bool { list, _ := told.seen(); return list == "online" })
	s.park(true)
	await(t, "parked", func() bool { list, _ := told.seen(); return list == "online parked" })
	time.Sleep(time.Second) // until the PUBACK of the status has come: nothing tells when
	dead.Store(true)
	began := time.Now()
	sos := r.event(t, "emergency", telemetry.Emergency)
	for there := false; !there; _, there = w.find(sos) {
		if time.Since(began) > noticed {
			t.Fatalf("not noticed within %v:\n%s", noticed, r.log)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("it took %v", time.Since(began))
	if said := r.log.String(); !strings.Contains(said, "code=broker_missing") || !strings.Contains(said, "has gone silent") {
		t.Errorf("%s", said)
	}
}

// What a command that came on the last connection has answered is not kept for the next hour.
func TestParkedCloseAnswers(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nlistener %[1]d 127.0.0.1\n", []int{port})
	direct := fmt.Sprintf("mqtt://127.0.0.1:%d", port)
	g, s, w, outbox := newGate(t, fmt.Sprintf("127.0.0.1:%d", port)), newStand(), watch(t, direct), NewOutbox()
	s.park(true)
	startPublisherWith(t, "mqtt://"+g.address, Credentials{}, func(c *Config) {
		c.Outbox, c.Parked = outbox, Parked{Is: s.is, Close: true, linger: time.Second}
	})
	closed := func(n int) func() bool {
		return func() bool { alive, open := g.seen(); return len(alive) == n && open == 0 }
	}
	await(t, "the end of the connection", closed(1))
	outbox.Add([]byte(`{"id":"1","state":"done"}`))
	await(t, "the answer", func() bool { all := w.all(); return len(all) == 1 && all[0].lane == responses })
	await(t, "the end of its connection", closed(2))
	outbox.Add([]byte(`{"id":"","state":"refused"}`)) // as at each connection
	time.Sleep(2 * time.Second)                       // what is proven is that it is not opened again
	if !closed(2)() {
		t.Error("the connection is open again")
	}
}

// A stop while there is no connection, since the vehicle was parked, says that it is offline,
// and takes no longer than any stop: also where the next connection was being made, and where
// the broker is slow.
func TestParkedStop(t *testing.T) {
	t.Parallel()
	for name, closes := range map[string]bool{"closed": true, "being made anew": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			connects, state := 0, ""
			hangs, stops := make(chan struct{}), make(chan struct{})
			address, stop := fake(t, func(p packets.ControlPacket) (packets.ControlPacket, bool) {
				mu.Lock()
				defer mu.Unlock()
				switch p := p.(type) {
				case *packets.ConnectPacket:
					connects++
					switch {
					case connects == 2 && closes:
						time.Sleep(time.Second)
					case connects == 2: // it has no answer: a network that has just gone
						close(hangs)
						<-stops
					}
				case *packets.PublishPacket:
					var status struct{ State string }
					if err := json.Unmarshal(p.Payload, &status); err != nil {
						t.Errorf("%v: %s", err, p.Payload)
					}
					state = status.State
					if connects == 2 { // no PUBACK
						return packets.NewControlPacket(packets.Pingresp), true
					}
				}
				return nil, true
			})
			defer stop()
			s := newStand()
			r := startPublisherWith(t, "mqtt://"+address, Credentials{}, func(c *Config) {
				c.WriteOnly, c.Parked = true, Parked{Is: s.is, Close: closes, linger: 10 * time.Millisecond}
			})
			seen := func() string {
				mu.Lock()
				defer mu.Unlock()
				return state
			}
			await(t, "online", func() bool { return seen() == "online" })
			s.park(true)
			if closes {
				await(t, "parked", func() bool { return seen() == "parked" })
				time.Sleep(500 * time.Millisecond) // until the connection is closed
			} else {
				<-hangs
			}
			began := time.Now()
			close(stops)
			r.stop()
			if took := time.Since(began); took > 1900*time.Millisecond {
				t.Errorf("the stop took %v", took)
			}
			await(t, "offline", func() bool { return seen() == "offline" })
		})
	}
}
