package gps

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryd/internal/port"
	"telemetryd/internal/telemetry"
)

const remote = "gpsd://192.0.2.1:2947"

// fakeGPSD is a gpsd that reads the devices named.
func (b *rig) fakeGPSD(paths ...string) *device {
	d := &device{chunks: make(chan port.Chunk, 1000), uptime: b.uptime}
	d.answer = func(said string) {
		if strings.HasPrefix(said, "?DEVICES") {
			var list []string
			for _, p := range paths {
				list = append(list, fmt.Sprintf(`{"class":"DEVICE","path":%q}`, p))
			}
			d.say(`{"class":"DEVICES","devices":[` + strings.Join(list, ",") + `]}`)
		}
	}
	d.say(`{"class":"VERSION","release":"3.22","rev":"3.22","proto_major":3,"proto_minor":14}`)
	b.devices <- d
	return d
}

// say sends lines as gpsd ends them.
func (d *device) say(lines ...string) { d.send(strings.Join(lines, "\r\n") + "\r\n") }

// tpv is a TPV of a device at n seconds past noon, on its way north; more is added.
func tpv(path string, n int, more string) string {
	return fmt.Sprintf(`{"class":"TPV","device":%q,"mode":3,"time":"2026-11-23T12:%02d:%02d.000Z","lat":%.9f,"lon":11.576123333%s}`,
		path, n/60, n%60, 48.137153333+float64(n)*0.0001, more)
}

func (b *rig) samples() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for _, r := range b.fixes {
		all = append(all, sample(r))
	}
	b.fixes = nil
	return all
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestGPSDFixes(t *testing.T) {
	on(t, remote, func(t *testing.T, b *rig) {
		d := b.fakeGPSD("/dev/a")
		b.begin()
		wantLines(t, d.heard(), "?DEVICES;\n", "?WATCH={\"enable\":true,\"json\":true,\"timing\":true};\n")

		// Of the first ones no speed is believed: gpsd may have computed it.
		for n := 57; n < 60; n++ {
			d.say(strings.Replace(tpv("/dev/a", n, `,"speed":10,"track":1`), "T12", "T11", 1))
			pass(300 * ms)
		}
		if first := strings.Join(b.samples(), ""); strings.Count(first, "latitude") != 3 || strings.Contains(first, "speed") || strings.Contains(first, "heading") {
			t.Errorf("first %s", first)
		}

		// One for each sentence, growing; then SKY.
		d.say(`{"class":"TPV","device":"/dev/a","mode":2,"time":"2026-11-23T12:00:00.000Z","lat":48.137153333,"lon":11.576123333}`,
			tpv("/dev/a", 0, `,"alt":519.2`), tpv("/dev/a", 0, `,"altMSL":519.3,"speed":10.0,"track":271.3`),
			`{"class":"SKY","device":"/dev/a","hdop":0.9,"uSat":9,"satellites":[]}`)
		pass(199 * ms)
		wantLines(t, b.samples())
		pass(ms)
		wantLines(t, b.samples(), `{"t":"2026-11-23T12:00:00.000Z","latitude":48.1371533,"longitude":11.5761233,"altitude_m":519.3,"gps_speed_kmh":36,"heading_deg":271.3,"satellites":9,"hdop":0.9,"fix":"3d"}`)
		if b.late[3] != 200*ms {
			t.Errorf("the fix arrived %v before it was delivered", b.late[3])
		}

		// The next time ends the wait. Nothing is repeated; what is missing is absent.
		d.say(tpv("/dev/a", 1, ""), tpv("/dev/a", 2, `,"speed":0.5`))
		synctest.Wait()
		wantLines(t, b.samples(), `{"t":"2026-11-23T12:00:01.000Z","latitude":48.1372533,"longitude":11.5761233,"satellites":9,"hdop":0.9,"fix":"3d"}`)

		// Late news of a time; used satellites counted where gpsd does not.
		pass(300 * ms)
		d.say(`{"class":"SKY","device":"/dev/a","hdop":99.99,"satellites":[{"PRN":1,"used":true},{"PRN":2,"used":false},{"PRN":3,"used":true}]}`,
			tpv("/dev/a", 2, `,"altMSL":519.4`))
		pass(300 * ms)
		wantLines(t, b.samples(), `{"t":"2026-11-23T12:00:02.000Z","latitude":48.1373533,"longitude":11.5761233,"gps_speed_kmh":1.8,"satellites":9,"hdop":0.9,"fix":"3d"}`,
			`{"t":"2026-11-23T12:00:02.000Z","altitude_m":519.4}`)
		d.say(tpv("/dev/a", 3, ""))
		pass(300 * ms)
		wantLines(t, b.samples(), `{"t":"2026-11-23T12:00:03.000Z","latitude":48.1374533,"longitude":11.5761233,"satellites":2,"fix":"3d"}`)

		// An old SKY is forgotten. No fix, no date, other classes: nothing.
		pass(9700 * ms)
		d.say(tpv("/dev/a", 13, ""), `{"class":"TPV","device":"/dev/a","mode":1}`,
			`{"class":"TPV","device":"/dev/a","mode":2,"lat":48.1,"lon":11.5}`,
			`{"class":"GST","device":"/dev/a","time":5}`, `{"class":"ERROR","message":"x"}`, `{"class":"TOFF","mode":"x"}`, `[]`, `{`)
		pass(300 * ms)
		wantLines(t, b.samples(), `{"t":"2026-11-23T12:00:13.000Z","latitude":48.1384533,"longitude":11.5761233,"fix":"3d"}`)
		b.health.want(t)
	})
}

