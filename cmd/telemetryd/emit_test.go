package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"telemetryd/internal/local"
	"telemetryd/internal/modem"
	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// emit is `telemetryd emit` as a script calls it.
func emit(t testing.TB, state string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "telemetryd", append([]string{"emit", "--state-dir", state}, args...)...).CombinedOutput()
	if err != nil {
		t.Errorf("emit %v: %v: %s", args, err, out)
	}
	return string(out)
}

// awaitSocket waits until a daemon takes events.
func awaitSocket(t testing.TB, state string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // another process
		_, err := local.Send(t.Context(), state, local.Request{}) // is refused
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// events are the messages of a type.
func events(ms []message, kind string) []message {
	return slices.DeleteFunc(slices.Clone(ms), func(m message) bool { return m.Type != kind })
}

// benchDaemon is a daemon without a vehicle. The race detector does not hold up its end, by a
// second, as it does else.
func benchDaemon(t testing.TB, broker, state string, args ...string) *process {
	t.Helper()
	d := startIn(t, []string{"GORACE=atexit_sleep_ms=0"}, nil, "telemetryd", append([]string{"--vehicle-id", "van-1", "--broker", "mqtt://" + broker, "--obd", "off", "--gps", "off", "--state-dir", state}, args...)...)
	awaitSocket(t, state)
	return d
}

// A button's emergency is at the broker as it was given, with the last position and its age,
// and whoever emitted it is told so.
func TestEmit(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	v := startVehicle(t)
	state := t.TempDir()
	d := startDaemon(t, m, v, state)
	s.await("a position", 60*time.Second, func(ms []message) bool {
		return slices.ContainsFunc(ms, func(m message) bool { return strings.Contains(m.Payload, `"latitude"`) })
	})
	out := emit(t, state, "emergency", "--note", `help "us"`, "--data", "button=3", "--data", "by=driver", "--wait", "30s")
	if !strings.Contains(out, "emergency is recorded as seq ") || !strings.HasSuffix(out, "; the broker has it\n") {
		t.Errorf("said %q", out)
	}
	got := events(s.await("the emergency", 10*time.Second, func(ms []message) bool { return len(events(ms, "emergency")) > 0 }), "emergency")[0]
	var body struct {
		Severity string
		Position *telemetry.Position
	}
	if err := json.Unmarshal([]byte(got.Payload), &body); err != nil {
		t.Fatal(err)
	}
	if data := fmt.Sprint(got.Data); body.Severity != "emergency" || data != `map[button:3 by:driver note:help "us"]` || !strings.HasSuffix(got.Topic, "/events") {
		t.Errorf("%s: %s", got.Topic, got.Payload)
	}
	if p := body.Position; p == nil || p.Latitude < 47 || p.Latitude > 49 || p.AgeMS < 0 || p.AgeMS > 10_000 {
		t.Errorf("position %+v", p)
	}
	out = emit(t, state, "door_open", "--json")
	if !strings.Contains(out, `"durable":true,"acknowledged":false}`) || !strings.Contains(out, got.StreamID) {
		t.Errorf("said %q", out)
	}
	if took := d.end(syscall.SIGTERM); took > 2*time.Second || d.err != nil {
		t.Errorf("SIGTERM: %v after %v", d.err, took)
	}
}

// An emergency without a link is the first message of the next connection, over kill -9 of
// broker and daemon, and is repeated until a broker has acknowledged it.
func TestEmergencyOutage(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	state := t.TempDir()
	d := benchDaemon(t, m.address(), state)
	s.await("the link", 20*time.Second, func(ms []message) bool { return len(events(ms, "stream_start")) > 0 })

	time.Sleep(2500 * time.Millisecond) // another process: the broker saves the subscriber's session every second

	// The broker takes nothing more, though its connection stands: no PUBACK, no end.
	m.signal(syscall.SIGSTOP)
	for range 5 {
		emit(t, state, "door_open")
	}
	if out := emit(t, state, "emergency", "--note", "first", "--wait", "300ms"); !strings.Contains(out, "the broker has not acknowledged it within 300ms: it is sent until it does") {
		t.Errorf("said %q", out)
	}
	m.end(syscall.SIGKILL)
	emit(t, state, "door_open")
	emit(t, state, "emergency", "--note", "second")
	d.end(syscall.SIGKILL)
	d = benchDaemon(t, m.address(), state) // no broker: its backlog is the emergencies, seven events, two starts
	before := len(s.messages())
	m.run()
	ms := s.await("everything", 60*time.Second, func(ms []message) bool {
		return len(events(ms, "door_open")) >= 6 && len(events(ms, "stream_start")) > 1
	})[before:]
	// The subscriber first gets what is retained, the will or the last status.
	sent := slices.DeleteFunc(slices.Clone(ms), func(m message) bool { return strings.HasSuffix(m.Topic, "/status") })
	if len(sent) < 2 || sent[0].Data["note"] != "first" || sent[1].Data["note"] != "second" {
		t.Errorf("the first messages: %+v", sent)
	}
	starts := events(ms, "stream_start")
	for _, m := range ms {
		if m.State == "online" && m.StreamID == starts[len(starts)-1].StreamID && m.Arrived.Before(sent[0].Arrived) {
			t.Errorf("a status came before the emergency: %s", m.Payload)
		}
	}
	if out := emit(t, state, "emergency", "--wait", "30s"); !strings.HasSuffix(out, "; the broker has it\n") {
		t.Errorf("said %q", out)
	}
	d.end(syscall.SIGTERM)
}

// On a mobile link of 1 Mbit/s that a backlog fills, an emergency is at the broker within a
// second. make bench-emergency has the long form.
func TestEmergencyBehindBacklog(t *testing.T) {
	t.Parallel()
	const backlog, size, times = 8_000_000, 2500, 5 // drains for a minute
	state := t.TempDir()
	fillBacklog(t, state, backlog/size, size)
	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	link, err := modem.NewProxy(m.address(), modem.Link{Rate: 125_000, RoundTrip: 100 * time.Millisecond, Queue: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)
	d := benchDaemon(t, link.Address, state)
	s.await("a backlog that drains", 60*time.Second, func(ms []message) bool { return len(onTopic(ms, "backfill")) > 100 })
	var took []time.Duration
	for range times {
		seen, began := len(events(s.messages(), "emergency")), time.Now()
		emit(t, state, "emergency")
		got := events(s.await("the emergency", 20*time.Second, func(ms []message) bool { return len(events(ms, "emergency")) > seen }), "emergency")[seen]
		took = append(took, got.Arrived.Sub(began))
	}
	if n := len(onTopic(s.messages(), "backfill")); n >= backlog/size {
		t.Errorf("the backlog has drained before the end: nothing is shown")
	}
	slices.Sort(took)
	t.Logf("from the start of `telemetryd emit` to the subscriber: %v", took)
	if median := took[times/2]; median > time.Second {
		t.Errorf("median %v of %v", median, took)
	}
	d.end(syscall.SIGKILL)
}

// fillBacklog fills a state directory with batches of an earlier boot.
func fillBacklog(t testing.TB, dir string, records, size int) {
	t.Helper()
	var b telemetry.Batch
	b.Add(telemetry.Reading{Fields: []telemetry.Field{{Name: "note", Value: telemetry.Text(strings.Repeat("x", size))}}})
	payload, err := b.Seal("van-1", "an earlier one", time.Now(), telemetry.System).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	s, err := spool.Open(dir, spool.Options{StreamID: "earlier"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for entries := range slices.Chunk(slices.Repeat([]spool.Entry{{Class: spool.Telemetry, Payload: payload}}, records), 100) {
		if _, err := s.AppendAll(entries); err != nil {
			t.Fatal(err)
		}
	}
}
