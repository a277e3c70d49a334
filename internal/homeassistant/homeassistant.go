// Package homeassistant owns the message by which Home Assistant learns of a vehicle: one
// device with a sensor for each signal, a tracker for its position, its state, and a button
// for each command that may be given.
//
// It promises that the same vehicle gives the same message, that each entity keeps its
// unique_id over all versions and starts, and that what is no longer there is said to be
// gone. It sends nothing: the topics that its entities read are written by publish.
//
// Source: https://www.home-assistant.io/integrations/mqtt/ (device discovery), and the pages
// of its sensors, binary sensors, device trackers and buttons.
package homeassistant

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"telemetryd/internal/telemetry"
)

// Device is a vehicle as Home Assistant is to see it.
type Device struct {
	Prefix      string // of the discovery topic, as "homeassistant"
	TopicPrefix string
	VehicleID   string
	Version     string
	Latest      bool               // values are published on the topic latest
	Position    bool               // and positions on position
	Own         []telemetry.Signal // signals that are not in the table
	Commands    []string           // names that are taken on the topic command
}

// Platforms are the entities of a device: its key in the message, and the platform that it
// is of.
type Platforms map[string]string

var notInID = regexp.MustCompile(`[^A-Za-z0-9_-]`)

// id is the vehicle's in Home Assistant, which takes [a-zA-Z0-9_-] alone. What had to be
// changed gets a mark of its own, so that van.1 is not van_1.
func (d Device) id() string {
	id := notInID.ReplaceAllString(d.VehicleID, "_")
	if id == d.VehicleID {
		return id
	}
	sum := sha256.Sum256([]byte(d.VehicleID))
	return id + "-" + hex.EncodeToString(sum[:4])
}

// Topic is where the message goes. An empty message there, retained, removes the device.
func (d Device) Topic() string { return d.Prefix + "/device/" + d.id() + "/config" }

// component is an entity. Keys are abbreviated as Home Assistant allows: the message crosses
// a mobile link.
type component map[string]any

// Message is what makes the device known, with a sensor for each of the signals in seen.
// All that was there before and is not any more is named as gone. The second result is what
// is there now.
func (d Device) Message(seen []string, before Platforms) ([]byte, Platforms) {
	components := map[string]component{}
	for name, c := range d.entities(seen) {
		c["uniq_id"] = "telemetryd_" + d.id() + "_" + name
		components[name] = c
	}
	now := Platforms{}
	for name, c := range components {
		now[name] = c["p"].(string)
	}
	for name, platform := range before {
		if _, there := components[name]; !there {
			components[name] = component{"p": platform} // with nothing else: it is gone
		}
	}
	message := map[string]any{
		"dev": map[string]any{"ids": []string{"telemetryd_" + d.id()}, "name": d.VehicleID, "mf": "telemetryd", "mdl": "vehicle", "sw": d.Version},
		"o":   map[string]any{"name": "telemetryd", "sw": d.Version},
		// No state_topic here: the tracker would inherit it, and be deprecated by it.
		"avty": []map[string]any{{"t": d.topic("status"), "val_tpl": "{{ 'offline' if value_json.state == 'offline' else 'online' }}"}},
		"qos":  1,
		"cmps": components,
	}
	b, err := json.Marshal(message)
	if err != nil {
		panic(fmt.Sprintf("discovery message: %v", err)) // maps of texts
	}
	return b, now
}

func (d Device) topic(kind string) string { return d.TopicPrefix + "/" + d.VehicleID + "/" + kind }

