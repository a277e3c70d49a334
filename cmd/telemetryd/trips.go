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
	state := newNewest()
	c.Keep = state.set
	save := func() (saved bool) {
		if err := telemetry.SaveKept(path, state.get()); err != nil {
			health.Set("trip", telemetry.Condition{Code: "trip_not_kept", Severity: telemetry.Warning,
				Title:  fmt.Sprintf("The trip under way cannot be kept: %v", err),
				Remedy: "is the disk full or read-only? After a power cut its figures are lost"})
			return false
		}
		health.Clear("trip", "The trip under way is kept")
		return true
	}
	return c, func(ctx context.Context) { keepSaved(ctx, state.changed, save) }
}
