package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"telemetryd/internal/homeassistant"
)

// interpreter is a Python that has Jinja.
func interpreter(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), name, "-c", "import jinja2").Run() == nil {
			return name
		}
	}
	t.Fatal("no Python with Jinja: make deps")
	return ""
}

// render renders templates, each on a payload, by Home Assistant's own engine.
func render(t *testing.T, templates map[string][2]string) map[string]string {
	t.Helper()
	in, err := json.Marshal(map[string]any{"templates": templates})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), interpreter(t), "testdata/render.py")
	var said bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	var all map[string]string
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// discovered is what is read of a discovery message.
type discovered struct {
	Availability []struct {
		Topic    string `json:"t"`
		Template string `json:"val_tpl"`
	} `json:"avty"`
	Components map[string]struct {
		Platform           string `json:"p"`
		Topic              string `json:"stat_t"`
		Template           string `json:"val_tpl"`
		AttributesTopic    string `json:"json_attr_t"`
		AttributesTemplate string `json:"json_attr_tpl"`
	} `json:"cmps"`
}

// retainedOn is what a broker keeps on a topic; empty for nothing.
func retainedOn(t *testing.T, m *mosquitto, topic string) string {
	t.Helper()
	out, _ := exec.CommandContext(t.Context(), "mosquitto_sub", "-p", fmt.Sprint(m.port), "-t", topic, "-C", "1", "-W", "5", "--retained-only").Output() // fails when there is nothing
	return strings.TrimSpace(string(out))
}

const discoveryTopic = "homeassistant/device/van-1/config"

// The vehicle is found in Home Assistant: each entity shows just the value that was
// published, what is not there is unknown, and all follows the state.
func TestHomeAssistant(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	v := startVehicle(t)
	state := t.TempDir()
	args := []string{"--home-assistant", "--latest", "1s", "--position", "1s"}
	d := startDaemon(t, m, v, state, args...)
	var found discovered
	var latest map[string]any
	var payload map[string]string                                                            // by topic
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(500 * time.Millisecond) { // waiting for other processes
		payload = map[string]string{}
		for _, topic := range []string{discoveryTopic, "vehicles/van-1/latest", "vehicles/van-1/position", "vehicles/van-1/status"} {
			payload[topic] = retainedOn(t, m, topic)
		}
		found, latest = discovered{}, nil
		ok := payload["vehicles/van-1/position"] != ""
		for topic, into := range map[string]any{discoveryTopic: &found, "vehicles/van-1/latest": &latest} {
			ok = ok && json.Unmarshal([]byte(payload[topic]), into) == nil
		}
		ok = ok && latest["odometer_km"] != nil && latest["mil_on"] != nil && latest["fix"] != nil
		for name := range latest { // all that has come is known there
			_, there := found.Components[name]
			ok = ok && (there || slices.Contains([]string{"t", "latitude", "longitude"}, name))
		}
		if ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not complete: %v", payload)
		}
	}

	// It is what the package makes, whose form is checked there.
	want, _ := homeassistant.Device{Prefix: "homeassistant", TopicPrefix: "vehicles", VehicleID: "van-1", Version: version, Latest: true, Position: true}.
		Message(slices.Collect(maps.Keys(found.Components)), nil)
	if payload[discoveryTopic] != string(want) {
		t.Errorf("%s\nwant %s", payload[discoveryTopic], want)
	}

	const hidden, offline, parked = `{"t":"2026-11-23T10:00:00.000Z"}`, `{"state":"offline"}`, `{"state":"parked"}`
	templates := map[string][2]string{}
	for name, c := range found.Components {
		if c.Template != "" {
			templates[name] = [2]string{c.Template, payload[c.Topic]}
			templates[name+" absent"] = [2]string{c.Template, `{"t":"2026-11-23T10:00:00.000Z"}`}
		}
		if c.AttributesTemplate != "" {
			templates["tracker"] = [2]string{c.AttributesTemplate, payload[c.AttributesTopic]}
			templates["tracker hidden"] = [2]string{c.AttributesTemplate, hidden}
		}
	}
	if len(found.Availability) != 1 || found.Availability[0].Topic != "vehicles/van-1/status" {
		t.Fatalf("availability %+v", found.Availability)
	}
	available := found.Availability[0].Template
	templates["online"] = [2]string{available, payload["vehicles/van-1/status"]}
	templates["parked"], templates["offline"] = [2]string{available, parked}, [2]string{available, offline}
	templates["connection offline"] = [2]string{found.Components["status-connection"].Template, offline}
	got := render(t, templates)

	shown := 0
	for name, c := range found.Components {
		if c.Topic != "vehicles/van-1/latest" {
			continue
		}
		if got[name+" absent"] != "None" { // which Home Assistant takes for unknown
			t.Errorf("%s, absent: %q", name, got[name+" absent"])
		}
		value, there := latest[name]
		if !there {
			continue // it has become too old
		}
		shown++
		switch value := value.(type) {
		case float64:
			if x, err := strconv.ParseFloat(got[name], 64); err != nil || x != value {
				t.Errorf("%s: %q, want %v", name, got[name], value)
			}
		case bool:
			if got[name] != map[bool]string{true: "ON", false: "OFF"}[value] || c.Platform != "binary_sensor" {
				t.Errorf("%s: %q of a %s, want %v", name, got[name], c.Platform, value)
			}
		default:
			if got[name] != value {
				t.Errorf("%s: %q, want %v", name, got[name], value)
			}
		}
	}
	if shown < 30 {
		t.Errorf("only %d values are shown", shown)
	}
	t.Logf("%d entities, %d bytes; %d values rendered; latest %d bytes", len(found.Components), len(payload[discoveryTopic]), shown, len(payload["vehicles/van-1/latest"]))
	for what, want := range map[string]string{
		"tracker": payload["vehicles/van-1/position"], "tracker hidden": `{"in_zones":[]}`,
		"online": "online", "parked": "online", "offline": "offline", "connection offline": "OFF", "status-connection": "ON", "status-state": "online",
	} {
		if got[what] != want {
			t.Errorf("%s: %q, want %q", what, got[what], want)
		}
	}
	var position struct {
		T                             string
		Latitude, Longitude, Accuracy *float64
		GPSAccuracy                   *float64 `json:"gps_accuracy"`
	}
	if err := json.Unmarshal([]byte(payload["vehicles/van-1/position"]), &position); err != nil || position.Latitude == nil || position.Longitude == nil || position.GPSAccuracy == nil || !(*position.GPSAccuracy > 0) {
		t.Errorf("position %s", payload["vehicles/van-1/position"])
	}

	// Off, it says so; and the next start takes nothing away before it has come again.
	d.end(syscall.SIGTERM)
	if got := render(t, map[string][2]string{"": {available, retainedOn(t, m, "vehicles/van-1/status")}})[""]; got != "offline" {
		t.Errorf("stopped, it is %s", got)
	}
	s := subscribe(t, m, "homeassistant/#")
	s.await("what is retained", 10*time.Second, func(ms []message) bool { return len(ms) == 1 })
	startDaemon(t, m, vehicle{obd: "off", gps: "off"}, state, args...)
	ms := s.await("the discovery of the next start", 20*time.Second, func(ms []message) bool { return len(ms) > 1 })
	for _, x := range ms {
		var again discovered
		if err := json.Unmarshal([]byte(x.Payload), &again); err != nil || len(again.Components) != len(found.Components) {
			t.Errorf("%d entities, want %d (%v)", len(again.Components), len(found.Components), err)
		}
	}
}
