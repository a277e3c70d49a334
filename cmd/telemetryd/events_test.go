package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"telemetryd/sim"
)

// soonDone is the seed of a drive on which a script is done early.
func soonDone(t *testing.T, s sim.Script) (seed uint64, done sim.Happening) {
	t.Helper()
	done.End = math.MaxInt64
	for n := range uint64(20) {
		d, err := sim.NewScriptedDrive(n, s)
		if err != nil {
			t.Fatal(err)
		}
		if all := d.Happened(3 * time.Minute); len(all) > 0 && all[0].End < done.End {
			seed, done = n, all[0]
		}
	}
	return seed, done
}

// A harsh braking leaves as an event, and behind it what car and receiver said around it.
func TestHarshBrakingOnTheWire(t *testing.T) {
	t.Parallel()
	script := sim.Script{{Kind: sim.Brake, Amount: 6, From: 46, To: 5}}
	seed, done := soonDone(t, script)
	file := filepath.Join(t.TempDir(), "script.yaml")
	if err := os.WriteFile(file, []byte("- {do: brake, amount: 6, from_kmh: 46, to_kmh: 5}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	v := startVehicle(t, "--gps-rate", "5", "--gps-baud", "38400", "--seed", fmt.Sprint(seed), "--script", file)
	startDaemon(t, m, v, t.TempDir())
	of := func(ms []message, kind string) (found []message) {
		for _, e := range onTopic(ms, "events") {
			if e.Type == kind {
				found = append(found, e)
			}
		}
		return found
	}
	ms := s.await("event_readings", done.End+60*time.Second, func(ms []message) bool { return len(of(ms, "event_readings")) > 0 })
	events, readings := of(ms, "harsh_braking"), of(ms, "event_readings")
	if len(events) != 1 || len(readings) != 1 || len(of(ms, "harsh_acceleration")) > 0 || len(of(ms, "harsh_cornering")) > 0 {
		t.Fatalf("%d harsh_braking, %d event_readings: %+v", len(events), len(readings), onTopic(ms, "events"))
	}
	var head struct {
		T        time.Time `json:"t"`
		Severity string    `json:"severity"`
		Position struct {
			Latitude float64 `json:"latitude"`
		} `json:"position"`
		Data struct {
			EventID string  `json:"event_id"`
			Peak    float64 `json:"peak_ms2"`
			From    float64 `json:"speed_from_kmh"`
			To      float64 `json:"speed_to_kmh"`
			RateHz  float64 `json:"rate_hz"`
		} `json:"data"`
	}
	decodeInto(t, events[0].Payload, &head)
	if d := head.Data; math.Abs(d.Peak-6) > 0.6 || d.From < 44 || d.To > 8 || d.RateHz < 3 || d.EventID == "" || head.Severity != "warning" || head.Position.Latitude < 48 {
		t.Errorf("braked at 6 m/s^2 from 46 to 5 km/h: %s", events[0].Payload)
	}
	var around struct {
		T    time.Time `json:"t"`
		Data struct {
			EventType string                       `json:"event_type"`
			EventID   string                       `json:"event_id"`
			LeftOut   int                          `json:"left_out"`
			Samples   []map[string]json.RawMessage `json:"samples"`
		} `json:"data"`
	}
	decodeInto(t, readings[0].Payload, &around)
	if !around.T.Equal(head.T) || around.Data.EventType != "harsh_braking" || around.Data.EventID != head.Data.EventID || around.Data.LeftOut != 0 {
		t.Errorf("readings of another event: %.300s", readings[0].Payload)
	}
	if n := proveAround(t, around.T, around.Data.Samples, readTruth(t, v.truth)); n < 80 {
		t.Errorf("only %d values around the event", n)
	}
}

// proveAround proves each value around an event at t by the truth log.
func proveAround(t *testing.T, at time.Time, samples []map[string]json.RawMessage, truth truths) (values int) {
	t.Helper()
	first, last := 0.0, 0.0
	for _, sample := range samples {
		var offset float64
		decodeInto(t, string(sample["offset_ms"]), &offset)
		first, last = min(first, offset), max(last, offset)
		when, within := at.Add(time.Duration(offset)*time.Millisecond), 200*time.Millisecond
		if own, fix := sample["t"]; fix {
			var fixed time.Time
			decodeInto(t, string(own), &fixed)
			if off := when.Sub(fixed); off < 0 || off > 500*time.Millisecond {
				t.Errorf("a fix of %v came %v later", fixed, off)
			}
			when, within = fixed, 0
		}
		for name, value := range sample {
			// Whether a fix is 2d or 3d is said behind it, and taken as 2d when the wire
			// pauses in between: other tests ask for that.
			if name == "t" || name == "offset_ms" || name == "fix" {
				continue
			}
			if values++; !truth.served(name, string(value), when, within) {
				t.Errorf("%s=%s at %v was never served", name, value, when)
			}
		}
	}
	if first > -4500 || first < -5000 || last < 4500 || last > 5000 {
		t.Errorf("readings from %.0f to %.0f ms around the event", first, last)
	}
	t.Logf("%d values, %.0f to %.0f ms around the event, proven by the truth log", values, first, last)
	return values
}

func decodeInto(t *testing.T, text string, target any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), target); err != nil {
		t.Fatalf("%v: %.300s", err, text)
	}
}
