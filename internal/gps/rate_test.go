package gps

import (
	"slices"
	"strings"
	"testing"
	"time"
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
