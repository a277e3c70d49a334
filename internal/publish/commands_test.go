package publish

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// orders is who takes commands, and notes them.
type orders struct {
	topics []string
	mu     sync.Mutex
	came   []order
}

type order struct {
	topic    string
	size     int
	payload  string // its beginning
	retained bool
}

func (o *orders) Topics() []string { return o.topics }

func (o *orders) Receive(topic string, payload []byte, retained bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.came = append(o.came, order{topic, len(payload), string(payload[:min(len(payload), 20)]), retained})
}

func (o *orders) all() []order {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.came)
}

// Commands come in the order of arrival, on all topics, with their retained flag; and a large
// one is cut, however large.
func TestCommandsArrive(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nlistener %d 127.0.0.1\n", []int{port})
	pub := func(in io.Reader, args ...string) {
		t.Helper()
		cmd := exec.Command("mosquitto_pub", append([]string{"-p", fmt.Sprint(port), "-q", "1"}, args...)...)
		cmd.Stdin = in
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
	}
	pub(nil, "-r", "-t", "t9", "-m", "kept")
	o := &orders{topics: []string{"a/command", "a/command/+"}}
	for n := range 10 { // more than a SUBSCRIBE takes
		o.topics = append(o.topics, fmt.Sprint("t", n))
	}
	r := startPublisherWith(t, fmt.Sprintf("mqtt://127.0.0.1:%d", port), Credentials{}, func(c *Config) { c.Commands = o })
	await(t, "what was retained", func() bool { return len(o.all()) == 1 }) // by then all is subscribed to
	if first := o.all()[0]; first != (order{"t9", 4, "kept", true}) {
		t.Errorf("%+v", first)
	}
	var lines strings.Builder
	const n = 300
	for i := range n {
		fmt.Fprintln(&lines, i)
	}
	pub(strings.NewReader(lines.String()), "-t", "a/command", "-l")
	pub(nil, "-t", "a/command/x", "-n")
	pub(bytes.NewReader(bytes.Repeat([]byte("0123456789"), 3<<20)), "-t", "t0", "-s")
	pub(nil, "-t", "t1", "-m", "last")
	await(t, "all messages", func() bool { return len(o.all()) == n+4 })
	for i, got := range o.all()[1 : n+1] {
		if got.payload != fmt.Sprint(i) || got.topic != "a/command" || got.retained {
			t.Fatalf("message %d: %+v", i, got)
		}
	}
	rest := o.all()[n+1:]
	if large := rest[1]; rest[0] != (order{"a/command/x", 0, "", false}) || large.payload != "01234567890123456789" || large.size > mostIncoming || large.size < mostIncoming-100 || rest[2].payload != "last" {
		t.Errorf("%+v", rest)
	}
	if strings.Count(r.log.String(), "msg=connected") != 1 {
		t.Errorf("%s", r.log)
	}
	r.stop()
}

// fake is a broker that hands each packet to answer, which returns what to say, or not ok to
// close the connection.
func fake(t *testing.T, answer func(packets.ControlPacket) (packets.ControlPacket, bool)) (address string, stop func()) {
	return serveTCP(t, func(c net.Conn) {
		defer c.Close()
		for {
			p, err := packets.ReadPacket(c)
			if err != nil {
				return
			}
			said, ok := answer(p)
			if said == nil && ok {
				said = politely(p)
			}
			if !ok {
				return
			}
			if said != nil && said.Write(c) != nil {
				return
			}
		}
	})
}

// politely is what any broker says.
func politely(p packets.ControlPacket) packets.ControlPacket {
	switch p := p.(type) {
	case *packets.ConnectPacket:
		return packets.NewControlPacket(packets.Connack)
	case *packets.PublishPacket:
		ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
		ack.MessageID = p.MessageID
		return ack
	case *packets.SubscribePacket:
		ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
		ack.MessageID, ack.ReturnCodes = p.MessageID, make([]byte, len(p.Topics))
		return ack
	case *packets.PingreqPacket:
		return packets.NewControlPacket(packets.Pingresp)
	}
	return nil
}

