package publish

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"telemetryd/internal/telemetry"
)

// stand is a vehicle that is parked when the test says so.
type stand struct {
	mu      sync.Mutex
	parked  bool
	changed chan struct{}
}

func newStand() *stand { return &stand{changed: make(chan struct{})} }

func (s *stand) is() (bool, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parked, s.changed
}

func (s *stand) park(parked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parked = parked
	close(s.changed)
	s.changed = make(chan struct{})
}

// gate is a proxy in front of a broker that notes the keep-alive of each connection, and how
// many are open.
type gate struct {
	address string
	mu      sync.Mutex
	alive   []uint16
	open    int
}

func newGate(t *testing.T, broker string) *gate {
	t.Helper()
	g := &gate{}
	g.address = newProxy(t, broker, func(to, from net.Conn) {
		p, err := packets.ReadPacket(from)
		connect, ok := p.(*packets.ConnectPacket)
		if err != nil || !ok {
			return
		}
		g.mu.Lock()
		g.alive = append(g.alive, connect.Keepalive)
		g.open++
		g.mu.Unlock()
		if p.Write(to) == nil {
			_, _ = io.Copy(to, from)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.open--
	}, func(to, from net.Conn) { _, _ = io.Copy(to, from) })
	return g
}

func (g *gate) seen() (alive []uint16, open int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.alive), g.open
}

// states notes the states that a broker is told, in order, equal neighbours once.
type states struct {
	mu   sync.Mutex
	list []string
	n    int // with equal ones
}

func watchStates(t *testing.T, broker string) *states {
	t.Helper()
	s := &states{}
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(broker).SetClientID("states"))
	if token := client.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { client.Disconnect(100) })
	token := client.Subscribe("vehicles/van-1/status", 1, func(_ mqtt.Client, m mqtt.Message) {
		var status struct{ State string }
		if err := json.Unmarshal(m.Payload(), &status); err != nil {
			t.Errorf("%v: %s", err, m.Payload())
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.n++; len(s.list) == 0 || s.list[len(s.list)-1] != status.State {
			s.list = append(s.list, status.State)
		}
	})
	if token.Wait(); token.Error() != nil {
		t.Fatal(token.Error())
	}
	return s
}

func (s *states) seen() (list string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.list, " "), s.n
}

// A parked vehicle's connection has a longer keep-alive, and its status says that it is parked;
// nobody is told that it is offline.
func TestParkedKeep(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nlistener %[1]d 127.0.0.1\n", []int{port})
	direct := fmt.Sprintf("mqtt://127.0.0.1:%d", port)
	told, g, s := watchStates(t, direct), newGate(t, fmt.Sprintf("127.0.0.1:%d", port)), newStand()
	r := startPublisherWith(t, "mqtt://"+g.address, Credentials{}, func(c *Config) { c.Parked = Parked{Is: s.is, StatusEvery: 2 * time.Second} })
	is := func(want string) func() bool {
		return func() bool { list, _ := told.seen(); return list == want }
	}
	await(t, "online", is("online"))
	s.park(true)
	await(t, "parked", is("online parked"))
	_, n := told.seen()
	await(t, "the status of two hours", func() bool { _, now := told.seen(); return now >= n+2 })
	r.event(t, "low_battery", telemetry.Warning)
	await(t, "an event while parked", func() bool { return r.spool.Stats().Records == 0 })
	s.park(false)
	await(t, "online again", is("online parked online"))
	if alive, open := g.seen(); !slices.Equal(alive, []uint16{10, 900, 10}) || open != 1 {
		t.Errorf("keep-alives %v, %d connections are open", alive, open)
	}
	r.stop()
	await(t, "offline at the end", is("online parked online offline"))
	if said := r.log.String(); strings.Contains(said, "level=WARN") {
		t.Errorf("complaints:\n%s", said)
	}
}