func TestGPSDRefuses(t *testing.T) {
	on(t, remote, func(t *testing.T, b *rig) {
		c := &Counters{}
		d := &desk{fix: nil, dropped: func(why Reason, _ string) { c.drop(why) }}
		none := func(*report) {}
		for _, line := range []string{
			`{"class":"TPV","mode":3,"time":"2026-11-23T12:00:00Z","lat":NaN,"lon":1}`,
			`{"class":"TPV","mode":3,"time":"2026-11-23T12:00:00Z","lat":90.1,"lon":1}`,
			`{"class":"TPV","mode":3,"time":"2026-11-23T12:00:00Z","lat":9,"lon":-181}`,
			`{"class":"TPV","mode":3,"time":"2026-11-23T12:00:00Z","lat":9,"lon":1,"speed":-1}`,
			`{"class":"TPV","mode":3,"time":"2026-11-23T12:00:00Z","lat":9,"lon":1,"track":361}`,
			`{"class":"TPV","mode":3,"time":"2026-11-23T12:00:00Z","lat":1e999,"lon":1}`,
			`{"class":"TPV","mode":3,"time":"2026-11-23T12:00:00Z","lat":"9","lon":1}`,
			`{"class":"TPV","mode":3,"time":"yesterday","lat":9,"lon":1}`,
			`{"class":"TPV","mode":3,"time":"1970-01-01T00:00:00Z","lat":9,"lon":1}`,
			`{"class":"TPV","mode":3,"lat":9,"lon":1}`,
			strings.Repeat("[", maxReport+1),
		} {
			d.feed([]byte(line+"\r\n"), 0, none)
		}
		d.quiet(time.Second)
		got := c.Drops()
		for why, n := range map[Reason]uint64{NotJSON: 1, OutOfRange: 4, BadNumber: 2, BadDate: 2, NoTime: 1, TooLong: 1} {
			if got[why] != n {
				t.Errorf("%d dropped as %s, want %d", got[why], why, n)
			}
		}
		d.feed([]byte(strings.Repeat("x", 10*maxReport)), 0, none)
		if cap(d.lines.line) > 2*maxReport {
			t.Errorf("%d bytes are kept", cap(d.lines.line))
		}
	})
}

