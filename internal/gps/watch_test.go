package gps

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryd/internal/port"
	"telemetryd/internal/telemetry"
)

const given = "serial:///dev/ttyUSB9?baud=9600"

func TestConditions(t *testing.T) {
	on(t, given, func(t *testing.T, b *rig) {
		b.begin()
		b.health.want(t, "gps_missing")
		pass(time.Minute)
		b.health.want(t)

		d := b.device()
		b.devices <- d
		pass(40 * time.Second)
		b.health.want(t, "gps_silent")
		for range 20 {
			d.send("ELM327 v1.5\r\r>")
			pass(500 * ms)
		}
		b.health.want(t, "gps_wrong_data")
		for range 20 {
			d.send("\xb5\x62\x01\x07$\x00\x08\x19")
			pass(500 * ms)
		}
		b.health.want(t, "gps_binary")
		for i := range 20 {
			d.send(say(fmt.Sprintf("GPRMC,1200%02d,V,,,,,,,231126,,", i)))
			pass(500 * ms)
		}
		b.health.want(t, "gps_no_fix")
		for i := range 20 {
			d.send(second(i))
			pass(time.Second)
		}
		b.health.want(t, "GPS receiver delivers fixes")
		if len(b.fixes) != 20 {
			t.Errorf("%d fixes of 20", len(b.fixes))
		}
		d.unplug()
		pass(10 * time.Second)
		b.health.want(t, "gps_missing")
		d = b.device()
		b.devices <- d
		pass(20 * time.Second)
		b.health.want(t, "gps_silent")
		d.send(second(30))
		pass(time.Second)
		b.health.want(t, "GPS receiver delivers fixes")
	})
}

// The titles and remedies are complete, whatever the address.
func TestConditionTexts(t *testing.T) {
	list := []telemetry.Condition{nothingFound, silent, wrongData, binaryOutput, noFix, frozen, jumped,
		notGPSD(port.LocalGPSD()), noReceiver(port.LocalGPSD()), lost("/dev/ttyACM0")}
	for _, scheme := range []string{"serial", "tcp", "gpsd", "file"} {
		a := port.Address{Scheme: scheme, Path: "/x", Host: "h:1"}
		list = append(list, missing(a, io.EOF), fileEnded(a, 0), fileEnded(a, 1))
	}
	for _, c := range list {
		if !strings.HasPrefix(c.Code, "gps_") || c.Severity == "" || c.Title == "" || c.Remedy == "" {
			t.Errorf("incomplete: %+v", c)
		}
	}
}

// A receiver just switched on is in no trouble for its first seconds.
func TestNoConditionWhenAllIsWell(t *testing.T) {
	on(t, given, func(t *testing.T, b *rig) {
		d := b.device()
		b.devices <- d
		b.begin()
		pass(4 * time.Second)
		for i := range 10 {
			d.send(second(i))
			pass(time.Second)
		}
		b.health.want(t)
	})
}

// Live fixes come with the last sentence once the cadence is known, and 150 ms of
// silence after it before.
func TestLatency(t *testing.T) {
	on(t, given, func(t *testing.T, b *rig) {
		d := b.device()
		b.devices <- d
		b.begin()
		for i := range 10 {
			for line := range strings.SplitAfterSeq(second(i), "\n") {
				if line != "" {
					d.send(line)
					pass(20 * ms)
				}
			}
			pass(920 * ms)
		}
		for i, late := range b.late {
			want := firstSilence
			if i >= firstLesson {
				want = 0
			}
			if late != want {
				t.Errorf("fix %d came %v after its last byte, want %v", i, late, want)
			}
		}
		if len(b.late) != 10 {
			t.Errorf("%d fixes of 10", len(b.late))
		}
	})
}

func TestBackOff(t *testing.T) {
	on(t, "tcp://192.0.2.1:2000", func(t *testing.T, b *rig) {
		b.begin()
		pass(10 * time.Minute)
		_, at := b.attempts()
		for i, base := 1, firstRetry; i < len(at); i, base = i+1, min(2*base, lastRetry) {
			gap := at[i] - at[i-1]
			if gap < base*8/10 || gap > min(base*12/10, lastRetry) {
				t.Errorf("attempt %d after %v, want %v or so", i, gap, base)
			}
		}
		if len(at) < 20 {
			t.Errorf("%d attempts in 10 minutes", len(at))
		}
		d := b.device()
		b.devices <- d
		pass(lastRetry)
		d.send(second(0))
		d.unplug()
		synctest.Wait()
		b.attempts()
		pass(1300 * ms)
		if _, at := b.attempts(); len(at) == 0 {
			t.Error("the back-off did not begin anew after data came")
		}
	})
}

// A connection that is closed at once, again and again, is a silent receiver.
func TestClosedAtOnce(t *testing.T) {
	on(t, "tcp://192.0.2.1:2000", func(t *testing.T, b *rig) {
		for range 10 {
			d := b.device()
			d.unplug()
			b.devices <- d
		}
		b.begin()
		pass(20 * time.Second)
		b.health.want(t, "gps_silent")
	})
}

// A TCP peer that lost power never closes its connection.
func TestSilentConnectionIsMadeAnew(t *testing.T) {
	on(t, "tcp://192.0.2.1:2000", func(t *testing.T, b *rig) {
		d := b.device()
		b.devices <- d
		b.begin()
		d.send(second(0))
		synctest.Wait()
		b.attempts()
		pass(20 * time.Second)
		if _, at := b.attempts(); len(at) != 0 {
			t.Error("connected again too soon")
		}
		pass(20 * time.Second)
		if _, at := b.attempts(); len(at) == 0 {
			t.Error("not connected again")
		}
	})
}

// With no address given, every port named as a receiver gets its turn until one
// speaks.
func TestAuto(t *testing.T) {
	on(t, "", func(t *testing.T, b *rig) {
		b.begin()
		b.health.want(t, "gps_missing")
		deaf, good := b.device(), b.device()
		b.devices <- deaf
		b.devices <- good
		b.mu.Lock()
		b.found = []port.Address{{Scheme: "serial", Path: "/dev/ttyACM7"}, {Scheme: "serial", Path: "/dev/ttyACM8"}}
		b.mu.Unlock()
		for i := range 100 {
			select {
			case good.chunks <- port.Chunk{Data: []byte(second(i)), Arrived: b.uptime()}:
			default:
			}
			pass(time.Second)
		}
		opened, _ := b.attempts()
		if want := []string{"serial:///dev/ttyACM7", "serial:///dev/ttyACM8"}; !slices.Equal(opened, want) {
			t.Errorf("opened %q, want %q", opened, want)
		}
		b.health.want(t, "gps_silent", "GPS receiver delivers fixes")
	})
}
