package status

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"telemetryd/internal/telemetry"
)

// A condition is said once when it begins and once when it ends, however often it is
// found.
func TestSaidOnce(t *testing.T) {
	var log bytes.Buffer
	h := NewHealth(slog.New(slog.NewTextHandler(&log, nil)))
	missing := telemetry.Condition{Code: "adapter_missing", Severity: telemetry.Warning, Title: "OBD adapter not reached", Remedy: "plug it in"}
	h.Clear("obd", "never was")
	for range 5 {
		h.Set("obd", missing)
	}
	for range 5 {
		h.Clear("obd", "Values come from the car")
	}
	if text := log.String(); strings.Count(text, "adapter_missing") != 2 || strings.Count(text, "Values come") != 1 || strings.Contains(text, "never was") {
		t.Error(text)
	}
}

// The worst comes first, in the form of the status message; nothing is an empty list.
func TestConditions(t *testing.T) {
	h := NewHealth(slog.New(slog.DiscardHandler))
	if b, err := json.Marshal(h.Conditions()); err != nil || string(b) != "[]" {
		t.Errorf("%s %v", b, err)
	}
	h.Set("gps", telemetry.Condition{Code: "gps_no_fix", Severity: telemetry.Info})
	h.Set("broker", telemetry.Condition{Code: "broker_missing", Severity: telemetry.Warning, Title: "not in JSON"})
	h.Set("obd", telemetry.Condition{Code: "adapter_missing", Severity: telemetry.Warning})
	h.Set("obd", telemetry.Condition{Code: "car_silent", Severity: telemetry.Info})
	want := `[{"code":"broker_missing","severity":"warning"},{"code":"car_silent","severity":"info"},{"code":"gps_no_fix","severity":"info"}]`
	if b, err := json.Marshal(h.Conditions()); err != nil || string(b) != want {
		t.Errorf("%s %v", b, err)
	}
	select {
	case <-h.Changed():
	default:
		t.Error("the change is not signalled")
	}
}
