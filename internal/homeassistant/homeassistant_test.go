package homeassistant

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"telemetryd/internal/telemetry"
)

var van = Device{Prefix: "homeassistant", TopicPrefix: "vehicles", VehicleID: "van-12", Version: "1.0.0", Latest: true, Position: true,
	Own: []telemetry.Signal{{Name: "battery_soc_pct", Unit: "%"}, {Name: "doors"}}, Commands: []string{"read_dtc", "led_on"}}

// everything are the names of all signals that van may have.
func everything() (names []string) {
	for _, s := range telemetry.Signals() {
		names = append(names, s.Name)
	}
	return append(names, "battery_soc_pct", "doors")
}

// components are those of a message, their keys written out.
func components(t *testing.T, message []byte) map[string]map[string]any {
	t.Helper()
	var raw any
	if err := json.Unmarshal(message, &raw); err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]any{}
	for name, c := range expand(raw).(map[string]any)["components"].(map[string]any) {
		all[name] = c.(map[string]any)
	}
	return all
}

func TestMessageFitsSchema(t *testing.T) {
	for what, d := range map[string]Device{
		"all": van, "nothing but the state": {Prefix: "ha", TopicPrefix: "v", VehicleID: "a"}, "a dot in the id": {Prefix: "ha", TopicPrefix: "v", VehicleID: "a.b", Latest: true, Position: true},
	} {
		message, now := d.Message(everything(), Platforms{"gone": "button"})
		for _, w := range schema(d.Topic(), message) {
			t.Errorf("%s: %s", what, w)
		}
		if all := components(t, message); len(all) != len(now)+1 || len(all["gone"]) != 1 {
			t.Errorf("%s: %d entities, %d now; gone: %v", what, len(all), len(now), all["gone"])
		}
		t.Logf("%s: %d entities, %d bytes", what, len(now), len(message))
	}
}

// Each rule of the schema finds what breaks it.
func TestSchemaFinds(t *testing.T) {
	good, _ := van.Message(everything(), nil)
	if w := schema(van.Topic(), good); w != nil {
		t.Fatal(w)
	}
	type object = map[string]any
	entity := func(name string, change func(c object)) func(object) {
		return func(root object) { change(root["cmps"].(object)[name].(object)) }
	}
	for _, c := range []struct {
		want   string
		change func(root object)
	}{
		{"device without identifiers", func(r object) { delete(r["dev"].(object), "ids") }},
		{"device: unknown key wheels", func(r object) { r["dev"].(object)["wheels"] = 4 }},
		{"origin without name", func(r object) { delete(r["o"].(object), "name") }},
		{"origin: unknown key by", func(r object) { r["o"].(object)["by"] = "x" }},
		{"root: unknown key colour", func(r object) { r["colour"] = "red" }},
		{"state_topic at the root", func(r object) { r["stat_t"] = "vehicles/van-12/status" }},
		{"availability without topic", func(r object) { delete(r["avty"].([]any)[0].(object), "t") }},
		{"availability: unknown key x", func(r object) { r["avty"].([]any)[0].(object)["x"] = "y" }},
		{"root: availability is no list", func(r object) { r["avty"] = "vehicles/van-12/status" }},
		{"no components", func(r object) { r["cmps"] = object{} }},
		{`platform "radio"`, entity("fuel_level_pct", func(c object) { c["p"] = "radio" })},
		{"fuel_level_pct: without unique_id", entity("fuel_level_pct", func(c object) { delete(c, "uniq_id") })},
		{"has the unique_id of", entity("fuel_level_pct", func(c object) { c["uniq_id"] = "telemetryd_van-12_odometer_km" })},
		{"fuel_level_pct: without state_topic", entity("fuel_level_pct", func(c object) { delete(c, "stat_t") })},
		{"state_topic is a/+", entity("fuel_level_pct", func(c object) { c["stat_t"] = "a/+" })},
		{"fuel_level_pct: unknown key command_topic", entity("fuel_level_pct", func(c object) { c["cmd_t"] = "a" })},
		{"fuel_level_pct: name is 1", entity("fuel_level_pct", func(c object) { c["name"] = 1 })},
		{"entity_category config", entity("fuel_level_pct", func(c object) { c["ent_cat"] = "config" })},
		{"device_class warmth", entity("coolant_temperature_c", func(c object) { c["dev_cla"] = "warmth" })},
		{`unit "C" of a temperature`, entity("coolant_temperature_c", func(c object) { c["unit_of_meas"] = "C" })},
		{"state_class sum", entity("odometer_km", func(c object) { c["stat_cla"] = "sum" })},
		{"an enum has options", entity("status-state", func(c object) { delete(c, "ops") })},
		{"an enum has options", entity("status-state", func(c object) { c["stat_cla"] = "measurement" })},
		{"options without enum", entity("fix", func(c object) { c["ops"] = []any{"2d", "3d"} })},
		{"mil_on: device_class door-bell", entity("mil_on", func(c object) { c["dev_cla"] = "door-bell" })},
		{"mil_on: unknown key state_class", entity("mil_on", func(c object) { c["stat_cla"] = "measurement" })},
		{"gps-position: without json_attributes_topic", entity("gps-position", func(c object) { delete(c, "json_attr_t") })},
		{"gps-position: source_type magic", entity("gps-position", func(c object) { c["src_type"] = "magic" })},
		{"gps-position: unknown key state_topic", entity("gps-position", func(c object) { c["stat_t"] = "a" })},
		{"command-led_on: without command_topic", entity("command-led_on", func(c object) { delete(c, "cmd_t") })},
	} {
		var root object
		if err := json.Unmarshal(good, &root); err != nil {
			t.Fatal(err)
		}
		c.change(root)
		bad, err := json.Marshal(root)
		if err != nil {
			t.Fatal(err)
		}
		if w := schema(van.Topic(), bad); len(w) == 0 || !strings.Contains(strings.Join(w, "\n"), c.want) {
			t.Errorf("not found: %s; but %q", c.want, w)
		}
	}
	for _, topic := range []string{"homeassistant/device/van.12/config", "homeassistant/sensor/van-12/config", "homeassistant/device/van-12"} {
		if w := schema(topic, good); len(w) != 1 {
			t.Errorf("%s: %q", topic, w)
		}
	}
	if w := schema(van.Topic(), []byte("[]")); len(w) != 1 {
		t.Errorf("%q", w)
	}
	if w := schema(van.Topic(), []byte("{")); len(w) != 1 {
		t.Errorf("%q", w)
	}
}

