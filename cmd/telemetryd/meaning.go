package main

import (
	"context"
	"log/slog"

	"telemetryd/internal/drive"
	"telemetryd/internal/status"
	"telemetryd/internal/telemetry"
)

// openMeaning follows the vehicle from where an earlier run left it. keep writes what is to
// outlive this run until its context ends.
func openMeaning(o options, clock *telemetry.Clock, health *status.Health, log *slog.Logger) (d *drive.Drive, keep func(context.Context)) {
	c := drive.Config{
		Driving: o.driving, Limit: o.batchLimit(), Fences: o.fences,
		Privacy: withSecret(o.privacy, o.stateDir, health), FixEvery: o.fixEvery, ParkedFixEvery: o.parkedFixEvery,
	}
	c.Trips, keep = openTrips(o.trips, o.stateDir, clock, health, log)
	if o.fences != nil {
		log.Info("geofences are watched", "fences", o.fences.Len())
		c.Inside, c.KeepInside = openInside(o.stateDir, log)
	}
	return drive.New(c), keep
}
