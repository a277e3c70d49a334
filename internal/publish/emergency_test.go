package publish

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// arrival is a message at the far end.
type arrival struct {
	lane     lane
	Stream   string `json:"stream_id"`
	Seq      uint64
	Type     string
	Severity telemetry.Severity
	at       time.Time
}

// watcher notes in order what arrives at a broker, the status left out.
type watcher struct {
	mu       sync.Mutex
	arrivals []arrival
}

func watch(t testing.TB, broker string) *watcher {
	t.Helper()
	w := &watcher{}
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(broker).SetClientID("watcher"))
	if token := client.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { client.Disconnect(100) })
	token := client.Subscribe("vehicles/van-1/+", 1, func(_ mqtt.Client, m mqtt.Message) {
		a := arrival{lane: lane(m.Topic()[strings.LastIndex(m.Topic(), "/")+1:]), at: time.Now()}
		if a.lane == statusOf {
			return
		}
		if err := json.Unmarshal(m.Payload(), &a); err != nil {
			t.Errorf("%v: %s", err, m.Payload())
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.arrivals = append(w.arrivals, a)
	})
	if token.Wait(); token.Error() != nil {
		t.Fatal(token.Error())
	}
	return w
}

// all is what has arrived so far.
func (w *watcher) all() []arrival {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]arrival(nil), w.arrivals...)
}

// find returns the first arrival of a seq of this stream.
func (w *watcher) find(seq uint64) (arrival, bool) {
	for _, a := range w.all() {
		if a.Seq == seq && a.Stream == stream {
			return a, true
		}
	}
	return arrival{}, false
}

// event appends an event and returns its seq.
func (r *rig) event(t *testing.T, kind string, severity telemetry.Severity) uint64 {
	t.Helper()
	zero, q := r.clock.Zero()
	sealed, err := telemetry.Event{Type: kind, Severity: severity, At: r.clock.Uptime()}.Seal("van-1", "boot", zero, q)
	if err != nil {
		t.Fatal(err)
	}
	return r.appendEvent(t, sealed)
}

// appendEvent appends a sealed event and returns its seq, which is its LSN in a new buffer.
func (r *rig) appendEvent(t *testing.T, sealed telemetry.Record) uint64 {
	t.Helper()
	payload, err := sealed.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	record, err := r.spool.Append(spool.Event, payload)
	if err != nil {
		t.Fatal(err)
	}
	return record.Seq
}

// load appends a batch of about size bytes.
func (r *rig) load(t *testing.T, size int) {
	t.Helper()
	var b telemetry.Batch
	b.Add(telemetry.Reading{Arrived: r.clock.Uptime(), Fields: []telemetry.Field{{Name: "note", Value: telemetry.Text(strings.Repeat("x", size))}}})
	r.append(t, &b)
}

// An emergency that was recorded behind a long backlog while there was no connection is
// the first message on it, of all that the broker gets.
func TestEmergencyOvertakesBacklog(t *testing.T) {
	t.Parallel()
	ports := []int{freePort(t)}
	address := fmt.Sprintf("mqtt://127.0.0.1:%d", ports[0])
	r := startPublisher(t, address, Credentials{}) // nobody listens yet
	for range 300 {
		r.load(t, 1000)
		r.event(t, "harsh_braking", telemetry.Warning)
	}
	sos := r.event(t, "sos", telemetry.Emergency)
	r.load(t, 1000)
	another := r.event(t, "crash", telemetry.Emergency)
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nmax_queued_messages 0\nlistener %[1]d 127.0.0.1\n", ports)
	w := watch(t, address)
	await(t, "all PUBACKs", func() bool { return r.spool.Stats().Records == 0 })
	await(t, "all messages", func() bool { return len(w.all()) >= 603 })
	got := w.all()
	if len(got) != 603 || got[0].Seq != sos || got[1].Seq != another {
		t.Errorf("%d messages, the first are %+v", len(got), got[:3])
	}
	for _, a := range got[:2] {
		if a.lane != event || a.Severity != telemetry.Emergency {
			t.Errorf("%+v", a)
		}
	}
}

// On a slow link with a queue that holds a lot, an emergency waits for a moment at most:
// not behind the backlog, nor live batches, nor events, though all of them would fill it.
func TestEmergencyOnSlowLink(t *testing.T) {
	t.Parallel()
	const (
		rate   = 16 << 10        // bytes a second
		moment = 3 * time.Second // leastTimely and what slowAck allows, and the round trip
	)
	ports := []int{freePort(t)}
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nmax_queued_messages 0\nlistener %[1]d 127.0.0.1\n", ports)
	broker := fmt.Sprintf("127.0.0.1:%d", ports[0])
	w := watch(t, "mqtt://"+broker)
	slow := newProxy(t, broker, func(to, from net.Conn) { atRate(to, from, rate) }, func(to, from net.Conn) { late(to, from, 50*time.Millisecond, nil) })
	r := startPublisherWith(t, "mqtt://"+slow, Credentials{}, func(c *Config) {
		fill := &rig{spool: c.Store.(*spool.Spool), clock: c.Clock}
		for range 300 { // there at the start: backlog
			fill.load(t, 1000)
		}
	})
	for range 300 {
		r.event(t, "harsh_braking", telemetry.Warning)
	}
	for round := range 3 {
		for range 40 { // live, more than the link takes
			r.load(t, 1000)
		}
		await(t, "the link to fill", func() bool { return len(w.all()) > 50*(round+1) })
		began := time.Now()
		sos := r.event(t, "sos", telemetry.Emergency)
		await(t, "the emergency", func() bool { _, ok := w.find(sos); return ok })
		a, _ := w.find(sos)
		t.Logf("arrived after %v", a.at.Sub(began))
		if took := a.at.Sub(began); took > moment {
			t.Errorf("the emergency took %v", took)
		}
	}
}

// atRate copies at so many bytes a second until either side ends; then it ends the other.
func atRate(to, from net.Conn, bytes int) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, bytes/50)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		time.Sleep(time.Duration(n) * time.Second / time.Duration(bytes))
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
