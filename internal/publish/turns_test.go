package publish

import (
	"bytes"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
)

// Where the broker takes few messages a second, answers and what is retained do not keep
// back what is live, and nothing keeps back an emergency.
func TestTurnsAtARate(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nmax_queued_messages 0\nlistener %[1]d 127.0.0.1\n", []int{port})
	broker := fmt.Sprintf("mqtt://127.0.0.1:%d", port)
	w := watch(t, broker)
	outbox := NewOutbox()
	for n := range mostAnswers { // at 2 a second they take half a minute
		outbox.Add(fmt.Appendf(nil, `{"id":"%d"}`, n))
	}
	r := startPublisherWith(t, broker, Credentials{}, func(c *Config) {
		c.WriteOnly, c.Outbox, c.Limits.Rate = true, outbox, 2
		var n atomic.Int64
		for _, topic := range []string{"latest", "position"} { // each second a new one
			c.Beside = append(c.Beside, Retained{Topic: "vehicles/van-1/" + topic, Message: func([]byte) []byte { return fmt.Appendf(nil, `{"n":%d}`, n.Add(1)) }})
		}
	})
	await(t, "the first answers", func() bool { return len(w.all()) > 2 })
	for range 3 {
		began := time.Now()
		r.record(t, 50)
		seq := r.spool.Stats().LastSeq
		await(t, "what is live", func() bool { _, there := w.find(seq); return there })
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("what is live took %v", took)
		}
		began = time.Now()
		sos := r.event(t, "sos", telemetry.Emergency)
		await(t, "the emergency", func() bool { _, there := w.find(sos); return there })
		if took := time.Since(began); took > time.Second {
			t.Errorf("the emergency took %v", took)
		}
	}
	seen := map[lane]int{}
	for _, a := range w.all() {
		seen[a.lane]++
	}
	if seen[responses] < 3 {
		t.Errorf("the answers wait for all else: %v", seen)
	}
}

// Large answers do not fill a slow link's queue before what is urgent.
func TestAnswersOnASlowLink(t *testing.T) {
	t.Parallel()
	const rate = 16 << 10 // bytes a second
	port := freePort(t)
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nmax_queued_messages 0\nlistener %[1]d 127.0.0.1\n", []int{port})
	broker := fmt.Sprintf("127.0.0.1:%d", port)
	w := watch(t, "mqtt://"+broker)
	slow := newProxy(t, broker, func(to, from net.Conn) { atRate(to, from, rate) }, func(to, from net.Conn) { late(to, from, 50*time.Millisecond, nil) })
	outbox := NewOutbox()
	r := startPublisherWith(t, "mqtt://"+slow, Credentials{}, func(c *Config) { c.WriteOnly, c.Outbox = true, outbox })
	for range 30 {
		outbox.Add(fmt.Appendf(nil, `{"note":"%s"}`, bytes.Repeat([]byte("x"), 8000)))
	}
	await(t, "the first answer", func() bool { return len(w.all()) > 0 })
	began := time.Now()
	sos := r.event(t, "sos", telemetry.Emergency)
	await(t, "the emergency", func() bool { _, there := w.find(sos); return there })
	if took := time.Since(began); took > 3*time.Second { // as TestEmergencyOnSlowLink has it
		t.Errorf("the emergency took %v", took)
	}
}
