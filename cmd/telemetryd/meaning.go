package main

import (
	"context"
	"log/slog"
	"sync"

	"telemetryd/internal/drive"
	"telemetryd/internal/status"
	"telemetryd/internal/telemetry"
)

// openMeaning follows the vehicle from where an earlier run left it. keep writes what is to
// outlive this run until its context ends.
func openMeaning(o options, clock *telemetry.Clock, health *status.Health, log *slog.Logger) (d *drive.Drive, keep func(context.Context)) {
	c := drive.Config{
		Driving: o.driving, Limit: o.batchLimit(), Fences: o.fences,
		Privacy: withSecret(o.privacy, o.stateDir, health), FixEvery: o.fixEvery, ParkedFixEvery: o.parked.fixEvery,
		Parked: o.parked.drive, Unkept: o.unkept(),
	}
	c.Parked.Already, c.Parked.Since, c.Parked.Spoke = wasParked(o.stateDir, log)
	trips, keepTrip := openTrips(o.trips, o.stateDir, clock, health, log)
	c.Trips = trips
	keepInside := func(context.Context) {}
	if o.fences != nil {
		log.Info("geofences are watched", "fences", o.fences.Len())
		c.Inside, c.KeepInside, keepInside = openInside(o.stateDir, log)
	}
	d = drive.New(c)
	return d, func(ctx context.Context) {
		var keeping sync.WaitGroup
		keeping.Go(func() { keepTrip(ctx) })
		keeping.Go(func() { keepInside(ctx) })
		keeping.Go(func() { keepParked(ctx, o.stateDir, c.Parked.Already, d.Mode(), health) })
		keeping.Wait()
	}
}
