package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"

	"telemetryd/internal/drive"
	"telemetryd/internal/status"
	"telemetryd/internal/telemetry"
)

// tripRetry is when a disk that did not take the trip under way is tried again.
const tripRetry = 30 * time.Second

// openTrips completes what trips are looked for with, and returns keep, which keeps the trip
// under way until ctx ends.
func openTrips(c drive.Trips, stateDir string, clock *telemetry.Clock, health *status.Health, log *slog.Logger) (_ drive.Trips, keep func(ctx context.Context)) {
	path := filepath.Join(stateDir, "trip")
	var err error
	if c.Kept, err = telemetry.LoadKept(path); err == nil {
		err = drive.CheckKept(c.Kept)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("the trip that was under way is lost; the next one is counted from here", "error", err)
		c.Kept = nil
	}
	c.BootID = clock.BootID
	c.NewID = func() string {
		now, _ := clock.Now()
		return ulid.MustNew(ulid.Timestamp(now), ulid.DefaultEntropy()).String()
	}
	c.UTC = func() (time.Time, bool) {
		now, quality := clock.Now()
		return now, quality != telemetry.Unsynced
	}
	newest := make(chan []byte, 1)
	c.Keep = func(state []byte) { // one goroutine calls it
		select {
		case <-newest:
		default:
		}
		newest <- state
	}
	save := func(state []byte) (saved bool) {
		if err := telemetry.SaveKept(path, state); err != nil {
			health.Set("trip", telemetry.Condition{Code: "trip_not_kept", Severity: telemetry.Warning,
				Title:  fmt.Sprintf("The trip under way cannot be kept: %v", err),
				Remedy: "is the disk full or read-only? After a power cut its figures are lost"})
			return false
		}
		health.Clear("trip", "The trip under way is kept")
		return true
	}
	return c, func(ctx context.Context) {
		var unsaved []byte
		var again <-chan time.Time
		for {
			select {
			case unsaved = <-newest:
			case <-again:
			case <-ctx.Done():
				select {
				case state := <-newest:
					save(state)
				default:
				}
				return
			}
			if again = nil; !save(unsaved) {
				again = time.After(tripRetry)
			}
		}
	}
}
