package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// follow runs telemetryd tail and returns what it printed and its exit status.
func follow(t *testing.T, m *mosquitto, args ...string) (out, said string, status int) {
	t.Helper()
	return ask(t, m, "tail", args...)
}

// What a daemon publishes, in whatever form, comes out as JSON lines and is complete, over
// a broker that is gone for a while.
func TestTail(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	v := startVehicle(t)
	d := startDaemon(t, m, v, t.TempDir(), "--batch-form", "columns", "--compress", "zstd")
	broker := make(chan struct{})
	go func() {
		defer close(broker)
		time.Sleep(5 * time.Second)
		m.end(syscall.SIGTERM) // which saves sessions
		m.run()
	}()
	out, said, status := follow(t, m, "--verify", "--for", "15s")
	<-broker
	d.end(syscall.SIGTERM)
	samples, events, states := 0, 0, 0
	for line := range strings.Lines(out) {
		var o map[string]any
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		switch {
		case o["type"] != nil:
			events++
		case o["state"] != nil:
			states++
		case o["t"] != nil:
			samples++
		default:
			t.Errorf("%s", line)
		}
	}
	if status != 0 || samples < 50 || states == 0 || !strings.Contains(said, "100.00 % complete") || !strings.Contains(said, " 0 missing, 0 named") {
		t.Errorf("status %d, %d samples, %d events, %d states: %s", status, samples, events, states, said)
	}
}

// What is missing is named, and the exit status says so.
func TestTailFindsLoss(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	publish := func(topic, payload string, more ...string) {
		t.Helper()
		pub(t, m, "vehicles/van-1/"+topic, payload, append(more, "-q", "1")...)
	}
	if _, said, status := follow(t, m, "--verify", "--for", "1s"); status != 1 || !strings.Contains(said, "nothing arrived") {
		t.Errorf("of nothing: status %d: %s", status, said)
	}
	publish("status", `{"vehicle_id":"van-1","stream_id":"s","state":"online","last_seq":3,"oldest_unacked_seq":2}`, "-r")
	go func() {
		time.Sleep(2 * time.Second) // the follower is another process
		for _, seq := range []int{2, 4, 4, 7} {
			publish("telemetry", fmt.Sprintf(`{"vehicle_id":"van-1","stream_id":"s","boot_id":"b","seq":%d,"samples":[{"t":"2026-11-25T10:00:00.000Z","vehicle_speed_kmh":%d}]}`, seq, seq))
		}
		publish("events", `{"vehicle_id":"van-1","stream_id":"s","boot_id":"b","seq":8,"type":"data_gap","data":{"gap_stream_id":"s","first_seq":6,"last_seq":6,"reason":"evicted"}}`)
		publish("status", `{"vehicle_id":"van-1","stream_id":"s","state":"online","last_seq":10,"oldest_unacked_seq":10}`, "-r")
	}()
	out, said, status := follow(t, m, "--verify", "--for", "6s")
	for _, want := range []string{"4 received, 3 missing, 1 named as lost, 1 on the way, 1 twice", "missing: seq 3 to 3 of stream s", "missing: seq 5 to 5", "missing: seq 9 to 9", "3 messages are missing"} {
		if !strings.Contains(said, want) {
			t.Errorf("not said: %s", want)
		}
	}
	if status != 1 || !strings.Contains(out, `{"t":"2026-11-25T10:00:00.000Z","vehicle_speed_kmh":7}`) {
		t.Errorf("status %d: %s%s", status, said, out)
	}
	publish("telemetry", "led_on")
	if _, said, status := follow(t, m, "--for", "1s"); status != 0 || strings.Contains(said, "missing") {
		t.Errorf("without --verify: status %d: %s", status, said)
	}
}

// A broker that does not let us read says so to the user.
func TestTailNotAllowed(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	acl := filepath.Join(filepath.Dir(m.config), "acl")
	config, err := os.ReadFile(m.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(acl, []byte("topic read other/#\n"), 0o600), os.WriteFile(m.config, append(config, "acl_file "+acl+"\n"...), 0o600)); err != nil {
		t.Fatal(err)
	}
	m.end(syscall.SIGTERM)
	m.run()
	_, said, status := follow(t, m, "--verify", "--for", "2s")
	if status != 1 || !strings.Contains(said, "nothing arrived") {
		t.Errorf("status %d: %s", status, said)
	}
}

