package homeassistant

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// schema is what Home Assistant's documentation asks of a device discovery message
// (https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload, and the pages
// of sensor, binary_sensor, device_tracker and button), written anew. It returns all that is
// wrong with one.

var (
	topicPattern = regexp.MustCompile(`^[^/+#]+/device/[a-zA-Z0-9_-]+/config$`)

	// abbreviations of the keys that we use.
	abbreviations = map[string]string{
		"dev": "device", "o": "origin", "cmps": "components", "p": "platform", "avty": "availability", "t": "topic", "val_tpl": "value_template",
		"uniq_id": "unique_id", "dev_cla": "device_class", "ent_cat": "entity_category", "stat_t": "state_topic", "stat_cla": "state_class",
		"unit_of_meas": "unit_of_measurement", "src_type": "source_type", "json_attr_t": "json_attributes_topic", "json_attr_tpl": "json_attributes_template",
		"cmd_t": "command_topic", "pl_prs": "payload_press", "ops": "options",
		"ids": "identifiers", "mf": "manufacturer", "mdl": "model", "sw": "sw_version",
	}
	rootKeys   = []string{"device", "origin", "components", "availability", "availability_mode", "state_topic", "command_topic", "qos", "encoding"}
	deviceKeys = []string{"identifiers", "connections", "name", "manufacturer", "model", "model_id", "hw_version", "sw_version", "serial_number", "suggested_area", "via_device", "configuration_url"}
	originKeys = []string{"name", "sw_version", "support_url"}

	common = []string{"platform", "unique_id", "name", "availability", "availability_mode", "entity_category", "qos", "json_attributes_topic", "json_attributes_template"}
	// what a platform's page has, beside; required ones first.
	platforms = map[string]struct{ required, optional []string }{
		"sensor":         {[]string{"state_topic"}, []string{"value_template", "device_class", "state_class", "unit_of_measurement", "options", "expire_after", "suggested_display_precision"}},
		"binary_sensor":  {[]string{"state_topic"}, []string{"value_template", "device_class", "payload_on", "payload_off"}},
		"device_tracker": {nil, []string{"source_type"}},
		"button":         {[]string{"command_topic"}, []string{"payload_press", "device_class", "retain"}},
	}
	// units of a sensor's device classes, of those that we use; other classes have others.
	units = map[string][]string{
		"speed": {"km/h", "m/s", "mph"}, "temperature": {"°C", "°F", "K"}, "pressure": {"kPa", "Pa", "hPa", "bar", "mbar", "psi"}, "voltage": {"V", "mV"},
		"distance": {"km", "m", "mi"}, "duration": {"s", "min", "h", "d"}, "volume_flow_rate": {"L/h", "L/min", "m³/h"}, "enum": nil,
	}
	binaryClasses = []string{"connectivity", "problem"}
	stateClasses  = []string{"measurement", "total", "total_increasing"}
	sourceTypes   = []string{"gps", "router", "bluetooth", "bluetooth_le"}
)

// expand writes abbreviations out, as Home Assistant does before it looks.
func expand(x any) any {
	switch x := x.(type) {
	case map[string]any:
		all := map[string]any{}
		for k, v := range x {
			if long, ok := abbreviations[k]; ok {
				k = long
			}
			if k == "components" { // the keys in it are ours
				components := map[string]any{}
				if m, ok := v.(map[string]any); ok {
					for name, c := range m {
						components[name] = expand(c)
					}
					all[k] = components
					continue
				}
			}
			all[k] = expand(v)
		}
		return all
	case []any:
		var all []any
		for _, v := range x {
			all = append(all, expand(v))
		}
		return all
	}
	return x
}

