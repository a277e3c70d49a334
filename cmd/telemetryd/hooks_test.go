package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// executable writes a script.
func executable(t testing.TB, path, script string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// written waits for a file that another process writes in one step, and returns its content.
func written(t testing.TB, path string) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		b, err := os.ReadFile(path)
		if err == nil {
			return string(b)
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// Hooks as a UPS hat and a button use them: its script emits an event, a program runs on it
// and sees it as it left; one that fails is in the status until it works again; the link's
// comings and goings run programs; and a program that hangs does not hold up a stop.
func TestHooks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := filepath.Join(dir, "van-1.yaml")
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(config, fmt.Appendf(nil, `hooks:
  - {on: ignition_off, exec: [%[1]s/save, "a b", $HOME], timeout: 30s}
  - {on: emergency, exec: [%[1]s/call]}
  - {on: offline, for: 1s, exec: [touch, %[1]s/offline]}
  - {on: online, exec: [touch, %[1]s/online]}
  - {on: hang, exec: [%[1]s/hang], timeout: 1h}
  - {on: unparked, exec: ["true"]}
`, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	executable(t, at("save"), `printf '%s\n' "$1" "$2" "$TELEMETRYD_EVENT" "$TELEMETRYD_EVENT_JSON" >`+at("saving")+`
telemetryd emit saved --note "by a hook" || exit
mv `+at("saving")+" "+at("saved"))
	executable(t, at("hang"), "trap '' TERM; echo $$ >"+at("pid")+"; mv "+at("pid")+" "+at("hung")+"; while :; do sleep 1; done")

	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	state := t.TempDir()
	d := benchDaemon(t, m.address(), state, "--config", config)
	written(t, at("online"))
	for on, rare := range map[string]bool{"ignition_off": true, "hang": true, "emergency": false, "offline": false, "unparked": false} {
		if told := strings.Contains(d.log.String(), `only telemetryd emit brings" on=`+on); told != rare {
			t.Errorf("told that %s comes by emit alone: %v", on, told)
		}
	}

	emit(t, state, "ignition_off", "--data", "by=ups")
	saved := strings.Split(written(t, at("saved")), "\n")
	if len(saved) != 5 || saved[0] != "a b" || saved[1] != "$HOME" || saved[2] != "ignition_off" {
		t.Fatalf("the program saw %q", saved)
	}
	ms := s.await("the events", 20*time.Second, func(ms []message) bool { return len(events(ms, "saved")) > 0 })
	if left := events(ms, "ignition_off")[0].Payload; saved[3] != left {
		t.Errorf("the program saw\n%s\nwhat left is\n%s", saved[3], left)
	}

	failing := func(ms []message) bool {
		st := onTopic(ms, "status")
		return strings.Contains(st[len(st)-1].Payload, `"code":"hook_failed","severity":"warning"`)
	}
	emit(t, state, "emergency")
	s.await("hook_failed", 20*time.Second, failing)
	if log := d.log.String(); !strings.Contains(log, "The hook on emergency failed: start "+at("call")+": fork/exec "+at("call")+": no such file or directory") ||
		!strings.Contains(log, "is it installed, and its path right?") {
		t.Error("the log does not tell why")
	}
	executable(t, at("call"), "exit 0")
	emit(t, state, "emergency")
	s.await("the end of hook_failed", 20*time.Second, func(ms []message) bool { return !failing(ms) })

	m.end(syscall.SIGKILL)
	written(t, at("offline"))

	emit(t, state, "hang")
	var pid int
	if _, err := fmt.Sscan(written(t, at("hung")), &pid); err != nil {
		t.Fatal(err)
	}
	if took := d.end(syscall.SIGTERM); took > 2*time.Second || d.err != nil {
		t.Errorf("SIGTERM: %v after %v", d.err, took)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the program runs on: %v", err)
	}
	if !json.Valid([]byte(saved[3])) {
		t.Errorf("no JSON: %s", saved[3])
	}
}
