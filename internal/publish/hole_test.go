package publish

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"telemetryd/internal/modem"
	"telemetryd/internal/spool"
)

// noticed is within how long a black hole has to be noticed, whatever is under way.
const noticed = 20 * time.Second

// holeRig is a publisher behind a link that can swallow bytes, without a word.
type holeRig struct {
	*rig
	traffic, direction string
	far                *watcher
	up, down           atomic.Bool
}

func (r *holeRig) String() string { return r.traffic + ", " + r.direction }

func startHole(t *testing.T, traffic, direction string, backlogged int) *holeRig {
	t.Helper()
	ports := []int{freePort(t)}
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nmax_queued_messages 0\nlistener %[1]d 127.0.0.1\n", ports)
	broker := fmt.Sprintf("127.0.0.1:%d", ports[0])
	h := &holeRig{traffic: traffic, direction: direction, far: watch(t, "mqtt://"+broker)}
	address := newProxy(t, broker,
		func(to, from net.Conn) { late(to, from, 25*time.Millisecond, &h.up) },
		func(to, from net.Conn) { late(to, from, 25*time.Millisecond, &h.down) })
	t.Cleanup(func() { // before the proxy's own
		h.up.Store(false)
		h.down.Store(false)
	})
	h.rig = startPublisherWith(t, "mqtt://"+address, Credentials{}, func(c *Config) {
		before := &rig{spool: c.Store.(*spool.Spool), clock: c.Clock}
		for range backlogged {
			before.load(t, 1000)
		}
	})
	return h
}

// complete reports whether everything recorded has arrived.
func (r *holeRig) complete() bool {
	seen := map[uint64]bool{}
	for _, a := range r.far.all() {
		seen[a.Seq] = true
	}
	return r.spool.Stats().Records == 0 && uint64(len(seen)) == r.spool.Stats().LastSeq
}

// A link that swallows bytes, in one direction or both, is noticed in time whatever is
// under way; and when it is well again all arrives.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	const backlogged = 3000
	var rigs []*holeRig
	for _, direction := range []string{"both", "up", "down"} {
		rigs = append(rigs, startHole(t, "idle", direction, 0), startHole(t, "a message a second", direction, 0))
	}
	for _, r := range rigs {
		r.load(t, 100)
		await(t, r.String(), r.complete)
	}
	for _, direction := range []string{"both", "up", "down"} {
		r := startHole(t, "drain", direction, backlogged)
		rigs = append(rigs, r)
		await(t, r.String(), func() bool { return len(r.far.all()) > backlogged/10 })
		r.up.Store(direction != "down") // before it is drained
		r.down.Store(direction != "up")
	}
	began := time.Now()
	for _, r := range rigs {
		r.up.Store(r.direction != "down")
		r.down.Store(r.direction != "up")
	}
	waiting := slices.Clone(rigs)
	for next := began; len(waiting) > 0 && time.Since(began) <= noticed; time.Sleep(20 * time.Millisecond) { // real peers, real time
		waiting = slices.DeleteFunc(waiting, func(r *holeRig) bool {
			there := strings.Contains(r.log.String(), "code=broker_missing")
			if there {
				t.Logf("%s: noticed after %v", r, time.Since(began).Round(100*time.Millisecond))
				if r.traffic == "drain" && r.spool.Stats().Records == 0 {
					t.Errorf("%s: was drained before", r)
				}
				r.up.Store(false)
				r.down.Store(false)
			}
			return there
		})
		if time.Now().After(next) {
			next = next.Add(time.Second)
			for _, r := range rigs {
				if r.traffic == "a message a second" {
					r.load(t, 100)
				}
			}
		}
	}
	for _, r := range waiting {
		t.Fatalf("%s: not noticed for %v", r, noticed)
	}
	for deadline := time.Now().Add(time.Minute); slices.ContainsFunc(rigs, func(r *holeRig) bool { return !r.complete() }); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("after the hole not all arrives")
		}
	}
}

