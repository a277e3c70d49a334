package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"telemetryd/internal/drive"
	"telemetryd/internal/status"
	"telemetryd/sim"
)

// metres between two places that are near each other.
func metres(lat1, lon1, lat2, lon2 float64) float64 {
	const degree = 111_195
	return math.Hypot((lat2-lat1)*degree, (lon2-lon1)*degree*math.Cos(lat1*math.Pi/180))
}

// coordinates finds every latitude with its longitude in a message, however deep.
func coordinatesIn(x any) (all [][2]float64) {
	switch x := x.(type) {
	case map[string]any:
		latitude, ok := x["latitude"].(float64)
		longitude, there := x["longitude"].(float64)
		if ok && there {
			all = append(all, [2]float64{latitude, longitude})
		}
		for _, v := range x {
			all = append(all, coordinatesIn(v)...)
		}
	case []any:
		for _, v := range x {
			all = append(all, coordinatesIn(v)...)
		}
	}
	return all
}

// A vehicle starts at home, drives away, and comes through another zone: not a byte of where
// it was within them is at the broker, in the buffer's directory or in the log; where it was
// beyond them is.
func TestPrivacyZones(t *testing.T) {
	t.Parallel()
	const seed, radius = 1, 60
	route := sim.NewDrive(seed)
	home, work := route.At(0), route.At(60*time.Second)
	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	v := startVehicle(t, "--seed", fmt.Sprint(seed), "--gps-rate", "2", "--gps-baud", "0")
	state := t.TempDir()
	config := filepath.Join(t.TempDir(), "van.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `privacy:
  zones:
    - {name: home, latitude: %v, longitude: %v, radius_m: %d}
    - {name: work, latitude: %v, longitude: %v, radius_m: %d}
`, home.Latitude, home.Longitude, radius, work.Latitude, work.Longitude, radius), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, m, v, state, "--config", config, "--latest", "1s", "--position", "1s", "--log-level", "debug")
	hidden := func(l, l2 float64) bool {
		return metres(l, l2, home.Latitude, home.Longitude) < radius || metres(l, l2, work.Latitude, work.Longitude) < radius
	}
	// Until it was out and within again: the position was told, and then no more.
	s.await("a position, then none, then one", 4*time.Minute, func(ms []message) bool {
		seen := ""
		for _, p := range onTopic(ms, "position") {
			now := "hidden "
			if strings.Contains(p.Payload, "latitude") {
				now = "shown "
			}
			if !strings.HasSuffix(seen, now) {
				seen += now
			}
		}
		return strings.Contains(seen, "hidden shown hidden shown")
	})
	d.end(syscall.SIGTERM)

	shown := map[string]bool{}
	told := 0
	var everything bytes.Buffer // that left, or was kept
	for _, x := range s.messages() {
		everything.WriteString(x.Payload)
		var payload any
		if err := json.Unmarshal([]byte(x.Payload), &payload); err != nil {
			t.Fatal(err)
		}
		for _, c := range coordinatesIn(payload) {
			told++
			if hidden(c[0], c[1]) {
				t.Errorf("%s: %v", x.Topic, c)
			}
		}
	}
	kept := 0
	err := filepath.WalkDir(state, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		kept += bytes.Count(b, []byte(`"latitude":`))
		everything.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	everything.WriteString(d.log.String())

	// The receiver's own words, by the truth log, shortened to a few metres.
	inZones, beyond := 0, 0
	all := readTruth(t, v.truth)
	short := func(x float64) string { return fmt.Sprintf("%.7f", x)[:8] }
	texts := map[string]bool{} // of hidden places, unless one that may be told has the same
	for i, latitude := range all["latitude"] {
		longitude := all["longitude"][i]
		if !longitude.t.Equal(latitude.t) {
			t.Fatal("the truth log has a latitude without its longitude")
		}
		var l, l2 float64
		if _, err := fmt.Sscan(latitude.value+" "+longitude.value, &l, &l2); err != nil {
			t.Fatal(err)
		}
		if hidden(l, l2) {
			inZones++
			texts[short(l)], texts[short(l2)] = true, true
			continue
		}
		beyond++
		shown[short(l)], shown[short(l2)] = true, true
	}
	looked := 0
	for text := range texts {
		if shown[text] {
			continue
		}
		looked++
		if at := bytes.Index(everything.Bytes(), []byte(text)); at >= 0 {
			t.Errorf("%s, which is in a zone, is in %q", text, everything.Bytes()[max(0, at-80):at+20])
		}
	}
	found := 0
	for text := range shown {
		if bytes.Contains(everything.Bytes(), []byte(text)) {
			found++
		}
	}
	t.Logf("%d fixes in the zones, %d beyond; %d coordinates told, %d in the buffer's directory; %d texts looked for, %d of others found", inZones, beyond, told, kept, looked, found)
	if inZones < 20 || told < 20 || kept < 20 || looked < 5 || found < 20 {
		t.Error("the drive does not try it")
	}
	if !strings.Contains(everything.String(), `"hdop"`) {
		t.Error("that there was a fix is not told")
	}
}

// The secret stays the same over starts. One that is lost to damage is made anew, and told.
func TestPrivacySecret(t *testing.T) {
	dir := t.TempDir()
	zones := drive.Privacy{Zones: []drive.Zone{{Name: "home", Latitude: 48, Longitude: 11, Radius: 200}}}
	start := func() (secret, code string) {
		health := status.NewHealth(slog.New(slog.DiscardHandler))
		p := withSecret(zones, dir, health)
		for _, c := range health.Conditions() {
			code += c.Code
		}
		return string(p.Secret), code
	}
	first, code := start()
	if len(first) < 16 || code != "" {
		t.Errorf("first start: %q, %s", first, code)
	}
	if again, code := start(); again != first || code != "" {
		t.Errorf("second start: %q, want %q; %s", again, first, code)
	}
	if err := os.WriteFile(filepath.Join(dir, "privacy"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	anew, code := start()
	if anew == first || len(anew) < 16 || code != "privacy_zones_moved" {
		t.Errorf("damaged: %q, %s", anew, code)
	}
	if again, code := start(); again != anew || code != "" {
		t.Errorf("after it: %q, want %q; %s", again, anew, code)
	}
	if err := os.Remove(filepath.Join(dir, "privacy")); err != nil {
		t.Fatal(err)
	}
	zones.Zones = nil
	if secret, _ := start(); secret != "" {
		t.Error("a secret without zones")
	}
	if _, err := os.Stat(filepath.Join(dir, "privacy")); err == nil {
		t.Error("a file without zones")
	}
}
