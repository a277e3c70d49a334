package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"telemetryd/internal/drive"
	"telemetryd/internal/obd"
	"telemetryd/internal/publish"
	"telemetryd/internal/status"
	"telemetryd/internal/telemetry"
)

// parkedSection is `parked` of the settings file (docs/parked.md).
type parkedSection struct {
	Mode          string   `yaml:"mode"`
	Powertrain    string   `yaml:"powertrain"`
	After         duration `yaml:"after"`
	Idle          duration `yaml:"idle"`
	SystemVoltage string   `yaml:"system_voltage"`
	Running       float64  `yaml:"running"`
	Rise          float64  `yaml:"rise"`
	Low           float64  `yaml:"low"`
	Floor         float64  `yaml:"floor"`
	VoltageEvery  string   `yaml:"voltage_every"`
	FloorEvery    string   `yaml:"floor_every"`
	Probe         string   `yaml:"probe"`
	Sleep         string   `yaml:"sleep"`
	FixEvery      duration `yaml:"fix_every"`
	StatusEvery   duration `yaml:"status_every"`
	Connection    string   `yaml:"connection"`
	KeepAlive     duration `yaml:"keep_alive"`
}

// parkedOptions are its settings after they were judged.
type parkedOptions struct {
	drive    drive.ParkedConfig
	sleep    bool
	fixEvery time.Duration
	publish  publish.Parked
}

// judge checks the section; where says where it stands.
func (s parkedSection) judge(where string) (o parkedOptions, err error) {
	var errs []error
	wrong := func(key string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("%s: %s: \"%v\" is not allowed; allowed: %s", where, key, value, allowed))
	}
	span := func(key string, d duration, least, most time.Duration) time.Duration {
		if d != 0 && (time.Duration(d) < least || time.Duration(d) > most) {
			wrong(key, time.Duration(d), fmt.Sprintf("%v to %v", least, most))
		}
		return time.Duration(d)
	}
	every := func(key, text string, least time.Duration) time.Duration {
		switch text {
		case "", "auto":
			return 0
		case "off":
			return -1
		}
		d, err := time.ParseDuration(text)
		if err != nil || d < least || d > 24*time.Hour {
			wrong(key, text, fmt.Sprintf("auto, off, %v to 24h", least))
		}
		return d
	}
	p := &o.drive
	switch s.Mode {
	case "", "auto":
	case "off":
		p.Off = true
	default:
		wrong("mode", s.Mode, "auto, off")
	}
	switch p.Powertrain = drive.Powertrain(s.Powertrain); p.Powertrain {
	case "", drive.Combustion, drive.Hybrid, drive.Electric:
	default:
		wrong("powertrain", s.Powertrain, "combustion, hybrid, electric")
	}
	switch s.SystemVoltage {
	case "", "auto":
	case "12":
		p.System = 12
	case "24":
		p.System = 24
	default:
		wrong("system_voltage", s.SystemVoltage, "auto, 12, 24")
	}
	p.After, p.Idle = span("after", s.After, 5*time.Second, 24*time.Hour), span("idle", s.Idle, 5*time.Second, 24*time.Hour)
	p.Running, p.Rise, p.Low, p.Floor = s.Running, s.Rise, s.Low, s.Floor
	if err := p.Check(); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", where, err))
	}
	p.VoltageEvery = every("voltage_every", s.VoltageEvery, time.Second)
	p.FloorEvery = every("floor_every", s.FloorEvery, time.Minute)
	p.Probe = every("probe", s.Probe, 30*time.Second)
	o.sleep = judgeYes("sleep", cmp.Or(s.Sleep, "no"), func(key, value, allowed string) { wrong(key, value, allowed) })
	if o.sleep && p.VoltageEvery == 0 { // an adapter that is asked all the time does not sleep
		p.VoltageEvery = 10 * time.Minute
	}
	o.fixEvery = span("fix_every", s.FixEvery, time.Second, 24*time.Hour)
	o.publish.StatusEvery = span("status_every", s.StatusEvery, time.Second, 24*time.Hour)
	o.publish.KeepAlive = span("keep_alive", s.KeepAlive, 5*time.Second, 18*time.Hour)
	if o.publish.KeepAlive%time.Second != 0 {
		wrong("keep_alive", o.publish.KeepAlive, "whole seconds")
	}
	switch s.Connection {
	case "", "keep":
	case "close":
		o.publish.Close = true
	default:
		wrong("connection", s.Connection, "keep, close")
	}
	return o, errors.Join(errs...)
}

// ask is how the reader asks whether the vehicle is parked; nil where it never is.
func (o parkedOptions) ask(mode *drive.Mode) func() (bool, <-chan struct{}) {
	if o.drive.Off {
		return nil
	}
	return mode.Parked
}

// told is what the publisher is told of it.
func (o parkedOptions) told(mode *drive.Mode) publish.Parked {
	o.publish.Is = o.ask(mode)
	return o.publish
}

// unkept are the signals that are read to be judged alone.
func (o options) unkept() map[string]bool {
	unkept := map[string]bool{}
	for _, name := range obd.Judged() {
		if o.rates != nil && o.rates[name] == 0 && !o.parked.drive.Off {
			unkept[name] = true
		}
	}
	return unkept
}

// keptParked is what the file `parked` in the state directory holds.
type keptParked struct {
	BootID string `json:"boot_id"`
	Parked bool   `json:"parked"`
	Since  int64  `json:"since_ms,omitempty"` // since boot
	Spoke  bool   `json:"spoke,omitempty"`    // the car had told its speeds
}

// wasParked reports whether the vehicle was parked when the daemon last ran in this boot: one
// that is started again and again must not wake the car each time. Another boot has a reason:
// somebody gave the computer power.
func wasParked(stateDir string, log *slog.Logger) (parked bool, since time.Duration, spoke bool) {
	var kept keptParked
	if err := loadKept(filepath.Join(stateDir, "parked"), &kept); err != nil {
		log.Warn("whether the vehicle was parked is not known; the car is asked once", "error", err)
		return false, 0, false
	}
	if !kept.Parked || kept.BootID != bootID() {
		return false, 0, false
	}
	return true, time.Duration(kept.Since) * time.Millisecond, kept.Spoke
}

// keepParked keeps whether the vehicle is parked, until ctx ends.
func keepParked(ctx context.Context, stateDir string, was bool, mode *drive.Mode, health *status.Health) {
	kept := was
	for {
		parked, changed := mode.Parked()
		var again <-chan time.Time
		if parked != kept {
			at, spoke := mode.Changed()
			if err := saveKept(filepath.Join(stateDir, "parked"), keptParked{bootID(), parked, at.Milliseconds(), spoke}); err != nil {
				again = time.After(keptRetry)
				health.Set("parked", telemetry.Condition{Code: "parked_not_kept", Severity: telemetry.Info,
					Title:  fmt.Sprintf("Whether the vehicle is parked cannot be kept: %v", err),
					Remedy: "is the disk full or read-only? A daemon that is started again asks the car once"})
			} else {
				kept = parked
				health.Clear("parked", "Whether the vehicle is parked is kept")
			}
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return
		}
	}
}