// lateAcks copies what a broker says, PUBACKs so much later, or not at all when acks are
// to be dropped. All else, PINGRESP above all, passes at once.
func lateAcks(to, from net.Conn, by time.Duration, drop *atomic.Bool) {
	defer to.Close()
	defer from.Close()
	var mu sync.Mutex // a packet at a time
	for {
		p, err := packets.ReadPacket(from)
		if err != nil {
			return
		}
		write := func() {
			mu.Lock()
			defer mu.Unlock()
			_ = p.Write(to)
		}
		switch _, isAck := p.(*packets.PubackPacket); {
		case isAck && drop.Load():
		case isAck && by > 0:
			defer time.AfterFunc(by, write).Stop()
		default:
			write()
		}
	}
}

// PUBACKs that take 15 s, as when a cluster fails over, do not end a connection on which
// PINGREQs are answered.
func TestSlowPUBACKs(t *testing.T) {
	t.Parallel()
	ports := []int{freePort(t)}
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nlistener %[1]d 127.0.0.1\n", ports)
	broker := fmt.Sprintf("127.0.0.1:%d", ports[0])
	var drop atomic.Bool
	far := watch(t, "mqtt://"+broker)
	r := startPublisher(t, "mqtt://"+newProxy(t, broker,
		func(to, from net.Conn) { late(to, from, 0, nil) },
		func(to, from net.Conn) { lateAcks(to, from, 15*time.Second, &drop) }), Credentials{})
	for range 5 {
		r.load(t, 100)
		time.Sleep(time.Second) // real peers, real time
	}
	sos := r.event(t, "sos", "emergency")
	await(t, "an emergency among PUBACKs that are late", func() bool { _, ok := far.find(sos); return ok })
	if n := r.spool.Stats().Records; n != 6 {
		t.Errorf("%d of 6 records wait for their PUBACK", n)
	}
	await(t, "all PUBACKs", func() bool { return r.spool.Stats().Records == 0 })
	if said := r.log.String(); strings.Count(said, "msg=connected") != 1 || strings.Contains(said, "not reached") || len(far.all()) != 6 {
		t.Errorf("%d messages; %s", len(far.all()), said)
	}
}

// A broker that answers PINGREQs and has forgotten its PUBACKs is connected to anew, and
// nobody is suspected for it.
func TestForgottenPUBACKs(t *testing.T) {
	t.Parallel()
	ports := []int{freePort(t)}
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nlistener %[1]d 127.0.0.1\n", ports)
	broker := fmt.Sprintf("127.0.0.1:%d", ports[0])
	var drop atomic.Bool
	drop.Store(true)
	r := startPublisherWith(t, "mqtt://"+newProxy(t, broker,
		func(to, from net.Conn) { late(to, from, 0, nil) },
		func(to, from net.Conn) { lateAcks(to, from, 0, &drop) }), Credentials{}, func(c *Config) { c.ackLimit = 2 * time.Second })
	for range 5 {
		r.load(t, 100)
	}
	await(t, "several connections", func() bool { return strings.Count(r.log.String(), "msg=connected") >= 3 })
	drop.Store(false)
	await(t, "all PUBACKs", func() bool { return r.spool.Stats().Records == 0 })
	if said := r.log.String(); !strings.Contains(said, "has acknowledged nothing") || strings.Contains(said, "given up") {
		t.Errorf("%s", said)
	}
}

// A message that takes longer on the link than a PINGRESP may is waited for, after one
// connection that was not.
func TestLargeOnSlowLink(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nlistener %[1]d 127.0.0.1\n", []int{port})
	proxy, err := modem.NewProxy(fmt.Sprintf("127.0.0.1:%d", port), modem.Link{Rate: 3300, RoundTrip: 50 * time.Millisecond, Queue: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	r := startPublisher(t, "mqtt://"+proxy.Address, Credentials{})
	r.load(t, 64_000)
	for deadline := time.Now().Add(2 * time.Minute); r.spool.Stats().Records > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not arrive:\n%s", r.log)
		}
	}
	if n := strings.Count(r.log.String(), "has gone silent"); n < 1 || n > 3 {
		t.Errorf("%d connections went silent:\n%s", n, r.log)
	}
}
