package gps

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"telemetryd/internal/port"
	"telemetryd/internal/telemetry"
)

// The client of gpsd: JSON over TCP (gpsd(8), gpsd_json(5)).
//
// gpsd does not tell that a receiver is lost: nothing comes, that is all. And it
// forgets a receiver for good if anything wakes it while the receiver's device is
// gone: with -n any connection, any request, any disconnection makes it try the
// device, fail and free it (gpsd 3.22); without -n a ?WATCH does. So as long as the
// device of a gpsd on this machine is absent, nothing is said to it; once the device
// is back, a new connection and its ?WATCH make gpsd open it again. That may take
// time, and more than one ?WATCH, so one that brings nothing is repeated: gpsd up to
// 3.22 at least looks again at a device that hung up only when something wakes it, and
// not before a moment that it computes in a float (libgpsd_core.c, reawake), which has
// steps of 128 s for today's dates. Up to 64 s pass like this where nothing else, as
// udev, tells gpsd.

const (
	// greetingLimit is how long a gpsd may take for its VERSION and an answer.
	greetingLimit = 5 * time.Second
	// gpsdAgain is how long a ?WATCH has to bring something until it is tried with a
	// new connection.
	gpsdAgain = 30 * time.Second
	// nudgeEvery is how often a ?WATCH that brings nothing is repeated.
	nudgeEvery = 3 * time.Second
	// settle is how long a device that is back is left to udev before gpsd is asked to
	// open it.
	settle = time.Second
	// askAgain is how often a gpsd without a receiver is asked whether it has one.
	askAgain   = 10 * time.Second
	writeLimit = 2 * time.Second
)

// writer is a stream that can be written to: of all that this package talks to, only
// gpsd.
type writer interface {
	stream
	Write(b []byte, timeout time.Duration) error
}

// gpsdSession is one connection to gpsd.
type gpsdSession struct {
	*source
	address port.Address
	port    writer
	desk    *desk

	begun    time.Time
	version  string // empty until it greeted
	listed   bool   // DEVICES came
	devices  devices
	request  string    // the ?WATCH that was sent
	nudged   time.Time // it was repeated
	asked    time.Time // last ?DEVICES
	reported time.Time // last TPV, of any receiver
	resumed  time.Time // first one after a time without
	closed   bool      // gpsd told that it closed the receiver
}

// followGPSD reads gpsd until the connection ends, ctx ends or there is reason for
// another one, and closes it. It reports whether to connect again at once.
func (s *source) followGPSD(ctx context.Context, a port.Address, p writer) (soon bool) {
	g := &gpsdSession{source: s, address: a, port: p, begun: time.Now()}
	g.devices.local = local(a)
	g.desk = &desk{
		build: s.BuildDate, fix: s.deliver, fixes: func() { s.Counters.fixes.Add(1) },
		dropped: s.refused, dated: s.Time,
	}
	s.watch.begin()
	soon = g.run(ctx)
	g.desk.release()
	s.takenAt = time.Now()
	if err := p.Close(); err != nil {
		s.Log.Debug("connection to gpsd closed", "address", a.String(), "error", err)
	}
	return soon
}

func (g *gpsdSession) run(ctx context.Context) (soon bool) {
	cause := follow(ctx, g.port,
		func() time.Duration { return g.desk.wait(g.Uptime()) },
		func(c port.Chunk) { g.desk.feed(c.Data, c.Arrived, g.take) },
		func() { g.desk.quiet(g.Uptime()) },
		func() (again bool) {
			again, soon = g.check(ctx)
			return again
		})
	if cause != nil {
		g.Log.Info("gpsd has closed the connection", "address", g.address.String(), "cause", cause)
		return !g.reported.IsZero() && time.Since(g.begun) >= firstRetry // else it is of no use to hurry
	}
	return soon && ctx.Err() == nil
}

// take takes a report that is no sky.
func (g *gpsdSession) take(r *report) {
	now := time.Now()
	switch r.Class {
	case "VERSION":
		g.version = r.Release
		g.Log.Info("gpsd answers", "address", g.address.String(), "release", r.Release)
		g.ask()
	case "DEVICES":
		g.devices.set(r.Devices)
		if g.Address == nil {
			g.taken = g.devices.paths()
		}
		g.listed = true
		g.subscribe()
	case "DEVICE":
		g.closed = r.closed()
		if g.desk.device == r.Path {
			g.desk.opened()
		}
		g.devices.add(r.Path)
	case "TPV":
		if now.Sub(later(g.reported, g.begun)) >= gpsdSilence || g.reported.IsZero() {
			g.resumed = now
		}
		g.reported, g.closed = now, false
		g.retry.Reset()
	}
}

