package main

import (
	"sync"
	"time"

	"telemetryd/internal/telemetry"
)

// wheels is the speed of the wheels as the car tells it: the receiver's reader wants
// to know whether a position that stands still can be true. It is safe for concurrent
// use.
type wheels struct {
	mu    sync.Mutex
	kmh   float64
	at    time.Duration
	known bool
}

// note takes the speed from a reading of the car.
func (w *wheels) note(r telemetry.Reading) {
	if kmh, ok := r.Number("vehicle_speed_kmh"); ok {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.kmh, w.at, w.known = kmh, r.Arrived, true
	}
}

// speed is the last one told, in km/h, and the time since boot at which it came.
func (w *wheels) speed() (kmh float64, at time.Duration, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.kmh, w.at, w.known
}
