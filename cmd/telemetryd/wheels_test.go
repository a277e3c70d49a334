package main

import (
	"testing"
	"time"

	"telemetryd/internal/telemetry"
)

func TestWheels(t *testing.T) {
	var w wheels
	if _, _, ok := w.speed(); ok {
		t.Error("a speed is known before any was told")
	}
	told := func(name string, x float64, at time.Duration) {
		r := telemetry.Reading{Arrived: at}
		r.Add(name, x)
		w.note(r)
	}
	told("vehicle_speed_kmh", 52, time.Second)
	told("engine_speed_rpm", 1800, 2*time.Second)
	if kmh, at, ok := w.speed(); kmh != 52 || at != time.Second || !ok {
		t.Errorf("%v km/h at %v, %v", kmh, at, ok)
	}
}