// entities are all but their unique_id.
func (d Device) entities(seen []string) map[string]component {
	all := map[string]component{
		// Their keys have a - in them: so has no signal. Those that tell that it is offline
		// must not become unavailable with it.
		"status-connection": {"p": "binary_sensor", "name": "Connection", "dev_cla": "connectivity", "ent_cat": "diagnostic", "avty": []any{},
			"stat_t": d.topic("status"), "val_tpl": "{{ 'OFF' if value_json.state == 'offline' else 'ON' }}"},
		"status-state": {"p": "sensor", "name": "State", "dev_cla": "enum", "ops": []string{"online", "parked", "offline"}, "avty": []any{},
			"stat_t": d.topic("status"), "val_tpl": "{{ value_json.state }}"},
		"status-health": {"p": "binary_sensor", "name": "Health", "dev_cla": "problem", "ent_cat": "diagnostic",
			"stat_t": d.topic("status"), "val_tpl": "{{ 'ON' if value_json.health else 'OFF' }}"},
	}
	if d.Position {
		all["gps-position"] = component{"p": "device_tracker", "name": nil, "src_type": "gps", "json_attr_t": d.topic("position"),
			// Without coordinates the position is not to be told; Home Assistant would go on
			// to show the last.
			"json_attr_tpl": `{% if value_json.latitude is defined %}{{ value }}{% else %}{"in_zones":[]}{% endif %}`}
	}
	for _, name := range d.Commands {
		all["command-"+notInID.ReplaceAllString(name, "_")] = component{"p": "button", "name": title(name), "cmd_t": d.topic("command"), "pl_prs": name, "qos": 1}
	}
	if !d.Latest {
		return all
	}
	for _, name := range seen {
		if s, ok := d.signal(name); ok {
			all[name] = d.sensor(s)
		}
	}
	return all
}

// signal finds one that has an entity of its own. Latitude and longitude are the tracker's.
func (d Device) signal(name string) (telemetry.Signal, bool) {
	if name == "latitude" || name == "longitude" {
		return telemetry.Signal{}, false
	}
	if s, ok := telemetry.FindSignal(name); ok {
		return s, true
	}
	for _, s := range d.Own {
		if s.Name == name {
			return s, true
		}
	}
	return telemetry.Signal{}, false
}

// total are the signals that only grow.
var total = map[string]bool{"odometer_km": true}

// diagnostic are those that tell of the measurement and not of the vehicle.
var diagnostic = map[string]bool{"satellites": true, "hdop": true, "fix": true, "obd_standard": true}

// sensor is the entity of a signal. A value that latest does not have renders as None, which
// Home Assistant takes for unknown.
func (d Device) sensor(s telemetry.Signal) component {
	c := component{"p": "sensor", "name": title(bare(s)), "stat_t": d.topic("latest"), "val_tpl": fmt.Sprintf("{{ value_json.get('%s') }}", s.Name)}
	if s.HomeAssistant != "" {
		c["dev_cla"] = s.HomeAssistant
	}
	if diagnostic[s.Name] {
		c["ent_cat"] = "diagnostic"
	}
	switch {
	case s.Formula != nil && s.Formula.Bool:
		c["p"] = "binary_sensor"
		c["val_tpl"] = fmt.Sprintf("{%% set v = value_json.get('%s') %%}{{ v if v is none else 'ON' if v else 'OFF' }}", s.Name)
		return c
	case s.Name == "fix": // a text
		return c
	case total[s.Name]:
		c["stat_cla"] = "total_increasing"
	default:
		c["stat_cla"] = "measurement"
	}
	if s.Unit != "" {
		c["unit_of_meas"] = s.Unit
	}
	return c
}

// bare is a signal's name without the unit that it ends with.
func bare(s telemetry.Signal) string {
	units := map[string]string{"km/h": "_kmh", "rpm": "_rpm", "%": "_pct", "g/s": "_g_s", "kPa": "_kpa", "°": "_deg", "°C": "_c", "s": "_s", "km": "_km", "V": "_v", "L/h": "_l_h", "Nm": "_nm", "m": "_m"}
	return strings.TrimSuffix(s.Name, units[s.Unit])
}

// capitals are the words that are no words.
var capitals = map[string]string{"maf": "MAF", "dtc": "DTC", "mil": "MIL", "hdop": "HDOP", "gps": "GPS", "obd": "OBD", "vin": "VIN"}

// title is a name for people: "coolant temperature" of coolant_temperature.
func title(name string) string {
	words := strings.Split(strings.ReplaceAll(name, "-", "_"), "_")
	for i, w := range words {
		if c, ok := capitals[w]; ok {
			words[i] = c
		}
	}
	s := strings.Join(words, " ")
	if s == "" {
		return name
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// Names are the keys of p in order.
func (p Platforms) Names() []string { return slices.Sorted(maps.Keys(p)) }
