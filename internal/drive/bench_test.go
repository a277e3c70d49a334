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
