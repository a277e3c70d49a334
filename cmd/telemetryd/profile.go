package main

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"time"

	"github.com/alecthomas/kong"
)

// yes is a flag that may stand alone, or have a value as in the file: yes or no.
type yes string

// IsBool implements kong.BoolMapperValue.
func (y *yes) IsBool() bool { return true }

// Decode implements kong.MapperValue.
func (y *yes) Decode(c *kong.DecodeContext) error {
	*y = "yes"
	if c.Scan.Peek().Type != kong.FlagValueToken {
		return nil
	}
	switch v := c.Scan.Pop().Value.(type) {
	case string:
		*y = yes(v)
	case bool:
		*y = yes(strconv.FormatBool(v))
	default:
		return fmt.Errorf("yes or no is wanted, not %v", reflect.TypeOf(v))
	}
	return nil
}

// applyProfile fills in what the profile wants otherwise and nobody set: a profile changes
// defaults alone.
func (s *settings) applyProfile(wrong func(name, value, allowed string)) {
	switch cmp.Or(s.Profile, "vehicle") {
	case "vehicle":
	case "tracker": // docs/tracker.md
		for _, d := range []struct {
			setting *string
			value   string
		}{
			{&s.OBD, "off"}, {&s.FixEvery, "10s"}, {&s.BatchInterval, "5m"}, {&s.Position, "1m"}, {&s.KeepAlive, "15m"},
		} {
			*d.setting = cmp.Or(*d.setting, d.value)
		}
		s.sections.driving.Crash = cmp.Or(s.sections.driving.Crash, "off") // by a receiver alone a lost fix looks like one
		s.sections.parked.FixEvery = cmp.Or(s.sections.parked.FixEvery, duration(time.Hour))
	default:
		wrong("profile", s.Profile, "vehicle, tracker")
	}
}

// discoveryPrefix is that of Home Assistant unless its MQTT settings say otherwise.
const discoveryPrefix = "homeassistant"

var discoveryPattern = regexp.MustCompile(`^[^/#+$\x00][^#+\x00]{0,127}$`)

// judgeNow checks what is published of how things are now: it completes o.
func (s *settings) judgeNow(o *options, wrong func(name, value, allowed string)) {
	latest, position := "off", "off"
	if judgeYes("home-assistant", cmp.Or(string(s.HomeAssistant), "no"), wrong) {
		latest, position = "5s", "10s"
		if o.homeAssistant = cmp.Or(s.HomeAssistantPrefix, discoveryPrefix); !discoveryPattern.MatchString(o.homeAssistant) || o.homeAssistant[len(o.homeAssistant)-1] == '/' {
			wrong("home-assistant-prefix", s.HomeAssistantPrefix, "1 to 128 characters without # and +, no / at its ends, no $ at its start")
		}
	}
	span := func(name, value, none string, least, most time.Duration) time.Duration {
		if value == none {
			return 0
		}
		d, err := time.ParseDuration(value)
		if err != nil || d < least || d > most {
			wrong(name, value, fmt.Sprintf("a duration from %v to %v, as 10s, or %s", least, most, none))
		}
		return d
	}
	o.latest = span("latest", cmp.Or(s.Latest, latest), "off", time.Second, 24*time.Hour)
	o.position = span("position", cmp.Or(s.Position, position), "off", time.Second, 24*time.Hour)
	o.fixEvery = span("fix-every", cmp.Or(s.FixEvery, "0"), "0", time.Second, 24*time.Hour)
}
