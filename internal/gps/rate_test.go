package gps

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"telemetryd/internal/port"
)

func TestHunt(t *testing.T) {
	on(t, "serial:///dev/ttyUSB9", func(t *testing.T, b *rig) {
		d := b.device()
		b.devices <- d
		b.begin()
		for i := range 60 { // a receiver at 4800
			if d.baud == 4800 {
				d.send(second(i))
			} else {
				d.send("\xf8\x00\x86\x98")
			}
			pass(time.Second)
		}
		b.health.want(t)
		if d.baud != 4800 || !slices.Equal(d.bauds, []int{38400, 115200, 4800}) {
			t.Errorf("rates %v", d.bauds)
		}
		for i := range 100 { // exchanged for one at 38400
			if d.baud == 38400 {
				d.send(second(i))
			} else {
				d.send("\xf8\x00\x86\x98")
			}
			pass(time.Second)
		}
		if d.baud != 38400 {
			t.Errorf("rates %v", d.bauds)
		}
		b.health.want(t, "gps_wrong_data", "GPS receiver delivers fixes")
	})
}

func TestHuntInVain(t *testing.T) {
	on(t, "serial:///dev/ttyUSB9", func(t *testing.T, b *rig) {
		d := b.device()
		b.devices <- d
		b.begin()
		for range 14 {
			d.send("\xf8\x00\x86\x98")
			pass(time.Second)
		}
		b.health.want(t)
		for range 40 {
			d.send("\xf8\x00\x86\x98")
			pass(time.Second)
		}
		b.health.want(t, "gps_wrong_data")
		if !slices.Equal(d.bauds[:7], []int{38400, 115200, 4800, 57600, 19200, 9600, 38400}) {
			t.Errorf("rates %v", d.bauds)
		}
	})
}

// A receiver that speaks UBX has been found, even if there is nothing to read.
func TestHuntFindsBinary(t *testing.T) {
	on(t, "serial:///dev/ttyUSB9", func(t *testing.T, b *rig) {
		d := b.device()
		b.devices <- d
		b.begin()
		for range 60 {
			if d.baud == 38400 {
				d.send(strings.Repeat("\xb5\x62\x01\x07\x02\x00$\x00\x08\x19", 4))
			} else {
				d.send("\xf8\x00\x86\x98")
			}
			pass(time.Second)
		}
		if d.baud != 38400 {
			t.Errorf("rates %v", d.bauds)
		}
		b.health.want(t, "gps_binary")
	})
}

// A receiver that comes back is listened to at the rate it had, under the name that it
// kept; a device that has taken its old name is not opened.
func TestBackUnderAnotherName(t *testing.T) {
	dir := t.TempDir()
	given, stays := filepath.Join(dir, "ttyUSB0"), filepath.Join(dir, "usb-receiver")
	touch := func(t *testing.T, paths ...string) {
		t.Helper()
		for _, path := range paths {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	touch(t, given, stays)
	var mu sync.Mutex
	names := map[string]string{given: stays, stays: stays}
	name := func(path, is string) {
		mu.Lock()
		defer mu.Unlock()
		names[path] = is
	}
	on(t, "serial://"+given, func(t *testing.T, b *rig) {
		d := b.device()
		b.devices <- d
		b.begin()
		for i := range 10 {
			if d.rate() == 38400 {
				d.send(second(i))
			}
			pass(time.Second)
		}
		// Back as another device, while a printer has the old name.
		name(given, filepath.Join(dir, "usb-printer"))
		if err := os.Remove(stays); err != nil {
			t.Fatal(err)
		}
		b.attempts()
		d.unplug()
		pass(5 * time.Second)
		touch(t, stays)
		d = b.device()
		b.devices <- d
		for i := range 15 {
			select {
			case d.chunks <- port.Chunk{Data: []byte(second(30 + i)), Arrived: b.uptime()}:
			default: // not opened yet
			}
			pass(time.Second)
		}
		opened, _ := b.attempts()
		other := func(a string) bool { return a != "serial://"+stays+"?baud=38400" }
		if d.rate() != 38400 || len(opened) == 0 || slices.ContainsFunc(opened, other) {
			t.Errorf("opened %q, at %d baud", opened, d.rate())
		}
		// Without a link the name given counts.
		name(given, given)
		if err := os.Remove(stays); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		d.unplug()
		pass(3 * time.Second)
		if opened, _ = b.attempts(); len(opened) == 0 || opened[0] != "serial://"+given+"?baud=38400" {
			t.Errorf("opened %q", opened)
		}
	}, func(c *Config) {
		c.Stable = func(path string) string {
			mu.Lock()
			defer mu.Unlock()
			return names[path]
		}
	})
}

func TestNoHunt(t *testing.T) {
	for _, address := range []string{given, "serial:///dev/ttyACM7", "tcp://192.0.2.1:2000"} {
		on(t, address, func(t *testing.T, b *rig) {
			d := b.device()
			b.devices <- d
			b.begin()
			for range 60 {
				d.send("\xf8\x00\x86\x98")
				pass(time.Second)
			}
			if d.bauds != nil {
				t.Errorf("%s: rates %v", address, d.bauds)
			}
		})
	}
}
