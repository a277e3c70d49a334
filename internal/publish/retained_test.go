package publish

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// retainedAt is what a broker has kept on a topic.
func retainedAt(t *testing.T, port int, topic string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "mosquitto_sub", "-p", fmt.Sprint(port), "-t", topic, "-C", "1", "-W", "1", "--retained-only").Output()
	if err != nil && len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// What goes past the buffer is kept by the broker, and sent again only when it has changed,
// or on a new connection.
func TestRetained(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nlistener %[1]d 127.0.0.1\n", []int{port})
	address := fmt.Sprintf("127.0.0.1:%d", port)
	w := watch(t, "mqtt://"+address)
	var text, asked, few atomic.Int64
	text.Store(1)
	r := startPublisherWith(t, "mqtt://"+address, Credentials{}, func(c *Config) {
		c.Few = func() bool { return few.Load() > 0 }
		c.Beside = []Retained{
			{Topic: "vehicles/van-1/latest", Every: time.Second, Message: func(last []byte) []byte {
				asked.Add(1)
				return fmt.Appendf(nil, `{"seq":0,"speed":%d}`, text.Load())
			}},
			{Topic: "vehicles/van-1/position", Every: time.Second, Message: func([]byte) []byte { return nil }},
		}
	})
	await(t, "the first message", func() bool { return retainedAt(t, port, "vehicles/van-1/latest") == `{"seq":0,"speed":1}` })
	before := asked.Load()
	await(t, "three looks", func() bool { return asked.Load() >= before+3 })
	text.Store(2)
	await(t, "the next one", func() bool { return retainedAt(t, port, "vehicles/van-1/latest") == `{"seq":0,"speed":2}` })
	few.Store(1)
	text.Store(3)
	r.record(t, 50)
	await(t, "a batch", func() bool { return r.spool.Stats().Records == 0 })
	time.Sleep(2500 * time.Millisecond) // what is proven is that nothing comes
	n := 0
	for _, a := range w.all() {
		if a.lane == "latest" {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
	if got := retainedAt(t, port, "vehicles/van-1/position"); got != "" {
		t.Errorf("position: %s", got)
	}
}

// A broker that ends the connection at each message on such a topic loses those alone: after
// three it is left alone, and all else leaves.
func TestRetainedDenied(t *testing.T) {
	t.Parallel()
	var latest, batches atomic.Int64
	address, stop := serveTCP(t, func(c net.Conn) {
		defer c.Close()
		for {
			p, err := packets.ReadPacket(c)
			if err != nil {
				return
			}
			var answer bytes.Buffer
			switch p := p.(type) {
			case *packets.ConnectPacket:
				_ = packets.NewControlPacket(packets.Connack).Write(&answer)
			case *packets.SubscribePacket:
				ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
				ack.MessageID, ack.ReturnCodes = p.MessageID, []byte{1}
				_ = ack.Write(&answer)
			case *packets.PingreqPacket:
				_ = packets.NewControlPacket(packets.Pingresp).Write(&answer)
			case *packets.PublishPacket:
				if strings.HasSuffix(p.TopicName, "/latest") {
					latest.Add(1)
					return
				}
				if strings.HasSuffix(p.TopicName, "/telemetry") || strings.HasSuffix(p.TopicName, "/backfill") {
					batches.Add(1)
				}
				ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
				ack.MessageID = p.MessageID
				_ = ack.Write(&answer)
			}
			if _, err := io.Copy(c, &answer); err != nil {
				return
			}
		}
	})
	r := startPublisherWith(t, "mqtt://"+address, Credentials{}, func(c *Config) {
		c.WriteOnly = true
		c.Beside = []Retained{{Topic: "vehicles/van-1/latest", Every: time.Second, Message: func([]byte) []byte { return fmt.Append(nil, latest.Load()) }}}
	})
	await(t, "the condition", func() bool { return strings.Contains(r.log.String(), "code=topic_denied") })
	for i := range 3 {
		r.record(t, float64(i))
	}
	await(t, "the batches", func() bool { return r.spool.Stats().Records == 0 })
	time.Sleep(2500 * time.Millisecond) // what is proven is that it is left alone
	if got := latest.Load(); got != retainedEnds {
		t.Errorf("%d messages on the denied topic, want %d", got, retainedEnds)
	}
	if batches.Load() < 3 {
		t.Errorf("%d batches", batches.Load())
	}
	r.stop()
	stop()
}
