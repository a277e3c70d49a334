package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asNobody makes a command run without root's rights, for which permissions count.
func asNobody(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program, err := exec.LookPath("telemetryd")
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		return exec.Command(program, args...)
	}
	dir, err := os.MkdirTemp("", "telemetryd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	reachable := filepath.Join(dir, "telemetryd")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(reachable, b, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(reachable, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd
}

// A state directory without permission ends the start with status 1 and says what to do.
func TestStateDirWithoutPermission(t *testing.T) {
	t.Parallel()
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o500); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{closed, filepath.Join(closed, "below")} {
		out, err := asNobody(t, "--vehicle-id", "van-1", "--obd", "off", "--gps", "off", "--state-dir", dir).CombinedOutput()
		e, ok := errors.AsType[*exec.ExitError](err)
		if !ok || e.ExitCode() != 1 || !strings.Contains(string(out), "no permission for the state directory "+dir) || !strings.Contains(string(out), "--state-dir") {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// A second daemon on a state directory is told of the first.
func TestStateDirInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := []string{"--vehicle-id", "van-1", "--obd", "off", "--gps", "off", "--state-dir", dir,
		"--broker", fmt.Sprintf("mqtt://127.0.0.1:%d", freePort(t))}
	first := start(t, nil, "telemetryd", args...)
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(first.log.String(), "code=broker_missing"); time.Sleep(20 * time.Millisecond) { // waiting for a process
		if time.Now().After(deadline) {
			t.Fatalf("the first daemon is not up:\n%s", first.log)
		}
	}
	out, err := exec.Command("telemetryd", args...).CombinedOutput()
	e, ok := errors.AsType[*exec.ExitError](err)
	if !ok || e.ExitCode() != 1 || !strings.Contains(string(out), "another telemetryd (process ") {
		t.Errorf("%v: %s", err, out)
	}
}