// In a terminal there is a table with the ledger above it.
func TestTailTable(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	v := startVehicle(t)
	d := startDaemon(t, m, v, t.TempDir())
	cmd := exec.Command("telemetryd", "tail", "--vehicle-id", "van-1", "--broker", "mqtt://"+m.address(), "--verify", "--for", "8s")
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 120})
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	var shown bytes.Buffer
	_, _ = shown.ReadFrom(terminal) // ends with the process, in an error
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v", err)
	}
	d.end(syscall.SIGTERM)
	for _, want := range []string{"samples in", "% complete: ", "vehicle_speed_kmh", "km/h"} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("%q is not shown:\n%s", want, shown.String())
		}
	}
}

// Who comes to a vehicle that is under way misses nothing of what went before, and a command
// that is called as a topic of the vehicle is none of its messages.
func TestTailComesLate(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	publish := func(topic, payload string, more ...string) {
		t.Helper()
		pub(t, m, "vehicles/van-1/"+topic, payload, append(more, "-q", "1")...)
	}
	publish("status", `{"vehicle_id":"van-1","stream_id":"s","state":"online","last_seq":10}`, "-r")
	publish("latest", `{"t":"2026-11-25T09:00:00.000Z","vehicle_speed_kmh":99}`, "-r")
	go func() {
		time.Sleep(2 * time.Second) // the follower is another process
		publish("telemetry", `{"vehicle_id":"van-1","stream_id":"s","boot_id":"b","seq":40,"samples":[{"t":"2026-11-25T10:00:00.000Z","vehicle_speed_kmh":7}]}`)
		publish("command/status", "")
		publish("command", "led_on")
		publish("status", `{"vehicle_id":"van-1","stream_id":"s","state":"online","last_seq":40}`, "-r")
	}()
	out, said, status := follow(t, m, "--verify", "--for", "5s")
	if status != 0 || !strings.Contains(said, "100.00 % complete: 1 received, 0 missing") {
		t.Errorf("status %d: %s", status, said)
	}
	if strings.Contains(out, "99") || !strings.Contains(out, `{"t":"2026-11-25T10:00:00.000Z","vehicle_speed_kmh":7}`) || !strings.Contains(out, `"led_on"`) {
		t.Errorf("%s", out)
	}
}

// Beside the table commands and answers are lines of their own; nothing that comes from the
// broker writes over it.
func TestTailTableWithOtherTopics(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	cmd := exec.Command("telemetryd", "tail", "--vehicle-id", "van-1", "--broker", "mqtt://"+m.address(), "--for", "5s")
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 120})
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	go func() {
		time.Sleep(2 * time.Second) // the follower is another process
		for _, topic := range []string{"latest", "position"} {
			_ = exec.Command("mosquitto_pub", "-h", "127.0.0.1", "-p", fmt.Sprint(m.port), "-t", "vehicles/van-1/"+topic, "-m", `{"latitude":48}`).Run()
		}
		for topic, payload := range map[string]string{"response": `{"id":"7","command":"led_on","state":"refused","reason":"not listed"}`, "command": "dim\x1b[2J"} {
			_ = exec.Command("mosquitto_pub", "-h", "127.0.0.1", "-p", fmt.Sprint(m.port), "-t", "vehicles/van-1/"+topic, "-m", payload).Run()
		}
	}()
	var shown bytes.Buffer
	_, _ = shown.ReadFrom(terminal) // ends with the process, in an error
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v", err)
	}
	for _, want := range []string{"response led_on refused not listed", "command dim?[2J"} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("%q is not shown:\n%q", want, shown.String())
		}
	}
	if strings.Contains(shown.String(), "latitude") || strings.Contains(shown.String(), "\x1b[2J") {
		t.Errorf("written over the table: %q", shown.String())
	}
}
