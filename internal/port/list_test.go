package port

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/creack/pty"
)

// Each port once, under its most stable name; the console is no port.
func TestList(t *testing.T) {
	dev := t.TempDir()
	for _, name := range []string{"ttyUSB0", "ttyACM0", "ttyAMA0", "ttyS0", "rfcomm0", "console"} {
		if err := os.WriteFile(filepath.Join(dev, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dev, "serial/by-id"), 0o700); err != nil {
		t.Fatal(err)
	}
	for link, device := range map[string]string{"serial/by-id/usb-u-blox_AG_u-blox_7-if00": "ttyACM0", "serial0": "ttyAMA0"} {
		if err := os.Symlink(filepath.Join(dev, device), filepath.Join(dev, link)); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for _, f := range list(dev) {
		names = append(names, filepath.Base(f.Path)+"="+filepath.Base(f.Device))
		if f.Receiver() != (filepath.Base(f.Device) == "ttyACM0") || f.Adapter() {
			t.Errorf("%s: receiver %v, adapter %v", f.Path, f.Receiver(), f.Adapter())
		}
	}
	if want := []string{"usb-u-blox_AG_u-blox_7-if00=ttyACM0", "serial0=ttyAMA0", "rfcomm0=rfcomm0", "ttyUSB0=ttyUSB0"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	if got := list(filepath.Join(dev, "none")); got != nil {
		t.Errorf("of nothing: %v", got)
	}

	consoles := filepath.Join(dev, "consoles")
	for active, want := range map[string]int{"tty0\n": 1, "tty0 ttyAMA0\n": 0, "": 1} {
		if err := os.WriteFile(consoles, []byte(active), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := header(dev, consoles); len(got) != want {
			t.Errorf("consoles %q: %v", active, got)
		}
	}
	if got := header(filepath.Join(dev, "none"), consoles); got != nil {
		t.Errorf("without a header: %v", got)
	}
}

// Who has a device open is found by its descriptors; this process does not count.
func TestHolders(t *testing.T) {
	proc := t.TempDir()
	for pid, device := range map[string]string{"7": "/dev/ttyUSB0", "8": "/dev/ttyUSB1", "9": ""} {
		if err := os.MkdirAll(filepath.Join(proc, pid, "fd"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, pid, "comm"), []byte("gpsd\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if device != "" {
			if err := os.Symlink(device, filepath.Join(proc, pid, "fd", "5")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := holders(proc, "/dev/ttyUSB1"); !slices.Equal(got, []Holder{{8, "gpsd"}}) {
		t.Errorf("%v", got)
	}
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	if got := Holders(slave.Name()); len(got) != 0 {
		t.Errorf("%v has %s open besides this process", got, slave.Name())
	}
	if Running("no-such-program") {
		t.Error("a program that there is not runs")
	}
}