// A connection that is closed in between is opened for the status, for an event at once, and
// when the vehicle is parked no longer.
func TestParkedClose(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nlistener %[1]d 127.0.0.1\n", []int{port})
	direct := fmt.Sprintf("mqtt://127.0.0.1:%d", port)
	told, g, s, w := watchStates(t, direct), newGate(t, fmt.Sprintf("127.0.0.1:%d", port)), newStand(), watch(t, direct)
	r := startPublisherWith(t, "mqtt://"+g.address, Credentials{}, func(c *Config) {
		c.Parked = Parked{Is: s.is, StatusEvery: 6 * time.Second, Close: true, linger: 2 * time.Second}
	})
	connections := func(n, open int) func() bool {
		return func() bool { alive, now := g.seen(); return len(alive) == n && now == open }
	}
	is := func(want string) func() bool { return func() bool { list, _ := told.seen(); return list == want } }
	await(t, "online", func() bool { return is("online")() && connections(1, 1)() })
	s.park(true)
	await(t, "its end", connections(1, 0))
	r.record(t, 0) // a batch waits for the status
	seq := r.event(t, "emergency", telemetry.Emergency)
	began := time.Now()
	await(t, "an emergency", func() bool { _, there := w.find(seq); return there })
	if took := time.Since(began); took > time.Second {
		t.Errorf("an emergency took %v", took)
	}
	await(t, "the end of its connection", connections(2, 0))
	_, n := told.seen()
	await(t, "the status of an hour", func() bool { _, now := told.seen(); return now > n })
	await(t, "the end of its connection", connections(3, 0))
	s.park(false)
	await(t, "a connection that stays", connections(4, 1))
	await(t, "online again, all told", func() bool { return is("online parked online")() && r.spool.Stats().Records == 0 })
	s.park(true)
	await(t, "the end of the connection", connections(4, 0))
	r.stop()
	await(t, "offline at the end, though there was no connection", is("online parked online parked offline"))
	if said := r.log.String(); strings.Contains(said, "level=WARN") {
		t.Errorf("complaints:\n%s", said)
	}
}

// What a parked vehicle takes of a mobile plan, over TLS, with headers: a voltage each five
// minutes, a fix each ten, a status each hour, at 180 times the pace.
func TestParkedData(t *testing.T) {
	t.Parallel()
	const faster, hours = 180, 2
	dir := t.TempDir()
	ca, cert, key := certificates(t, dir)
	port := freePort(t)
	startMosquitto(t, dir, "allow_anonymous true\nlistener %[1]d 127.0.0.1\n"+fmt.Sprintf("certfile %s\nkeyfile %s\n", cert, key), []int{port})
	var measuring sync.WaitGroup
	for _, test := range []struct {
		name   string
		parked Parked
		values bool
		most   float64 // bytes an hour
	}{
		{"keep", Parked{KeepAlive: 15 * time.Minute / faster}, true, 12e3},
		{"keep, nothing to say", Parked{KeepAlive: 15 * time.Minute / faster}, false, 3e3},
		{"close", Parked{Close: true}, true, 14e3},
	} {
		measuring.Go(func() {
			s, link := newStand(), new(Link)
			s.park(true)
			test.parked.Is, test.parked.StatusEvery = s.is, time.Hour/faster
			r := startPublisherWith(t, fmt.Sprintf("mqtts://127.0.0.1:%d", port), Credentials{CAFile: ca}, func(c *Config) {
				c.Parked, c.Link, c.ClientID, c.VehicleID = test.parked, link, "parked-"+strings.ReplaceAll(test.name, " ", "-"), "van-1"
				c.Parked.linger = 10 * time.Second / faster
			})
			await(t, "a connection", func() bool { return strings.Contains(r.log.String(), "msg=connected") })
			time.Sleep(time.Hour / faster / 2) // what a start costs is not counted
			all := func() uint64 {
				c := link.Read()
				return c.Sent + c.Received + c.SentHeaders + c.ReceivedHeaders
			}
			before := all()
			every := time.NewTicker(5 * time.Minute / faster)
			defer every.Stop()
			for n := range 12 * hours {
				<-every.C
				if !test.values {
					continue
				}
				var b telemetry.Batch
				v := telemetry.Reading{Arrived: r.clock.Uptime()}
				v.Add("battery_voltage_v", 12.6)
				b.Add(v)
				r.append(t, &b)
				if n%2 == 0 {
					var b telemetry.Batch
					b.Add(telemetry.Reading{Arrived: r.clock.Uptime(), Fields: []telemetry.Field{
						{Name: "latitude", Value: telemetry.Number(48.1371540, 7)}, {Name: "longitude", Value: telemetry.Number(11.5761240, 7)},
						{Name: "altitude_m", Value: telemetry.Number(519.2, 2)}, {Name: "gps_speed_kmh", Value: telemetry.Number(0.31, 2)},
						{Name: "satellites", Value: telemetry.Number(9, 0)}, {Name: "hdop", Value: telemetry.Number(0.9, 2)}, {Name: "fix", Value: telemetry.Text("3d")}}})
					r.append(t, &b)
				}
			}
			hourly := float64(all()-before) / hours
			t.Logf("%s: %.0f bytes an hour, %.1f MB in 30 days", test.name, hourly, hourly*24*30/1e6)
			if hourly > test.most || hourly < 300 {
				t.Errorf("%s: %.0f bytes an hour, want no more than %.0f", test.name, hourly, test.most)
			}
			r.stop()
		})
	}
	measuring.Wait()
}
