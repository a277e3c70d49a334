package gps

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"telemetryd/internal/port"
	"telemetryd/internal/telemetry"
)

// drive is fixes for a guard.
type drive struct {
	guard guard
	at    time.Time
	fate  []Reason
}

func newDrive() *drive {
	return &drive{guard: guard{fastest: fastestCar}, at: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
}

// fix judges a fix a step after the one before; kmh < 0 tells no speed.
func (d *drive) fix(step time.Duration, lat, lon, kmh float64) Reason {
	d.at = d.at.Add(step)
	r := telemetry.Reading{FixTime: d.at, Arrived: d.at.Sub(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC))}
	r.Add("latitude", lat)
	r.Add("longitude", lon)
	if kmh >= 0 {
		r.Add("gps_speed_kmh", kmh)
	}
	why := d.guard.judge(&r)
	d.fate = append(d.fate, why)
	return why
}

func TestFrozenPosition(t *testing.T) {
	for _, c := range []struct {
		name    string
		kmh     float64 // by the receiver; -1 for none
		wheels  float64 // -1 for none
		old     bool    // the wheel speed is
		fixes   int     // before the freeze is seen; 0: never
		seconds int
	}{
		{"stands", 0, 0, false, 0, 600},
		{"stands, no speed told", -1, -1, false, 0, 600},
		{"slower than a walker", 5, 4, false, 0, 600},
		{"fast by the receiver", 50, -1, false, 6, 20},
		{"fast by the wheels", 0, 50, false, 6, 20},
		{"fast by old wheels", 0, 50, true, 0, 20},
		{"slow by the wheels", -1, 10, false, 12, 20}, // 30 m at 2.8 m/s
	} {
		d := newDrive()
		if c.wheels >= 0 {
			d.guard.wheels = func() (float64, time.Duration, bool) {
				at := d.at.Sub(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC))
				if c.old {
					at -= time.Minute
				}
				return c.wheels, at, true
			}
		}
		seen := 0
		for i := range c.seconds {
			if why := d.fix(time.Second, 48.1371, 11.5761, c.kmh); why == Frozen && seen == 0 {
				seen = i + 1
			} else if why != "" && why != Frozen {
				t.Errorf("%s: %s", c.name, why)
			}
		}
		if seen != c.fixes {
			t.Errorf("%s: frozen from fix %d on, want %d", c.name, seen, c.fixes)
		}
		if seen > 0 {
			if why := d.fix(time.Second, 48.1372, 11.5761, 50); why != "" {
				t.Errorf("%s: %q although it moves again", c.name, why)
			}
		}
	}
}

// Ten fixes a second do not freeze sooner.
func TestFrozenAtTenHertz(t *testing.T) {
	d := newDrive()
	for i := range 100 {
		why := d.fix(100*time.Millisecond, 48.1371, 11.5761, 100)
		if want := i >= 50; (why == Frozen) != want {
			t.Fatalf("fix %d: %q", i, why)
		}
	}
}

