package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"telemetryd/internal/status"
	"telemetryd/internal/telemetry"
)

// wallClock is the system's clock; tests hand in another.
var wallClock = adjtimex

// systemClock tells the system's time and whether NTP or PTP keeps it. The kernel knows
// (adjtimex(2)); where a hardened unit may not ask it, systemd's timedated is asked
// over D-Bus.
type systemClock struct {
	bySystemd atomic.Bool // what timedated said last
}

const (
	askEvery = 30 * time.Second
	askLimit = 2 * time.Second
	// unknownError is assumed where only a yes or no is known.
	unknownError = 500 * time.Millisecond
)

// now is what the system's clock says.
func (s *systemClock) now() telemetry.SystemTime {
	t, err := wallClock()
	if err != nil && s.bySystemd.Load() {
		t.Synced, t.MaxError = true, unknownError
	}
	return t
}

// adjtimex asks the kernel. The time is right even when err says that it may not tell
// how good it is.
func adjtimex() (telemetry.SystemTime, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	now := telemetry.SystemTime{Now: time.Now()}
	if err != nil {
		return now, fmt.Errorf("adjtimex: %w", err)
	}
	now.Synced = state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
	now.MaxError = time.Duration(t.Maxerror) * time.Microsecond
	return now, nil
}

// follow asks timedated now and then, while the kernel may not be asked, until ctx
// ends.
func (s *systemClock) follow(ctx context.Context, log *slog.Logger) {
	if _, err := wallClock(); err == nil {
		return
	}
	for said := false; ; {
		synced, err := timedated(ctx)
		if err != nil && !said && ctx.Err() == nil {
			said = true
			log.Info("whether the system's clock is synchronised is not known; the GPS receiver's time is used when it comes", "error", err)
		}
		s.bySystemd.Store(err == nil && synced)
		select {
		case <-time.After(askEvery):
		case <-ctx.Done():
			return
		}
	}
}

// timedated asks org.freedesktop.timedate1 whether the clock is synchronised.
func timedated(ctx context.Context) (synced bool, err error) {
	ctx, stop := context.WithTimeout(ctx, askLimit)
	defer stop()
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return false, fmt.Errorf("connect to the system's D-Bus: %w", err)
	}
	defer bus.Close()
	var v dbus.Variant
	err = bus.Object("org.freedesktop.timedate1", "/org/freedesktop/timedate1").
		CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, "org.freedesktop.timedate1", "NTPSynchronized").Store(&v)
	if err != nil {
		return false, fmt.Errorf("ask timedated over D-Bus: %w", err)
	}
	synced, ok := v.Value().(bool)
	if !ok {
		return false, fmt.Errorf("timedated calls NTPSynchronized %v", v)
	}
	return synced, nil
}

// openClock makes the clock that goes on where the last run ended, and keep, which keeps
// what it knows until ctx ends.
func openClock(stateDir string, system *systemClock, health *status.Health, log *slog.Logger) (clock *telemetry.Clock, keep func(ctx context.Context)) {
	path := filepath.Join(stateDir, "clock")
	state, err := telemetry.LoadClock(path)
	if err != nil {
		log.Warn("what was known of the time is lost; it is found anew", "error", err)
	}
	clock = telemetry.NewClock(telemetry.ClockConfig{BootID: bootID(), Uptime: uptime, System: system.now, State: state})
	save := func() (saved bool) {
		if err := telemetry.SaveClock(path, clock.KeptState()); err != nil {
			health.Set("clock", telemetry.Condition{Code: "clock_not_kept", Severity: telemetry.Warning,
				Title:  fmt.Sprintf("What is known of the time cannot be kept: %v", err),
				Remedy: "is the disk full or read-only? After a power cut times are guessed until the next fix or network"})
			return false
		}
		health.Clear("clock", "What is known of the time is kept")
		return true
	}
	return clock, func(ctx context.Context) { keepSaved(ctx, clock.Changed(), save) }
}
