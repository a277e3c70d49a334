package command

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"telemetryd/internal/action"
)

// Whatever comes, what is made of it has a name and arguments that are allowed, an answer
// that is JSON, and nothing runs that is not listed or, with a key, signed.
func FuzzMessage(f *testing.F) {
	f.Add("vehicles/van-1/command", []byte("led_on"), false)
	f.Add("vehicles/van-1/command/led_on", []byte(`{"level":5}`), false)
	f.Add("vehicles/van-1/command", []byte(`{"id":"7","command":"led_on","args":{"a":"x","b":1.5,"c":true},"expires":"2026-11-23T10:05:00Z"}`), false)
	f.Add("jetson/control", []byte("eyJhbGciOiJub25lIn0.eyJjb21tYW5kIjoibGVkX29uIiwianRpIjoiMSJ9."), true)
	f.Add("RakTest/topic", []byte("World!"), true)
	f.Fuzz(func(t *testing.T, topic string, payload []byte, signed bool) {
		ran := 0
		c := Config{VehicleID: "van-1", Base: "vehicles/van-1/command", Topics: map[string]string{"jetson/control": "", "RakTest/topic": "led_on"},
			Allow: map[string]Rule{"led_on": {}}, Dir: t.TempDir(), Runner: new(action.Runner), Health: new(conditions), Log: slog.New(slog.DiscardHandler),
			Builtins: map[string]Builtin{"led_on": func(context.Context, map[string]string) (any, error) { ran++; return nil, nil }},
			Now:      func() (time.Time, bool) { return time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), true },
			Respond: func(b []byte) {
				if !json.Valid(b) || len(b) > 4<<10 {
					t.Errorf("answer %s", b)
				}
			}}
		if signed {
			c.PublicKey = ownersPublic
		}
		d := New(c)
		defer d.memory.close()
		defer d.audit.close()
		defer d.refusals.close()
		r, err := d.read(message{topic: topic, payload: payload, size: len(payload)})
		if err == nil && (!ValidName(r.command) || r.id != "" && !idPattern.MatchString(r.id) || signed) {
			t.Errorf("%q %q: %+v", topic, payload, r)
		}
		for name, value := range r.args {
			if !argNamePattern.MatchString(name) || len(value) > mostValue || !utf8.ValidString(value) || strings.ContainsAny(value, "\x00\n") {
				t.Errorf("argument %q %q", name, value)
			}
		}
		d.Receive(topic, payload, false)
		d.judge(<-d.inbox)
		if n := len(d.queue); n > 0 && (err != nil || r.command != "led_on") {
			t.Errorf("%q %q: %d run", topic, payload, n)
		}
	})
}
