package local

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"telemetryd/internal/telemetry"
)

func TestRequest(t *testing.T) {
	for line, want := range map[string]string{
		`{"type":"emergency"}`: `emergency emergency {}`,
		`{"type":"emergency","severity":"emergency","note":"help"}`:            `emergency emergency {"note":"help"}`,
		`{"type":"door_open","severity":"warning","data":{"b":[1,2],"a":1.5}}`: `door_open warning {"a":1.5,"b":[1,2]}`,
		`{"type":"door_open","severity":"emergency"}`:                          `door_open emergency {}`,
		` {"type":"ignition_off","data":{},"note":"\u0000<\"","wait_ms":1} `:   `ignition_off info {"note":"\u0000\u003c\""}`,
		`{"type":"x","note":"` + strings.Repeat("ü", MostNote) + `"}`:          `x info {"note":"` + strings.Repeat("ü", MostNote) + `"}`,

		``:                                   `the request is no line like {"type":"door_open"}: EOF`,
		`[]`:                                 `the request is no line like`,
		`{"type":"x"} {"type":"y"}`:          `the request is more than one object in a line`,
		`{"type":"x","typ":"y"}`:             `unknown field "typ"`,
		"{\"type\":\"x\",\"note\":\"\xff\"}": `the request is not UTF-8`,
		`{}`:                                 `type "" is not allowed; allowed: 1 to 64 of a-z 0-9 _, a letter first`,
		`{"type":"../x"}`:                    `type "../x" is not allowed`,
		`{"type":"Emergency"}`:               `type "Emergency" is not allowed`,
		`{"type":"` + strings.Repeat("x", 65) + `"}`:                        `is not allowed; allowed: 1 to 64`,
		`{"type":"stream_start"}`:                                           `type "stream_start" is the daemon's own: choose another name, for example my_stream_start`,
		`{"type":"data_gap"}`:                                               `the daemon's own`,
		`{"type":"clock_correction"}`:                                       `the daemon's own`,
		`{"type":"trip_start"}`:                                             `the daemon's own`,
		`{"type":"dtc_appeared"}`:                                           `the daemon's own`,
		`{"type":"parked"}`:                                                 `the daemon's own`,
		`{"type":"x","severity":"fatal"}`:                                   `severity "fatal" is not allowed; allowed: info, warning, emergency`,
		`{"type":"emergency","severity":"info"}`:                            `severity "info" is not allowed for an emergency`,
		`{"type":"x","wait_ms":-1}`:                                         `a wait of -1 ms is not allowed`,
		`{"type":"x","wait_ms":600001}`:                                     `allowed: 0 to 10m0s`,
		`{"type":"x","note":"` + strings.Repeat("ü", MostNote+1) + `"}`:     `the note has 501 characters; allowed: 500`,
		`{"type":"x","data":{"a":"` + strings.Repeat("x", MostData) + `"}}`: `the data has 4104 bytes; allowed: 4096`,
		`{"type":"x","data":null}`:                                          `the data is no JSON object`,
		`{"type":"x","data":[1]}`:                                           `the data is no JSON object`,
		`{"type":"x","data":{"a":1e999}}`:                                   `the data is no JSON object`,
		`{"type":"x","note":"a","data":{"note":1}}`:                         `the note is given twice`,
	} {
		r, err := parse([]byte(line))
		var e telemetry.Event
		if err == nil {
			e, err = r.Event(time.Second)
		}
		got := ""
		if err != nil {
			got = err.Error()
		} else if data, err := json.Marshal(e.Data); err != nil {
			t.Error(err)
		} else {
			got = e.Type + " " + string(e.Severity) + " " + string(data)
		}
		if err == nil && got != want || err != nil && !strings.Contains(got, want) {
			t.Errorf("%.80s: %s\nwant %s", line, got, want)
		}
	}
}

// Whatever comes over the socket: what is taken is an event of nobody else's type, and a
// message of bounded size that is JSON.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"type":"emergency","note":"help"}`))
	f.Add([]byte(`{"type":"door_open","severity":"warning","note":"x","data":{"a":[1,{"b":null}]},"wait_ms":5000}` + "\n"))
	f.Add([]byte(`{"Type":"x","TYPE":"stream_start"}`))
	f.Add([]byte("{\"type\":\"x\",\"note\":\"\\ud800\"}"))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parse(line)
		if err != nil {
			return
		}
		e, err := r.Event(time.Second)
		if err != nil {
			return
		}
		if !telemetry.IsEventType(e.Type) || telemetry.IsOwnEvent(e.Type) || e.Severity == "" {
			t.Errorf("taken as %+v: %q", e, line)
		}
		sealed, err := e.Seal("van-1", "boot", time.Unix(1.7e9, 0), telemetry.GPS)
		if err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		message := sealed.Message("stream", 1)
		if !json.Valid(message) || !utf8.Valid(message) || len(message) > 6*(MostData+12*MostNote) {
			t.Errorf("a message of %d bytes: %q", len(message), message)
		}
	})
}
