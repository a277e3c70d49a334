package gps

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"telemetryd/internal/telemetry"
)

// whole decodes in chunks of the sizes that cut gives, over and over.
func whole(in []byte, cut []int) (out []string, fixes []telemetry.Reading) {
	d := newDecoder(false, time.Time{}, &Counters{},
		func(r telemetry.Reading) { out, fixes = append(out, sample(r)), append(fixes, r) },
		func(why Reason, text string) { out = append(out, string(why)+" "+text) })
	for i := 0; len(in) > 0; i++ {
		n := min(max(1, cut[i%len(cut)]), len(in))
		d.feed(in[:n], 0)
		in = in[n:]
	}
	d.end()
	return out, fixes
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(second(0) + second(1)))
	f.Add([]byte("293,N*00\r\n$$GNGGA,120000," + where + ",1,00,99.99,-4,M,,M,,*00\r\r\n!AIVDM,1*00\n\xb5\x62\x01\x07"))
	f.Add([]byte(saying("GPZDA,235960.9999,31,12,1999,,", "GPGLL,9000.0000,S,18000.0000,W,235960.9999,A", "GPVTG,,T,,M,,N,,K", "GPGSA,A,1,,,,")))
	f.Add([]byte(saying("GPZDA,235959,31,12,2026,00,00", "GPGLL,"+where+",000000.5,A,A", "GPRMC,000001,A,"+where+",1,2,0101-1,,,A")))
	f.Add([]byte("$GPRMC,$GPRMC,120000,A*\x00$GPTXT\\*5C\n"))
	recorded, err := os.ReadFile("testdata/mixed.nmea")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(recorded)
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, in := range [][]byte{in, signed(in)} {
			once, fixes := whole(in, []int{len(in)})
			if pieces, _ := whole(in, []int{1, 7, 2, 31}); !slices.Equal(once, pieces) {
				t.Errorf("in one piece %q, in many %q", once, pieces)
			}
			for _, r := range fixes {
				checkDecoded(t, r)
			}
		}
	})
}

// A live decoder, which closes epochs early, after silences and again when more comes,
// delivers nothing that cannot be, either.
func FuzzLive(f *testing.F) {
	f.Add([]byte(second(0)+second(1)+second(2)+second(3)+second(4)+second(5)+second(6)), uint16(97), uint16(140))
	f.Add([]byte(saying("GPZDA,235959,31,12,2026,00,00", "GPGLL,"+where+",000000.5,A,A", "GPVTG,1,T,,M,2,N,,K", "GPGLL,"+where+",000000.5,A,A")), uint16(40), uint16(160))
	f.Fuzz(func(t *testing.T, in []byte, chunk, silence uint16) {
		fixed := map[time.Time]bool{}
		d := newDecoder(true, date(2026, 1, 1), &Counters{}, func(r telemetry.Reading) {
			if fixed[r.FixTime] {
				checkFields(t, r)
				return
			}
			fixed[r.FixTime] = true
			checkFix(t, r)
		}, func(Reason, string) {})
		now := time.Duration(0)
		for piece := range slices.Chunk(signed(in), 1+int(chunk)) {
			now += time.Duration(silence) * ms
			d.quiet(now)
			d.feed(piece, now)
		}
		d.end()
	})
}

