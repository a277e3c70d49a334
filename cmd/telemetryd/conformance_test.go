package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"telemetryd/sim"
)

// TestConformance is `make conformance LOGS=DIR`: it prints how decode gps reads the
// recorded streams of a folder.
func TestConformance(t *testing.T) {
	dir := os.Getenv("CONFORMANCE_LOGS")
	if dir == "" {
		t.Skip("make conformance LOGS=DIR")
	}
	scores, err := scoreFolder(t.Context(), dir)
	if err != nil {
		t.Error(err) // the others are still told
	}
	if err := printScores(os.Stdout, scores, os.Getenv("CONFORMANCE_CAUSES") != ""); err != nil {
		t.Fatal(err)
	}
}

// What the virtual receiver sent is read whole and right, by its own truth; and the
// score falls when the reference says something else.
func TestConformanceOfSim(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var recording sync.WaitGroup
	for name, v := range map[string]struct {
		gps    sim.GPSConfig
		epochs int
		damage func(stream string) string
	}{
		"1hz":  {sim.GPSConfig{Rate: 1}, 3, nil},
		"10hz": {sim.GPSConfig{Rate: 10}, 30, nil},
		"cold": {sim.GPSConfig{Rate: 10, NoFixFor: time.Second}, 20, nil},
		"noisy": {sim.GPSConfig{Rate: 5}, 15, func(stream string) string {
			return "93,N,01134.5*5A\r\n" + strings.ReplaceAll(stream, "\r\n", "\r\r\n\xb5\x62\x01\x07\x00$$\x00")
		}},
		"gga first": {sim.GPSConfig{Rate: 10}, 30, ggaFirst},
	} {
		recording.Go(func() {
			stream, truths := recordSim(t, v.gps, v.epochs)
			if v.damage != nil {
				stream = v.damage(stream)
			}
			writeStream(t, filepath.Join(dir, name+".log"), stream, truths)
		})
	}
	if recording.Wait(); t.Failed() {
		return
	}
	scores, err := scoreFolder(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scores {
		if s.epochs < 3 || s.agreeing != s.epochs {
			t.Errorf("%s: %d of %d epochs agree: %v", s.stream, s.agreeing, s.epochs, s.disagreements)
		}
	}

	reference := filepath.Join(dir, "10hz.log.chk")
	content, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := bytes.Cut(content, []byte{'\n'})
	var r map[string]any
	if err := json.Unmarshal(first, &r); err != nil {
		t.Fatal(err)
	}
	r["lat"] = r["lat"].(float64) + 2e-6
	broken, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(reference, slices.Concat(broken, []byte{'\n'}, rest), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := scoreStream(t.Context(), filepath.Join(dir, "10hz.log"))
	if err != nil {
		t.Fatal(err)
	}
	if s.agreeing != s.epochs-1 || len(s.disagreements) != 1 || !strings.HasPrefix(s.disagreements[0].causes[0], "position") {
		t.Errorf("with a broken reference %d of %d epochs agree: %v", s.agreeing, s.epochs, s.disagreements)
	}
}

// recordSim records so many fixes of a virtual receiver, and what they were.
func recordSim(t *testing.T, c sim.GPSConfig, fixes int) (stream string, truths []sim.Truth) {
	enough := make(chan struct{})
	c.Listen = "tcp://127.0.0.1:0"
	v, err := sim.Start(t.Context(), sim.Config{Seed: 7, Speedup: 20, GPS: c, OnTruth: func(truth sim.Truth) {
		if !*truth.Valid {
			return
		}
		if truths = append(truths, truth); len(truths) == fixes {
			close(enough)
		}
	}})
	if err != nil {
		t.Error(err)
		return "", nil
	}
	defer v.Close()
	conn, err := net.Dial("tcp", strings.TrimPrefix(v.GPSAddress(), "tcp://"))
	if err != nil {
		t.Error(err)
		return "", nil
	}
	defer conn.Close()
	var received sync.WaitGroup
	var all bytes.Buffer
	received.Go(func() { _, _ = io.Copy(&all, conn) }) // ends when the receiver does
	select {
	case <-enough:
	case <-time.After(30 * time.Second):
		t.Error("the virtual receiver sends nothing")
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	received.Wait()
	return all.String(), truths
}

// ggaFirst moves the RMC of each cycle to where its GGA is: many receivers send
// them in this order.
func ggaFirst(stream string) string {
	lines := strings.SplitAfter(stream, "\r\n")
	for i, rmc := range lines {
		if !strings.HasPrefix(rmc, "$GNRMC") {
			continue
		}
		if n := slices.IndexFunc(lines[i:], func(l string) bool { return strings.HasPrefix(l, "$GNGGA") }); n > 0 {
			lines[i], lines[i+n] = lines[i+n], rmc
		}
	}
	return strings.Join(lines, "")
}

// writeStream writes a stream, and beside it what gpsd would report of it.
func writeStream(t *testing.T, file, stream string, truths []sim.Truth) {
	var reference bytes.Buffer
	for _, truth := range truths {
		v := truth.Values
		fmt.Fprintf(&reference, `{"class":"TPV","mode":3,"time":%q,"lat":%v,"lon":%v,"speed":%.3f,"track":%v}`+"\n",
			truth.FixTime, v["latitude"], v["longitude"], v["gps_speed_kmh"].(float64)/3.6, v["heading_deg"])
	}
	for name, content := range map[string][]byte{file: []byte(stream), file + ".chk": reference.Bytes()} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Error(err)
		}
	}
}

func TestScoring(t *testing.T) {
	const line = "$GPRMC,120000.000,A,4808.2293,N,01134.5674,E,10.0,359.95,231126,,*0E\r\n"
	if got := speedsSent([]byte("x" + line))[12*time.Hour]; len(got) != 1 || fmt.Sprintf("%.3f", got) != "[5.144]" {
		t.Errorf("speeds sent %v", got)
	}
	at := func(s string) *time.Time {
		x, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return &x
	}
	num := func(x float64) *float64 { return &x }
	fix := decodedFix{T: *at("2026-11-23T12:00:00Z"), Latitude: num(48.137155), Longitude: num(-179.9999998), SpeedKmh: num(18.52), Heading: num(359.95)}
	still := fix
	still.SpeedKmh, still.Heading = num(0), nil
	without := fix
	without.SpeedKmh, without.Heading = nil, nil
	for _, c := range []struct {
		name, time string
		lat, lon   float64
		speed      *float64
		track      *float64
		got        decodedFix
		sent       bool
		want       string // what differs
	}{
		{"the same", "2026-11-23T12:00:00Z", 48.137155, -179.9999998, num(5.144), num(359.95), fix, true, ""},
		{"1 ms", "2026-11-23T12:00:00.001Z", 48.137155, -179.9999998, num(5.144), num(359.95), fix, true, ""},
		{"2 ms", "2026-11-23T12:00:00.002Z", 48.137155, -179.9999998, num(5.144), num(359.95), fix, true, "time missing"},
		{"1024 weeks", "2007-04-09T12:00:00Z", 48.137155, -179.9999998, num(5.144), num(359.95), fix, true, ""},
		{"1023 weeks", "2007-04-16T12:00:00Z", 48.137155, -179.9999998, num(5.144), num(359.95), fix, true, "time missing"},
		{"north of it", "2026-11-23T12:00:00Z", 48.1371562, -179.9999998, num(5.144), num(359.95), fix, true, "position"},
		{"over the date line", "2026-11-23T12:00:00Z", 48.137155, 179.9999998, num(5.144), num(359.95), fix, true, ""},
		{"speed just in", "2026-11-23T12:00:00Z", 48.137155, -179.9999998, num(5.19), num(359.95), fix, true, ""},
		{"speed", "2026-11-23T12:00:00Z", 48.137155, -179.9999998, num(5.2), num(359.95), fix, true, "speed"},
		{"speed missing", "2026-11-23T12:00:00Z", 48.137155, -179.9999998, num(5.144), num(359.95), without, true, "speed heading"},
		{"speed derived by gpsd", "2026-11-23T12:00:00Z", 48.137155, -179.9999998, num(5.144), num(359.95), without, false, ""},
		{"heading over north", "2026-11-23T12:00:00Z", 48.137155, -179.9999998, num(5.144), num(0.05), fix, true, ""},
		{"heading", "2026-11-23T12:00:00Z", 48.137155, -179.9999998, num(5.144), num(0.06), fix, true, "heading"},
		{"heading at rest", "2026-11-23T12:00:00Z", 48.137155, -179.9999998, num(0.04), num(90), still, true, ""},
		{"no heading in the reference", "2026-11-23T12:00:00Z", 48.137155, -179.9999998, num(5.144), nil, fix, true, ""},
		{"two things", "2026-11-23T12:00:00Z", 48.2, -179.9999998, num(3), num(359.95), fix, true, "position speed"},
	} {
		var sent []float64
		if c.sent {
			sent = []float64{5.144}
		}
		var got []string
		far := decodedFix{T: c.got.T, Latitude: num(0), Longitude: num(0)}
		for _, cause := range compare(tpv{Time: at(c.time), Lat: &c.lat, Lon: &c.lon, Speed: c.speed, Track: c.track}, []decodedFix{far, c.got, far}, sent) {
			what, _, _ := strings.Cut(cause, ":")
			got = append(got, what)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: differs in %q, want %q", c.name, got, c.want)
		}
	}
}
