package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// testFences are the city, where the virtual vehicle always is, a part of its loop that
// begins at 11.589 degrees east and ends at 11.6015, and a place that it never comes to.
const testFences = `{"type": "FeatureCollection", "features": [
 {"type": "Feature", "properties": {"name": "city"}, "geometry": {"type": "Polygon", "coordinates": [[[11.4, 48], [11.7, 48], [11.7, 48.3], [11.4, 48.3], [11.4, 48]]]}},
 {"type": "Feature", "id": "p", "properties": {"name": "Prinzregentenstrasse", "speed_limit_kmh": 50}, "geometry": {"type": "Polygon", "coordinates":
   [[[11.589, 48.138], [11.6015, 48.138], [11.6015, 48.145], [11.589, 48.145], [11.589, 48.138]]]}},
 {"type": "Feature", "properties": {"name": "elsewhere", "radius_m": 100}, "geometry": {"type": "Point", "coordinates": [11.595, 48.137]}}
]}`

// geofenceEvent is one as it is published.
type geofenceEvent struct {
	T        time.Time
	Type     string
	Severity string
	Position *struct{ Latitude, Longitude float64 }
	Data     struct {
		Name      string
		FenceID   string   `json:"fence_id"`
		FirstSeen *bool    `json:"first_seen"`
		DurationS *float64 `json:"duration_s"`
		SettledS  float64  `json:"settled_s"`
	}
}

func geofenceEvents(t *testing.T, ms []message) (events []geofenceEvent) {
	t.Helper()
	for _, m := range onTopic(ms, "events") {
		if !strings.HasPrefix(m.Type, "geofence_") {
			continue
		}
		var e geofenceEvent
		if err := json.Unmarshal([]byte(m.Payload), &e); err != nil || e.Data.FirstSeen == nil || e.Position == nil {
			t.Fatalf("%v: %s", err, m.Payload)
		}
		events = append(events, e)
	}
	return events
}

// A vehicle that starts inside of one fence and drives through another tells so, where and
// when it was at the border; a restart tells nothing again.
func TestGeofencesOnTheWire(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), t.TempDir()
	config := filepath.Join(dir, "telemetryd.yaml")
	for file, content := range map[string]string{config: "geofences: {file: fences.geojson}\n", filepath.Join(dir, "fences.geojson"): testFences} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	v := startVehicle(t, "--speedup", "8", "--gps-rate", "5", "--gps-baud", "0")
	d := startDaemon(t, m, v, state, "--config", config)
	ms := s.await("a fence entered and left", 120*time.Second, func(ms []message) bool {
		return slices.ContainsFunc(onTopic(ms, "events"), func(m message) bool { return m.Type == "geofence_left" })
	})
	events := geofenceEvents(t, ms)
	if len(events) != 3 {
		t.Fatalf("%+v", events)
	}
	city, entered, left := events[0], events[1], events[2]
	if city.Type != "geofence_entered" || city.Data.Name != "city" || !*city.Data.FirstSeen {
		t.Errorf("%+v", city)
	}
	for _, c := range []struct {
		geofenceEvent
		kind   string
		border float64 // degrees east
	}{{entered, "geofence_entered", 11.589}, {left, "geofence_left", 11.6015}} {
		if c.Type != c.kind || c.Severity != "info" || c.Data.Name != "Prinzregentenstrasse" || c.Data.FenceID != "p" || *c.Data.FirstSeen || c.Data.SettledS < 1.5 {
			t.Errorf("%+v", c.geofenceEvent)
		}
		// The first fix behind the border: at 8 times 50 km/h they are 22 m apart, 0.0003 degrees.
		if behind := c.Position.Longitude - c.border; behind < 0 || behind > 0.0005 {
			t.Errorf("%s %.5f degrees behind the border", c.kind, behind)
		}
		nearest := time.Hour // to the fix that was there, by the receiver's own time
		for _, x := range readTruth(t, v.truth)["longitude"] {
			var longitude float64
			if err := json.Unmarshal([]byte(x.value), &longitude); err != nil {
				t.Fatal(err)
			}
			if math.Abs(longitude-c.Position.Longitude) < 1e-7 {
				nearest = min(nearest, x.t.Sub(c.T).Abs())
			}
		}
		if nearest > time.Second {
			t.Errorf("%s at %v: the fix there is %v away", c.kind, c.T, nearest)
		}
	}
	if d := left.Data.DurationS; d == nil || math.Abs(*d-left.T.Sub(entered.T).Seconds()) > 0.2 {
		t.Errorf("left after %v s; entered %v, left %v", d, entered.T, left.T)
	}

	if took := d.end(syscall.SIGTERM); took > 2*time.Second || d.err != nil {
		t.Errorf("SIGTERM: %v after %v", d.err, took)
	}
	kept, err := os.ReadFile(filepath.Join(state, "geofences"))
	if err != nil || !strings.Contains(string(kept), `{"inside":["city"]}`) || strings.Contains(string(kept), "48.") {
		t.Errorf("kept %q, %v", kept, err)
	}
	before := len(s.messages())
	d = startDaemon(t, m, v, state, "--config", config)
	ms = s.await("20 fixes of a new stream", 60*time.Second, func(ms []message) bool {
		return strings.Count(joined(onTopic(ms[before:], "telemetry")), `"latitude"`) >= 20
	})
	for _, e := range geofenceEvents(t, ms[before:]) {
		if e.Data.Name == "city" {
			t.Errorf("told again: %+v", e)
		}
	}
	if took := d.end(syscall.SIGTERM); took > 2*time.Second || d.err != nil {
		t.Errorf("SIGTERM: %v after %v", d.err, took)
	}
}
