package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryd/internal/obd"
	"telemetryd/internal/telemetry"
)

// A parked vehicle says how it is for five minutes, then once an hour; the engine's start is
// told at once, and so is a new connection.
func TestFewWhileParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parked, n := false, 0
		message := fewWhile(func() bool { return parked }, func([]byte) []byte {
			n++
			return fmt.Append(nil, n)
		})
		during := func(d time.Duration) (sent int) {
			for range d / (5 * time.Second) {
				time.Sleep(5 * time.Second)
				if message([]byte("last")) != nil {
					sent++
				}
			}
			return sent
		}
		if got := during(time.Minute); got != 12 {
			t.Errorf("driving: %d in a minute", got)
		}
		parked = true
		if got := during(5 * time.Minute); got < 59 || got > 61 {
			t.Errorf("just parked: %d in five minutes", got)
		}
		if got := during(24 * time.Hour); got < 23 || got > 25 {
			t.Errorf("parked: %d in a day", got)
		}
		if message(nil) == nil {
			t.Error("nothing on a new connection")
		}
		parked = false
		if got := during(5 * time.Second); got != 1 {
			t.Error("the start is not told at once")
		}
	})
}

// What Home Assistant was told of is known after a restart: nothing is taken away but what
// is no longer in the settings.
func TestDiscoveryKept(t *testing.T) {
	o := options{vehicleID: "van-1", topicPrefix: "vehicles", homeAssistant: "homeassistant", latest: time.Second, stateDir: t.TempDir(),
		own: []obd.OwnSignal{{Signal: telemetry.Signal{Name: "battery_soc_pct", Unit: "%"}}}}
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	var seen telemetry.Latest
	seen.Note(telemetry.Reading{Fields: []telemetry.Field{{Name: "odometer_km", Value: telemetry.Number(1, 0)}, {Name: "battery_soc_pct", Value: telemetry.Number(50, 0)}}})
	first := openDiscovery(o, &seen, log)
	message := first.message(nil)
	if again := first.message(message); !bytes.Equal(again, message) {
		t.Errorf("%s\nthen %s", message, again)
	}
	restarted := openDiscovery(o, &telemetry.Latest{}, log).message(nil)
	if !bytes.Equal(restarted, message) {
		t.Errorf("after a restart %s\nwant %s", restarted, message)
	}
	o.own = nil
	for range 2 { // for good: who was away learns of it
		gone := openDiscovery(o, &telemetry.Latest{}, log).message(nil)
		if !bytes.Contains(gone, []byte(`"battery_soc_pct":{"p":"sensor"}`)) || !bytes.Contains(gone, []byte(`"odometer_km":{"dev_cla"`)) {
			t.Errorf("without the own signal: %s", gone)
		}
	}
	if said.Len() > 0 {
		t.Errorf("%s", &said)
	}
	if err := os.WriteFile(filepath.Join(o.stateDir, "homeassistant"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if anew := openDiscovery(o, &seen, log).message(nil); !bytes.Contains(anew, []byte(`"odometer_km":{"dev_cla"`)) || !strings.Contains(said.String(), "learned anew") {
		t.Errorf("damaged: %s, said %s", anew, &said)
	}
}