func schema(topic string, message []byte) (wrong []string) {
	fail := func(format string, a ...any) { wrong = append(wrong, fmt.Sprintf(format, a...)) }
	if !topicPattern.MatchString(topic) {
		fail("topic %s", topic)
	}
	var raw any
	if err := json.Unmarshal(message, &raw); err != nil {
		return append(wrong, err.Error())
	}
	root, ok := expand(raw).(map[string]any)
	if !ok {
		return append(wrong, "no object")
	}
	keys(fail, "root", root, rootKeys)
	device, _ := root["device"].(map[string]any)
	keys(fail, "device", device, deviceKeys)
	if ids, _ := device["identifiers"].([]any); len(ids) == 0 {
		fail("device without identifiers")
	}
	origin, _ := root["origin"].(map[string]any)
	keys(fail, "origin", origin, originKeys)
	if name, _ := origin["name"].(string); name == "" {
		fail("origin without name")
	}
	availability(fail, "root", root)
	if _, there := root["state_topic"]; there {
		fail("state_topic at the root: a device_tracker inherits it, where it is deprecated")
	}
	components, ok := root["components"].(map[string]any)
	if !ok || len(components) == 0 {
		fail("no components")
	}
	ids := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(components)) {
		c, _ := components[name].(map[string]any)
		platform, _ := c["platform"].(string)
		page, known := platforms[platform]
		if !known {
			fail("%s: platform %q", name, platform)
			continue
		}
		if len(c) == 1 {
			continue // it is removed
		}
		id, _ := c["unique_id"].(string)
		if id == "" {
			fail("%s: without unique_id", name)
		}
		if other, twice := ids[id]; twice {
			fail("%s: has the unique_id of %s", name, other)
		}
		ids[id] = name
		keys(fail, name, c, slices.Concat(common, page.required, page.optional))
		for _, k := range page.required {
			if s, _ := c[k].(string); s == "" {
				fail("%s: without %s", name, k)
			}
		}
		entity(fail, name, platform, c)
	}
	return wrong
}

// keys tells of those that are not in the documentation.
func keys(fail func(string, ...any), where string, x map[string]any, known []string) {
	for k := range x {
		if !slices.Contains(known, k) {
			fail("%s: unknown key %s", where, k)
		}
	}
}

func availability(fail func(string, ...any), where string, x map[string]any) {
	list, ok := x["availability"].([]any)
	if _, there := x["availability"]; there && !ok && x["availability"] != nil {
		fail("%s: availability is no list", where)
	}
	for _, entry := range list {
		a, _ := entry.(map[string]any)
		keys(fail, where+": availability", a, []string{"topic", "value_template", "payload_available", "payload_not_available"})
		if t, _ := a["topic"].(string); t == "" {
			fail("%s: availability without topic", where)
		}
	}
}

// entity is what one of a platform has to be.
func entity(fail func(string, ...any), name, platform string, c map[string]any) {
	availability(fail, name, c)
	text := func(key string) string { s, _ := c[key].(string); return s }
	for _, k := range []string{"state_topic", "command_topic", "json_attributes_topic"} {
		if _, there := c[k]; there && (text(k) == "" || strings.ContainsAny(text(k), "+#")) {
			fail("%s: %s is %v", name, k, c[k])
		}
	}
	if n, there := c["name"]; there && n != nil && text("name") == "" {
		fail("%s: name is %v", name, n)
	}
	if cat, there := c["entity_category"]; there && cat != "diagnostic" && (cat != "config" || platform == "sensor" || platform == "binary_sensor") {
		fail("%s: entity_category %v", name, cat)
	}
	class, unit := text("device_class"), text("unit_of_measurement")
	switch platform {
	case "sensor":
		allowed, known := units[class]
		state, stateThere := c["state_class"]
		if class != "" && !known {
			fail("%s: device_class %s", name, class)
		}
		if class != "" && class != "enum" && !slices.Contains(allowed, unit) {
			fail("%s: unit %q of a %s", name, unit, class)
		}
		if stateThere && !slices.Contains(stateClasses, text("state_class")) {
			fail("%s: state_class %v", name, state)
		}
		if class == "enum" && (stateThere || unit != "" || c["options"] == nil) {
			fail("%s: an enum has options, and neither state_class nor unit", name)
		}
		if class != "enum" && c["options"] != nil {
			fail("%s: options without enum", name)
		}
	case "binary_sensor":
		if class != "" && !slices.Contains(binaryClasses, class) {
			fail("%s: device_class %s", name, class)
		}
	case "device_tracker":
		if text("json_attributes_topic") == "" {
			fail("%s: without json_attributes_topic", name)
		}
		if s, there := c["source_type"]; there && !slices.Contains(sourceTypes, text("source_type")) {
			fail("%s: source_type %v", name, s)
		}
	}
}