// A receiver whose week number started again is 1024 weeks late.
func TestGPSDRollover(t *testing.T) {
	r := report{Time: "2007-04-09T12:00:00.500Z"}
	got, why := r.fixTime(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	if want := "2026-11-23T12:00:00.5Z"; got.Format(time.RFC3339Nano) != want || why != "" {
		t.Errorf("%v %s, want %s", got, why, want)
	}
}

// The clock is told when the receiver's cycle began, as far as gpsd says the same twice
// and as that can be; else when the report came, which may be as late as a second.
func TestGPSDTime(t *testing.T) {
	type told struct{ firstByte, err time.Duration }
	var got []told
	d := &desk{fix: func(telemetry.Reading) {}, fixes: func() {}, dropped: func(why Reason, line string) { t.Errorf("%s: %s", why, line) }}
	d.dated = func(_ time.Time, firstByte, err time.Duration) { got = append(got, told{firstByte, err}) }
	for n, test := range []struct {
		timing string
		want   told
	}{
		{``, told{0, time.Second}},
		{`,"rtime": 900.250,"sor": 0.000000000`, told{0, time.Second}},
		{`,"rtime": 1795607129.250384548,"sor": 1795607129.053327524`, told{0, time.Second}}, // the first
		{`,"rtime": 1795607130.250,"sor": 1795607130.000`, told{197057 * time.Microsecond, 500 * ms}},
		{`,"rtime": 1795607131.250,"sor": 1795607130.650`, told{250 * ms, 500 * ms}}, // gpsd's clock was set
		{`,"rtime": 1795607132.250,"sor": 1795607132.050`, told{200 * ms, 500 * ms}},
		{`,"rtime": 1795607133.250,"sor": 1795607122.050`, told{0, time.Second}}, // an earlier cycle's
		{`,"rtime": 1795607134.250,"sor": 1795607134.050`, told{0, time.Second}},
		{`,"rtime": 1795607134.050,"sor": 1795607134.250`, told{0, time.Second}},
		{`,"rtime": -1e300,"sor": 1e300`, told{0, time.Second}},
	} {
		at := time.Duration(n+1) * time.Second
		d.feed([]byte(tpv("/dev/a", n, test.timing)+"\r\n"+tpv("/dev/a", n, test.timing)+"\r\n"), at, func(*report) {})
		if len(got) != n+1 {
			t.Fatalf("%s: told %d times", test.timing, len(got)-n)
		}
		if g := got[n]; (at-g.firstByte-test.want.firstByte).Abs() > time.Microsecond || g.err != test.want.err {
			t.Errorf("%s: %v before the report, within %v; want %v", test.timing, at-g.firstByte, g.err, test.want)
		}
	}
	// Ten times a second: what began before the time before was told is of that one.
	got = nil
	for n := range 3 {
		line := strings.Replace(tpv("/dev/a", 100, `,"rtime": 10.15,"sor": 10`), "40.000Z", fmt.Sprintf("40.%d00Z", n), 1)
		d.feed([]byte(line+"\r\n"), time.Minute+time.Duration(n)*100*ms, func(*report) {})
	}
	for _, g := range got[1:] {
		if g.err != time.Second {
			t.Errorf("%v", got)
		}
	}
}

// The first receiver with a fix is listened to until it has had none for 10 s.
func TestGPSDDevices(t *testing.T) {
	on(t, remote, func(t *testing.T, b *rig) {
		d := b.fakeGPSD("/dev/a", "/dev/b")
		b.begin()
		for n := range 40 {
			d.say(`{"class":"TPV","device":"/dev/a","mode":1}`, `{"class":"SKY","device":"/dev/a","hdop":2}`)
			if n >= 5 && n < 15 || n == 20 {
				d.say(tpv("/dev/b", n, ""))
			}
			if n >= 10 {
				d.say(tpv("/dev/a", n, `,"altMSL":1`))
			}
			pass(time.Second)
		}
		var from strings.Builder
		for _, s := range b.samples() {
			if strings.Contains(s, "altitude") {
				from.WriteString("a")
			} else {
				from.WriteString("b")
			}
		}
		if want := strings.Repeat("b", 11) + strings.Repeat("a", 40-30); from.String() != want {
			t.Errorf("fixes of %s, want %s", &from, want)
		}
	})
}

func TestGPSDConditions(t *testing.T) {
	on(t, remote, func(t *testing.T, b *rig) {
		b.begin()
		b.health.want(t, "gps_missing")
		d := b.fakeGPSD()
		pass(10 * time.Second)
		b.health.want(t, "gps_no_receiver")
		pass(25 * time.Second)
		if said := strings.Join(d.heard(), ""); strings.Count(said, "?DEVICES") < 3 || strings.Count(said, "?WATCH") != 1 {
			t.Errorf("said %q", said)
		}
		d.say(`{"class":"DEVICE","path":"/dev/a","driver":"NMEA0183","activated":"2026-11-23T12:00:00.000Z"}`)
		for range 12 {
			d.say(`{"class":"TPV","device":"/dev/a","mode":0}`)
			pass(time.Second)
		}
		b.health.want(t, "gps_no_fix")
		d.say(tpv("/dev/a", 1, ""))
		pass(9 * time.Second)
		b.health.want(t, "GPS receiver delivers fixes")
		pass(2 * time.Second)
		b.health.want(t, "gps_lost")
		for range 20 {
			d.say(tpv("/dev/a", 2, ""))
			pass(time.Second)
		}
		b.health.want(t, "GPS receiver delivers fixes", "gps_frozen")
		d.unplug() // gpsd restarts
		synctest.Wait()
		d = b.fakeGPSD("/dev/a")
		b.attempts()
		pass(1300 * ms)
		d.say(tpv("/dev/a", 40, ""))
		pass(time.Second)
		b.health.want(t, "gps_missing", "GPS receiver delivers fixes")
	})
}

// gpsd that closes the connection is connected to again at once, and with pauses when
// it is not there.
func TestGPSDRestarted(t *testing.T) {
	on(t, remote, func(t *testing.T, b *rig) {
		d := b.fakeGPSD("/dev/a")
		b.begin()
		for n := range 3 {
			d.say(tpv("/dev/a", n, ""))
			pass(time.Second)
		}
		next := b.fakeGPSD("/dev/a")
		b.attempts()
		d.unplug()
		synctest.Wait()
		if opened, _ := b.attempts(); len(opened) != 1 || len(next.heard()) != 2 {
			t.Errorf("%d attempts at once", len(opened))
		}
		next.unplug() // at once again
		pass(800 * ms)
		if opened, _ := b.attempts(); len(opened) != 0 {
			t.Errorf("%d attempts without a pause", len(opened))
		}
	})
}

// Of another machine only silence can be seen: a new connection every 30 s.
func TestGPSDRemoteSilence(t *testing.T) {
	on(t, remote, func(t *testing.T, b *rig) {
		for range 5 {
			b.fakeGPSD("/dev/a")
		}
		b.begin()
		pass(100 * time.Second)
		_, at := b.attempts()
		for i := 1; i < len(at); i++ {
			if gap := at[i] - at[i-1]; gap < 30*time.Second || gap > 31*time.Second {
				t.Errorf("attempt %d after %v", i, gap)
			}
		}
		if len(at) != 4 {
			t.Errorf("%d attempts", len(at))
		}
		b.health.want(t, "gps_lost")
	})
}

// While the device of a gpsd on this machine is absent, gpsd hears nothing of us: any
// word would make it forget the device.
func TestGPSDLocalUnplugged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "receiver")
	plug := func(t *testing.T) {
		t.Helper()
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plug(t)
	on(t, "gpsd://localhost", func(t *testing.T, b *rig) {
		d := b.fakeGPSD(path)
		b.begin()
		for n := range 3 {
			d.say(tpv(path, n, ""))
			pass(time.Second)
		}
		d.heard()
		b.attempts()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		b.health.want(t, "gps_lost")
		if opened, _ := b.attempts(); len(opened) > 0 || len(d.heard()) > 0 {
			t.Errorf("gpsd was spoken to while its device was absent: %q", opened)
		}
		next := b.fakeGPSD(path)
		plug(t)
		pass(2 * time.Second)
		if opened, _ := b.attempts(); len(opened) != 1 {
			t.Errorf("%d attempts when it was back", len(opened))
		}
		wantLines(t, next.heard(), "?DEVICES;\n", "?WATCH={\"enable\":true,\"json\":true,\"timing\":true};\n")
		next.say(tpv(path, 70, ""))
		pass(time.Second)
		b.health.want(t, "GPS receiver delivers fixes")

		// Silent, although it is there: another ?WATCH 30 s after the last.
		last := b.fakeGPSD(path, path+"2")
		pass(26 * time.Second)
		b.health.want(t, "gps_lost")
		if opened, _ := b.attempts(); len(opened) != 0 {
			t.Errorf("%d attempts before 30 s", len(opened))
		}
		pass(3 * time.Second)
		if opened, _ := b.attempts(); len(opened) != 1 {
			t.Errorf("%d attempts after 30 s", len(opened))
		}
		// Of two, only the one that is there is watched.
		watch := fmt.Sprintf("?WATCH={\"enable\":true,\"json\":true,\"timing\":true,\"device\":%q};\n", path)
		wantLines(t, last.heard(), "?DEVICES;\n", watch)
		pass(6 * time.Second) // repeated while it brings nothing
		wantLines(t, last.heard(), watch, watch)
		last.say(tpv(path, 150, ""))
		pass(2 * time.Second)
		wantLines(t, last.heard())
	})
}