func TestJump(t *testing.T) {
	const metre = 1 / 111_195.0 // degrees of latitude
	d := newDrive()
	want := func(what string, reasons ...Reason) {
		t.Helper()
		if !slices.Equal(d.fate, reasons) {
			t.Errorf("%s: %q, want %q", what, d.fate, reasons)
		}
		d.fate = nil
	}
	d.fix(0, 48, 11, 0)
	d.fix(time.Second, 48+100*metre, 11, 0) // 360 km/h
	d.fix(time.Second, 48+280*metre, 11, 0) // 648 km/h less noise
	d.fix(time.Second, 48+280*metre, 11, 0)
	want("fast", "", "", "", "")
	d.fix(time.Second, 49, 11, 0)
	d.fix(time.Second, 48+280*metre, 11, 0)
	d.fix(time.Second, 49, 11, 0)
	d.fix(time.Second, 50, 11, 0)
	d.fix(time.Second, 48+280*metre, 11, 0)
	want("single ones", Jumped, "", Jumped, Jumped, "")
	d.fix(time.Second, 49, 11, 0)
	d.fix(time.Second, 49+20*metre, 11, 0)
	d.fix(time.Second, 49+40*metre, 11, 0)
	d.fix(time.Second, 49+60*metre, 11, 0)
	want("the new place", Jumped, Jumped, "", "")
	d.fix(time.Second, 48, 11, 0)
	want("and back", Jumped)
	d.fix(time.Hour, 48, 11, 0)
	want("after a ferry", "")
	d.fix(-time.Second, 48+30*metre, 11, 0)
	want("time set back", "")
	d.fix(0, -90, 180, 0)
	d.fix(0, 48, -180, 0)
	want("ends of the world", Jumped, Jumped)
	d.fix(time.Second, 0, -180, 0)
	d.fix(time.Second, 0, 180, 0)
	d.fix(time.Second, 0, -180, 0)
	want("the date line is no jump", Jumped, Jumped, "")
}

// What comes late of a fix that was kept back is kept back, too.
func TestGuardAdditions(t *testing.T) {
	d := newDrive()
	d.fix(0, 48, 11, 0)
	addition := func() Reason {
		r := telemetry.Reading{FixTime: d.at}
		r.Add("hdop", 1)
		return d.guard.judge(&r)
	}
	if why := addition(); why != "" {
		t.Errorf("of a good fix: %q", why)
	}
	d.fix(time.Second, 49, 11, 0)
	if why := addition(); why != Withheld {
		t.Errorf("of a jump: %q", why)
	}
}

// A receiver that hangs is named, and named no longer when it goes on.
func TestFrozenConditions(t *testing.T) {
	on(t, given, func(t *testing.T, b *rig) {
		d := b.device()
		b.devices <- d
		b.begin()
		for i := range 3 {
			d.send(second(i))
			pass(time.Second)
		}
		for range 20 {
			d.send(second(3)) // one and the same time
			pass(time.Second)
		}
		b.health.want(t, "gps_frozen")
		if len(b.fixes) != 4 {
			t.Errorf("%d fixes of 4", len(b.fixes))
		}
		for i := range 5 {
			d.send(second(30 + i))
			pass(time.Second)
		}
		b.health.want(t, "GPS receiver delivers fixes")

		for i := range 20 { // the time goes on, the position does not
			d.send(saying(fmt.Sprintf("GPRMC,1202%02d,A,%s,27.9,271.3,231126,,,A", i, where)))
			pass(time.Second)
		}
		b.health.want(t, "gps_frozen")
		if n := len(b.fixes); n < 9+5 || n > 9+7 {
			t.Errorf("%d fixes, want 5 to 7 more than 9", n)
		}
		d.send(say("GPRMC,120300,A,4807.2293,N,01134.5674,E,27.9,271.3,231126,,,A"))
		pass(time.Second)
		b.health.want(t, "GPS receiver delivers fixes")
		d.send(say("GPRMC,120301,A,4707.2293,N,01134.5674,E,27.9,271.3,231126,,,A"))
		pass(time.Second)
		b.health.want(t, "gps_jumped")
		pass(20 * time.Second)
		b.health.want(t, "gps_silent")
	})
}

// A recording is history: nothing is kept back of it.
func TestRecordingIsNotGuarded(t *testing.T) {
	fixes := 0
	s := newSource(Config{Uptime: func() time.Duration { return 0 }, Deliver: func(telemetry.Reading) { fixes++ }})
	d := &device{chunks: make(chan port.Chunk, 20), uptime: s.Uptime}
	for i := range 20 {
		d.send(saying(fmt.Sprintf("GPRMC,1202%02d,A,%s,27.9,271.3,231126,,,A", i, where)))
	}
	d.unplug()
	s.listen(t.Context(), port.Address{Scheme: "file"}, d, false)
	if fixes != 20 {
		t.Errorf("%d fixes of 20", fixes)
	}
}
