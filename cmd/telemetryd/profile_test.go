package main

import (
	"testing"
	"time"
)

// A profile changes defaults; what is set goes before it.
func TestProfile(t *testing.T) {
	for _, c := range []struct {
		what string
		s    settings
		want options
	}{
		{"vehicle", settings{}, options{batchInterval: 5 * time.Second}},
		{"tracker", settings{Profile: "tracker"}, options{obd: source{off: true}, batchInterval: 5 * time.Minute, position: time.Minute, fixEvery: 10 * time.Second, parked: parkedOptions{fixEvery: time.Hour}}},
		{"tracker, but", settings{Profile: "tracker", OBD: "auto", BatchInterval: "10s", Position: "off", FixEvery: "0", sections: sections{parked: parkedSection{FixEvery: duration(2 * time.Hour)}}}, options{batchInterval: 10 * time.Second, parked: parkedOptions{fixEvery: 2 * time.Hour}}},
		{"Home Assistant", settings{HomeAssistant: "yes"}, options{batchInterval: 5 * time.Second, latest: 5 * time.Second, position: 10 * time.Second, homeAssistant: "homeassistant"}},
		{"Home Assistant, but", settings{HomeAssistant: "true", HomeAssistantPrefix: "ha", Latest: "1m", Position: "off"}, options{batchInterval: 5 * time.Second, latest: time.Minute, homeAssistant: "ha"}},
		{"a tracker in Home Assistant", settings{Profile: "tracker", HomeAssistant: "yes"}, options{obd: source{off: true}, batchInterval: 5 * time.Minute, latest: 5 * time.Second, position: time.Minute, fixEvery: 10 * time.Second,
			parked: parkedOptions{fixEvery: time.Hour}, homeAssistant: "homeassistant"}},
	} {
		c.s.VehicleID, c.s.StateDir = "van-1", t.TempDir()
		o, err := c.s.judge()
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		got := options{obd: o.obd, batchInterval: o.batchInterval, latest: o.latest, position: o.position, fixEvery: o.fixEvery, parked: o.parked, homeAssistant: o.homeAssistant}
		if got.obd != c.want.obd || got.batchInterval != c.want.batchInterval || got.latest != c.want.latest || got.position != c.want.position ||
			got.fixEvery != c.want.fixEvery || got.parked.fixEvery != c.want.parked.fixEvery || got.homeAssistant != c.want.homeAssistant {
			t.Errorf("%s: %+v, want %+v", c.what, got, c.want)
		}
	}
}