// A subscription that is refused is told with its topic, and telemetry goes on.
func TestCommandsDenied(t *testing.T) {
	t.Parallel()
	address, stop := fake(t, func(p packets.ControlPacket) (packets.ControlPacket, bool) {
		s, ok := p.(*packets.SubscribePacket)
		if !ok {
			return nil, true
		}
		ack := politely(p).(*packets.SubackPacket)
		for i, topic := range s.Topics {
			if topic == "jetson/control" {
				ack.ReturnCodes[i] = refusedSubscription
			}
		}
		return ack, true
	})
	r := startPublisherWith(t, "mqtt://"+address, Credentials{}, func(c *Config) {
		c.WriteOnly, c.Commands = true, &orders{topics: []string{"vehicles/van-1/command", "jetson/control"}}
	})
	await(t, "the condition", func() bool { return strings.Contains(r.log.String(), "code=commands_denied") })
	if !strings.Contains(r.log.String(), "does not let us subscribe to jetson/control\"") {
		t.Errorf("%s", r.log)
	}
	r.record(t, 50)
	await(t, "telemetry", func() bool { return r.spool.Stats().Records == 0 })
	r.stop()
	stop()
}

// A broker that closes the connection at the subscription, or at an answer, is found: then
// telemetry leaves, and no record is blamed.
func TestConnectionClosedOverCommands(t *testing.T) {
	t.Parallel()
	for name, closes := range map[string]func(packets.ControlPacket) bool{
		"commands_denied": func(p packets.ControlPacket) bool {
			_, ok := p.(*packets.SubscribePacket)
			return ok
		},
		"responses_denied": func(p packets.ControlPacket) bool {
			m, ok := p.(*packets.PublishPacket)
			return ok && strings.HasSuffix(m.TopicName, "/response")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ends := 0
			address, stop := fake(t, func(p packets.ControlPacket) (packets.ControlPacket, bool) {
				if closes(p) {
					ends++
					return nil, false
				}
				return nil, true
			})
			outbox := NewOutbox()
			r := startPublisherWith(t, "mqtt://"+address, Credentials{}, func(c *Config) {
				c.WriteOnly, c.Outbox, c.Commands = true, outbox, &orders{topics: []string{"vehicles/van-1/command"}}
			})
			for range 3 {
				r.record(t, 50)
			}
			if name == "responses_denied" {
				outbox.Add([]byte(`{"id":"1"}`))
			}
			await(t, "telemetry", func() bool { return r.spool.Stats().Records == 0 })
			outbox.Add([]byte(`{"id":"2"}`)) // not sent while the topic is denied
			r.record(t, 51)
			await(t, "more telemetry", func() bool { return r.spool.Stats().Records == 0 })
			said := r.log.String()
			r.stop()
			stop()
			if !strings.Contains(said, "code="+name) || strings.Contains(said, givenUp) || strings.Contains(said, "topic_denied") {
				t.Errorf("%s", said)
			}
			if ends < 1 || ends > 2 { // one is enough where nothing else was under way
				t.Errorf("%d connections ended", ends)
			}
		})
	}
}

// Answers wait for a connection, but neither for ever nor without bound.
func TestOutbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := NewOutbox()
		next := func() string {
			a, ok := o.next()
			if !ok {
				return ""
			}
			return string(a.payload)
		}
		o.Add([]byte("1"))
		time.Sleep(mostAnswerAge - time.Minute)
		o.Add([]byte("2"))
		if a, b, c := next(), next(), next(); a != "1" || b != "2" || c != "" {
			t.Errorf("%q %q %q", a, b, c)
		}
		o.connected() // without a PUBACK: again, but what is old is of no use
		time.Sleep(time.Minute + 1)
		if a, b := next(), next(); a != "2" || b != "" {
			t.Errorf("%q %q", a, b)
		}
		o.acknowledged(o.answers[0])
		o.connected()
		if a := next(); a != "" || o.bytes != 0 {
			t.Errorf("%q, %d bytes", a, o.bytes)
		}
		for i := range mostAnswers + 5 {
			o.Add(fmt.Append(nil, "n", i))
		}
		if a := next(); a != "n5" || len(o.answers) != mostAnswers {
			t.Errorf("%q of %d", a, len(o.answers))
		}
		for range mostAnswers {
			o.Add(make([]byte, 20<<10))
		}
		if o.bytes > mostAnswerBytes || len(o.answers) != mostAnswerBytes/(20<<10) {
			t.Errorf("%d answers with %d bytes", len(o.answers), o.bytes)
		}
	})
}
