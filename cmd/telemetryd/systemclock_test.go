package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
)

// Whether the clock is synchronised is what a timedated on a real D-Bus says; without
// either, an error says so.
func TestTimedated(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(dir, "none"))
	if _, err := timedated(t.Context()); err == nil || !strings.Contains(err.Error(), "connect to the system's D-Bus") {
		t.Errorf("without a bus: %v", err)
	}
	address := startBus(t, dir)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	if _, err := timedated(t.Context()); err == nil || !strings.Contains(err.Error(), "ask timedated over D-Bus") {
		t.Errorf("without timedated: %v", err)
	}
	bus, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	properties, err := prop.Export(bus, "/org/freedesktop/timedate1", prop.Map{"org.freedesktop.timedate1": {"NTPSynchronized": {Value: false}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bus.RequestName("org.freedesktop.timedate1", 0); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{false, true} {
		properties.SetMust("org.freedesktop.timedate1", "NTPSynchronized", want)
		if got, err := timedated(t.Context()); err != nil || got != want {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
	}
}

// startBus is the distribution's dbus-daemon with a configuration of its own.
func startBus(t *testing.T, dir string) (address string) {
	t.Helper()
	config := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(config, []byte(`<busconfig><type>custom</type><listen>unix:path=`+filepath.Join(dir, "bus")+`</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "dbus-daemon", "--config-file="+config, "--nofork", "--print-address")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	address, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(address)
}
