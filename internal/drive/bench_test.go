package drive

import (
	"testing"
	"time"

	"telemetryd/internal/telemetry"
)

// What a reading costs that holds a speed, with all that is looked for; the car has some
// twenty of them a second.
func BenchmarkObserve(b *testing.B) {
	d := New(Config{Driving: UsualDriving})
	b.ReportAllocs()
	now := time.Hour
	for b.Loop() {
		now += 200 * time.Millisecond
		r := telemetry.Reading{Arrived: now}
		r.Add("vehicle_speed_kmh", 50)
		r.Add("engine_speed_rpm", 1800)
		d.Observe(r)
	}
}

// What a fix costs of a receiver that tells ten a second.
func BenchmarkObserveFix(b *testing.B) {
	d := New(Config{Driving: UsualDriving, Trips: Trips{NewID: func() string { return "trip" }}})
	b.ReportAllocs()
	now, north := time.Hour, 48.0
	for b.Loop() {
		now += 100 * time.Millisecond
		north += 50 / 3.6 / 10 / metresPerDegree
		r := telemetry.Reading{Arrived: now, FixTime: time.Unix(1_800_000_000, 0).Add(now)}
		r.Add("latitude", north)
		r.Add("longitude", 11.5)
		r.Add("gps_speed_kmh", 50)
		r.Add("heading_deg", 0)
		d.Observe(r)
	}
}
