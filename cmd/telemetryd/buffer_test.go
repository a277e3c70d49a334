package main

import (
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What waits can be seen beside the running daemon; it is what arrives when the broker
// comes, and nothing of it is taken.
func TestBuffer(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	time.Sleep(2 * time.Second) // the subscriber's session is saved
	m.end(syscall.SIGTERM)
	v := startVehicle(t)
	state := t.TempDir()
	d := startDaemon(t, m, v, state)

	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("telemetryd", append(append([]string{"buffer"}, args...), "--state-dir", state)...)
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil || said.Len() > 0 {
			t.Fatalf("%v: %v: %s", cmd.Args, err, &said)
		}
		return string(out)
	}
	stat := func() (r bufferReport) {
		t.Helper()
		if err := json.Unmarshal([]byte(run("stat", "--json")), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(200 * time.Millisecond) { // waiting for another process
		r := bufferReport{}
		if strings.Contains(d.log.String(), "broker_missing") { // the buffer is there
			r = stat()
		}
		if r.Telemetry >= 10 && r.Events > 0 && r.Oldest != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", r)
		}
	}
	if text := run("stat"); !strings.Contains(text, "batches") || !strings.Contains(text, "oldest   20") || strings.Contains(text, "lost") {
		t.Errorf("stat: %s", text)
	}
	lines := strings.Split(strings.TrimSpace(run("export")), "\n")
	var exported []message
	for i, line := range lines {
		var got message
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if got.Seq != uint64(i+1) {
			t.Errorf("line %d has seq %d", i+1, got.Seq)
		}
		exported = append(exported, got)
	}
	m.run()
	ms := s.await("all that was exported", 60*time.Second, func(ms []message) bool {
		seen := map[uint64]bool{}
		for _, got := range ms {
			seen[got.Seq] = true
		}
		for _, e := range exported {
			if !seen[e.Seq] {
				return false
			}
		}
		return true
	})
	for _, got := range ms {
		if got.Seq > 0 && got.Seq <= uint64(len(lines)) && got.Payload != lines[got.Seq-1] {
			t.Errorf("seq %d left as\n%s\nand was exported as\n%s", got.Seq, got.Payload, lines[got.Seq-1])
		}
	}
	if n := checkSamples(t, exported, v.truth); n < 50 {
		t.Errorf("%d values", n)
	}
	d.end(syscall.SIGTERM)
	if r := stat(); r.Records != 0 || r.Oldest != nil || len(r.Gaps) != 0 {
		t.Errorf("%+v", r)
	}
	if out := run("export"); out != "" {
		t.Errorf("%s", out)
	}
}