// FuzzGPSD: whatever a gpsd says, in whatever chunks, fixes are sound.
func FuzzGPSD(f *testing.F) {
	f.Add([]byte(tpv("/dev/a", 0, `,"alt":519.2`) + "\r\n" + tpv("/dev/b", 0, `,"altMSL":1e5,"speed":2777.7,"track":360`) + "\r\n" + tpv("/dev/a", 1, "") + "\n"))
	f.Add([]byte(`{"class":"SKY","device":"/dev/a","hdop":0.9,"uSat":9}` + "\n" + tpv("/dev/a", 0, "") + "\n" + `{"class":"SKY","device":"/dev/a","satellites":[{"used":true}]}` + "\n"))
	f.Add([]byte(`{"class":"TPV","mode":2,"time":"2099-12-31T23:59:60Z","lat":-90,"lon":180,"speed":-0,"alt":NaN}` + "\n[[[[{\n\xff\x00"))
	f.Add([]byte(`{"class":"DEVICES","devices":[{"path":""},null]}` + "\n" + `{"class":"DEVICE","path":"/dev/a","activated":0}` + "\n" + `{"CLASS":"TPV","mode":3}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		said := func(cut []int) (out []string) {
			seen := map[time.Time]bool{}
			d := &desk{build: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), fixes: func() {},
				fix: func(r telemetry.Reading) {
					if !seen[r.FixTime] || hasPosition(r) {
						checkDecoded(t, r)
					}
					seen[r.FixTime] = true
					out = append(out, sample(r))
				},
				dropped: func(why Reason, text string) { out = append(out, string(why)+" "+text) }}
			g := devices{local: true}
			rest := in
			for i := 0; len(rest) > 0; i++ {
				n := min(cut[i%len(cut)], len(rest))
				d.feed(rest[:n], 0, func(r *report) { g.set(r.Devices); g.add(r.Path) })
				rest = rest[n:]
			}
			d.release()
			if len(g.list) > mostDevices || len(d.skies) > mostDevices {
				t.Errorf("%d devices, %d skies are kept", len(g.list), len(d.skies))
			}
			return out
		}
		once := said([]int{max(1, len(in))})
		if pieces := said([]int{1, 7, 2, 31}); !slices.Equal(once, pieces) {
			t.Errorf("in one piece %q, in many %q", once, pieces)
		}
	})
}

// hasPosition tells a fix from an addition to one.
func hasPosition(r telemetry.Reading) bool {
	return slices.ContainsFunc(r.Fields, func(f telemetry.Field) bool { return f.Name == "latitude" })
}

// signed gives every sentence of in the checksum it should have, so that damage
// gets past it.
func signed(in []byte) []byte {
	var out strings.Builder
	for line := range strings.SplitSeq(string(in), "\n") {
		_, line, _ = strings.Cut(line, "$")
		body, _, _ := strings.Cut(line, "*")
		out.WriteString(say(body))
	}
	return []byte(out.String())
}

// failer is a testing.T or a rapid.T.
type failer interface {
	Helper()
	Errorf(format string, args ...any)
}

// checkFix tells what holds for every fix, whatever came in.
func checkFix(t failer, r telemetry.Reading) {
	t.Helper()
	names := checkFields(t, r)
	if !names["latitude"] || !names["longitude"] {
		t.Errorf("no fix: %s", sample(r))
	}
}

// checkDecoded tells what holds besides for one that no haste cut: it has a mode.
func checkDecoded(t failer, r telemetry.Reading) {
	t.Helper()
	checkFix(t, r)
	if !slices.ContainsFunc(r.Fields, func(f telemetry.Field) bool { return f.Name == "fix" }) {
		t.Errorf("no mode: %s", sample(r))
	}
}

// checkFields tells what holds for a fix and for what is added to one, and returns
// the names of its fields.
func checkFields(t failer, r telemetry.Reading) map[string]bool {
	t.Helper()
	if r.FixTime.Year() < 1980 || r.FixTime.Year() > 2200 || r.FixTime.Location() != time.UTC {
		t.Errorf("time of fix %v", r.FixTime)
	}
	if !json.Valid(r.AppendSample(nil, r.FixTime)) {
		t.Errorf("not JSON: %s", sample(r))
	}
	names := map[string]bool{}
	for _, f := range r.Fields {
		if names[f.Name] {
			t.Errorf("%s twice in %s", f.Name, sample(r))
		}
		names[f.Name] = true
		s, ok := telemetry.FindSignal(f.Name)
		if x, number := f.Value.Float(); !ok || number && !(x >= s.Min && x <= s.Max) {
			t.Errorf("%s is %v", f.Name, f.Value)
		}
	}
	return names
}

// Whatever happens to a stream on its way, what comes out is sound, does not depend
// on the chunks it came in, and is hardly more than was sent: at most a wound in a
// time makes two epochs of one, when its checksum is right by chance.
func TestDamage(t *testing.T) {
	var stream strings.Builder
	for i := range 20 {
		stream.WriteString(second(i))
	}
	sent, _ := decoded(t, stream.String())
	times := map[string]bool{}
	for _, s := range sent {
		times[s[:30]] = true
	}
	rapid.Check(t, func(t *rapid.T) {
		in := []byte(stream.String())
		for range rapid.IntRange(1, 8).Draw(t, "wounds") {
			at := rapid.IntRange(0, len(in)-1).Draw(t, "at")
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0: // one bit
				in[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			case 1: // bytes lost
				in = slices.Delete(in, at, min(len(in), at+rapid.IntRange(1, 3).Draw(t, "lost")))
			default: // noise
				in = slices.Insert(in, at, rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "noise")...)
			}
		}
		once, fixes := whole(in, []int{len(in)})
		cut := rapid.SliceOfN(rapid.IntRange(1, 300), 1, 20).Draw(t, "cut")
		if pieces, _ := whole(in, cut); !slices.Equal(once, pieces) {
			t.Fatalf("in one piece %q, in many %q", once, pieces)
		}
		for _, r := range fixes {
			checkDecoded(t, r)
		}
		if len(fixes) > len(times)+8 {
			t.Fatalf("%d fixes of %d epochs", len(fixes), len(times))
		}
	})
}
