package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// A receiver, a port in use and a silent one are told apart, and nothing is written.
func TestPorts(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, 5, 38400)
	silent, quiet, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	name := quiet.Name()
	quiet.Close()
	used, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	defer slave.Close()
	none := filepath.Join(t.TempDir(), "none")

	began := time.Now()
	out, err := exec.Command("telemetryd", "ports", "--json", "--gpsd", "gpsd://127.0.0.1:1", r.link, name, slave.Name(), none).Output()
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	var lines []portLine
	if err := json.Unmarshal(out, &lines); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for i, want := range []struct{ state, heard, use string }{
		{"nmea", "GPS receiver, NMEA, with a fix", "--gps serial://" + r.link},
		{"silent", "nothing, as from an OBD adapter that nobody asks", "--obd serial://" + name},
		{"in_use", "in use by telemetryd.test", ""},
		{"failed", "no such file", ""},
	} {
		if l := lines[i]; l.State != want.state || !strings.Contains(l.Heard, want.heard) || l.Use != want.use {
			t.Errorf("%+v, want %+v", l, want)
		}
	}
	p := []unix.PollFd{{Fd: int32(silent.Fd()), Events: unix.POLLIN}}
	if n, err := unix.Poll(p, 0); n > 0 && p[0].Revents&unix.POLLIN != 0 {
		t.Errorf("something was written, %v", err)
	}
}

// What gpsd reads is gpsd's.
func TestPortsOfGPSD(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, 5, 38400)
	g := newGPSD(t, r.link)
	out, err := exec.Command("telemetryd", "ports", "--gpsd", "gpsd://"+g.address(), r.link).Output()
	if want := "in use by gpsd  --gps gpsd://" + g.address(); err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%s, %v; want %q", out, err, want)
	}
	if _, err := os.Stat(r.link); err != nil {
		t.Error(err)
	}
}