// What is known of a signal becomes what Home Assistant calls it.
func TestEntities(t *testing.T) {
	message, _ := van.Message(everything(), nil)
	all := components(t, message)
	for name, want := range map[string]string{
		"vehicle_speed_kmh":     "sensor Vehicle speed speed km/h measurement",
		"coolant_temperature_c": "sensor Coolant temperature temperature °C measurement",
		"odometer_km":           "sensor Odometer distance km total_increasing",
		"fuel_level_pct":        "sensor Fuel level  % measurement",
		"fuel_rate_l_h":         "sensor Fuel rate volume_flow_rate L/h measurement",
		"maf_g_s":               "sensor MAF  g/s measurement",
		"run_time_s":            "sensor Run time duration s measurement",
		"mil_on":                "binary_sensor MIL on problem  ",
		"satellites":            "sensor Satellites   measurement",
		"fix":                   "sensor Fix   ",
		"battery_soc_pct":       "sensor Battery soc  % measurement",
		"command-read_dtc":      "button Read DTC   ",
		"status-connection":     "binary_sensor Connection connectivity  ",
	} {
		c := all[name]
		var got []string
		for _, k := range []string{"platform", "name", "device_class", "unit_of_measurement", "state_class"} {
			s, _ := c[k].(string)
			got = append(got, s)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", name, strings.Join(got, " "), want)
		}
	}
	for _, name := range []string{"satellites", "hdop", "fix", "status-connection"} {
		if all[name]["entity_category"] != "diagnostic" {
			t.Errorf("%s is no diagnostic", name)
		}
	}
	for name, c := range all {
		if off, there := c["availability"]; there != slices.Contains([]string{"status-connection", "status-state"}, name) || there && off != nil && len(off.([]any)) > 0 {
			t.Errorf("%s: availability %v", name, off)
		}
	}
	if b := all["command-led_on"]; b["command_topic"] != "vehicles/van-12/command" || b["payload_press"] != "led_on" {
		t.Errorf("button %v", b)
	}
	if all["latitude"] != nil || all["longitude"] != nil {
		t.Error("coordinates are the tracker's")
	}
}

// Only what the car has, and what is published, is an entity; what was is named as gone.
func TestOnlyWhatIsThere(t *testing.T) {
	d := van
	d.Commands = []string{"led_on"}
	message, now := d.Message([]string{"odometer_km", "not_ours"}, Platforms{"odometer_km": "sensor", "fuel_level_pct": "sensor", "command-read_dtc": "button"})
	all := components(t, message)
	want := []string{"command-led_on", "gps-position", "odometer_km", "status-connection", "status-health", "status-state"}
	if got := now.Names(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for name, platform := range map[string]string{"fuel_level_pct": "sensor", "command-read_dtc": "button"} {
		if !maps.Equal(all[name], map[string]any{"platform": platform}) {
			t.Errorf("%s: %v", name, all[name])
		}
	}
	d.Latest, d.Position, d.Commands = false, false, nil
	if _, now = d.Message(everything(), nil); !slices.Equal(now.Names(), []string{"status-connection", "status-health", "status-state"}) {
		t.Errorf("%v", now.Names())
	}
}

// Ids that Home Assistant does not take stay apart.
func TestIDs(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []string{"van-12", "van.12", "van_12", "van..12", "van_.12"} {
		topic := Device{Prefix: "homeassistant", VehicleID: id}.Topic()
		if other, twice := seen[topic]; twice || !topicPattern.MatchString(topic) {
			t.Errorf("%s: %s, as of %q", id, topic, other)
		}
		seen[topic] = id
	}
	if got := (Device{Prefix: "homeassistant", VehicleID: "van-12"}).Topic(); got != "homeassistant/device/van-12/config" {
		t.Error(got)
	}
}
