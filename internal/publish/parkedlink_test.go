package publish

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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