// ask asks for the devices.
func (g *gpsdSession) ask() {
	g.asked = time.Now()
	g.say("?DEVICES;\n")
}

// subscribe asks for reports, once, unless that would make gpsd forget its receiver.
func (g *gpsdSession) subscribe() {
	if g.request != "" || g.devices.gone() {
		return
	}
	options := `"enable":true,"json":true,"timing":true`
	if present := g.devices.onlyOne(); present != "" {
		if name, err := json.Marshal(present); err == nil { // a string always marshals
			options += `,"device":` + string(name)
		}
	}
	g.request = "?WATCH={" + options + "};\n"
	g.watchedAt, g.nudged = time.Now(), time.Now()
	g.say(g.request)
}

// nudge repeats the ?WATCH that brings nothing, although the device is there.
func (g *gpsdSession) nudge(now time.Time) {
	if g.request != "" && g.devices.local && g.devices.present() && now.Sub(later(g.reported, g.nudged)) >= nudgeEvery {
		g.nudged = now
		g.say(g.request)
	}
}

// say writes; a failure shows as the end of the connection.
func (g *gpsdSession) say(s string) {
	if err := g.port.Write([]byte(s), writeLimit); err != nil {
		g.Log.Debug("gpsd not reached", "error", err)
	}
}

// check looks at health. It reports whether to connect again, and whether at once.
func (g *gpsdSession) check(ctx context.Context) (again, soon bool) {
	now := time.Now()
	late := func(t time.Time, d time.Duration) bool { return now.Sub(later(t, g.begun)) >= d }
	if !g.listed {
		if late(g.begun, greetingLimit) {
			g.watch.set(notGPSD(g.address))
			return true, false
		}
		return false, false
	}
	g.devices.look(now)
	if !g.devices.wasGone {
		g.subscribe() // if it was not: a device out of sight
	}
	g.nudge(now)
	silent := g.closed || late(g.reported, gpsdSilence)
	switch {
	case g.devices.none() && late(g.reported, patience):
		g.watch.set(noReceiver(g.address))
		if now.Sub(g.asked) >= askAgain {
			g.ask()
		}
	case g.devices.gone() || silent:
		g.desk.release() // or it would say that all is well
		g.watch.set(lost(g.devices.name(g.desk.device)))
	case g.desk.stuck(g.Uptime()):
		g.watch.withheld(frozen)
	case !g.reported.IsZero() && !late(g.reported, patience) && late(later(later(g.watch.fixedAt, g.watch.keptAt), g.resumed), patience):
		g.watch.set(noFix)
	}
	if g.Address == nil && g.devices.present() && late(g.reported, huntAgain) && g.others(ctx, g.address) {
		g.tried++
		return true, true
	}
	return g.due(now, silent), true
}

// due reports whether it is time for a new connection and its ?WATCH: when the device
// was away and is back, and when nothing comes although the device is there. What a
// gpsd elsewhere has cannot be seen: there it is waited for longer.
func (g *gpsdSession) due(now time.Time, silent bool) bool {
	switch {
	case g.devices.none() || g.devices.gone():
		return false
	case g.devices.back(now):
		return true
	case g.request == "":
		return false
	case !g.devices.local:
		silent = now.Sub(later(g.reported, g.begun)) >= gpsdAgain
	}
	return silent && now.Sub(g.watchedAt) >= gpsdAgain
}

func notGPSD(a port.Address) telemetry.Condition {
	return telemetry.Condition{
		Code: "gps_wrong_data", Severity: telemetry.Warning,
		Title:  fmt.Sprintf("What answers at %s is not gpsd", a),
		Remedy: "Check the address given with --gps; for NMEA over TCP it is tcp://host:port.",
	}
}

func noReceiver(a port.Address) telemetry.Condition {
	return telemetry.Condition{
		Code: "gps_no_receiver", Severity: telemetry.Warning,
		Title:  fmt.Sprintf("gpsd at %s has no receiver", a),
		Remedy: "Plug it in, then `sudo gpsdctl add /dev/ttyACM0` (its device), or name it in DEVICES of /etc/default/gpsd and `sudo systemctl restart gpsd`.",
	}
}

func lost(device string) telemetry.Condition {
	return telemetry.Condition{
		Code: "gps_lost", Severity: telemetry.Warning,
		Title:  fmt.Sprintf("gpsd hears nothing of the GPS receiver %s", device),
		Remedy: "Check the receiver's cable and power. When it is back and this stays, `sudo gpsdctl add` its device, or restart gpsd.",
	}
}