// Started while the device is absent: no ?WATCH until it is there.
func TestGPSDStartedUnplugged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "receiver")
	on(t, "gpsd://[::1]", func(t *testing.T, b *rig) {
		d := b.fakeGPSD(path)
		b.begin()
		pass(20 * time.Second)
		wantLines(t, d.heard(), "?DEVICES;\n")
		b.health.want(t, "gps_lost")
	})
}

// A device that gpsd lists and this process cannot see is not gone: after a while it is
// watched without being seen.
func TestGPSDHidden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "receiver")
	on(t, "gpsd://[::1]", func(t *testing.T, b *rig) {
		d := b.fakeGPSD(path)
		b.begin()
		pass(29 * time.Second)
		wantLines(t, d.heard(), "?DEVICES;\n")
		b.health.want(t, "gps_lost")
		pass(2 * time.Second)
		wantLines(t, d.heard(), "?WATCH={\"enable\":true,\"json\":true,\"timing\":true};\n")
		for n := range 20 {
			d.say(tpv(path, n, ""))
			pass(time.Second)
		}
		b.health.want(t, "GPS receiver delivers fixes")
		if len(b.samples()) != 20 {
			t.Error("fixes are missing")
		}
		if opened, _ := b.attempts(); len(opened) != 1 {
			t.Errorf("%d attempts", len(opened))
		}
	})
}

func TestNotGPSD(t *testing.T) {
	on(t, remote, func(t *testing.T, b *rig) {
		d := b.device()
		b.devices <- d
		b.begin()
		d.send(second(0))
		pass(8 * time.Second)
		b.health.want(t, "gps_wrong_data", "gps_missing")
	})
}

// Auto asks gpsd first; a port that gpsd reads is nobody else's.
func TestAutoGPSD(t *testing.T) {
	gpsd := port.LocalGPSD()
	withGPSD := func(c *Config) { c.GPSD = &gpsd }
	t.Run("has a receiver", func(t *testing.T) {
		on(t, "", func(t *testing.T, b *rig) {
			b.found = []port.Address{{Scheme: "serial", Path: "/dev/a"}, {Scheme: "serial", Path: "/dev/b"}}
			b.fakeGPSD("/dev/null", "/dev/a") // asked
			d := b.fakeGPSD("/dev/null", "/dev/a")
			b.begin()
			for n := range 5 {
				d.say(tpv("/dev/null", n, ""))
				pass(time.Second)
			}
			opened, _ := b.attempts()
			wantLines(t, opened, "gpsd://127.0.0.1:2947", "gpsd://127.0.0.1:2947")
			if len(b.fixes) != 5 {
				t.Errorf("%d fixes", len(b.fixes))
			}
			pass(45 * time.Second) // silent: gpsd is asked again, then /dev/b has its turn
			opened, _ = b.attempts()
			if !slices.Contains(opened, "serial:///dev/b") || slices.Contains(opened, "serial:///dev/a") {
				t.Errorf("opened %q", opened)
			}
		}, withGPSD)
	})
	t.Run("restarts", func(t *testing.T) {
		on(t, "", func(t *testing.T, b *rig) {
			b.found = []port.Address{{Scheme: "serial", Path: "/dev/null"}}
			b.fakeGPSD("/dev/null")
			d := b.fakeGPSD("/dev/null")
			b.begin()
			for n := range 100 {
				d.say(tpv("/dev/null", n, ""))
				pass(time.Second)
			}
			b.attempts()
			d.unplug()
			pass(50 * time.Second) // its port is left to it
			if opened, _ := b.attempts(); slices.Contains(opened, "serial:///dev/null") || len(opened) == 0 {
				t.Errorf("opened %q", opened)
			}
			pass(time.Minute) // it does not come back
			if opened, _ := b.attempts(); !slices.Contains(opened, "serial:///dev/null") {
				t.Errorf("opened %q", opened)
			}
		}, withGPSD)
	})
	t.Run("has none", func(t *testing.T) {
		on(t, "", func(t *testing.T, b *rig) {
			b.found = []port.Address{{Scheme: "serial", Path: "/dev/a"}}
			b.fakeGPSD()
			d := b.device()
			b.devices <- d
			b.begin()
			d.send(second(0))
			opened, _ := b.attempts()
			wantLines(t, opened, "gpsd://127.0.0.1:2947", "serial:///dev/a")
		}, withGPSD)
	})
	t.Run("is not there", func(t *testing.T) {
		on(t, "", func(t *testing.T, b *rig) {
			b.begin()
			pass(20 * time.Second)
			b.health.want(t, "gps_missing")
		}, withGPSD)
	})
}
