package main

import (
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"telemetryd/internal/drive"
	"telemetryd/internal/homeassistant"
	"telemetryd/internal/publish"
	"telemetryd/internal/telemetry"
)

const (
	// discoveryEvery is how often new signals are told to Home Assistant: at the start they
	// come one after the other.
	discoveryEvery = 10 * time.Second
	// discoveryAgain is how seldom the message, which is large, is sent for nothing but a new
	// connection.
	discoveryAgain = time.Hour
	// parkedEvery is how often a vehicle that is parked says how it is, once parkedSettles has
	// passed, in which what it does not measure any more becomes too old.
	parkedEvery   = time.Hour
	parkedSettles = 5 * time.Minute
)

// beside is what is published past the buffer: how things are now.
func (o options) beside(latest *telemetry.Latest, clock *telemetry.Clock, mode *drive.Mode, log *slog.Logger) (all []publish.Retained) {
	parked := func() bool {
		is, _ := mode.Parked()
		return is
	}
	topic := o.topicPrefix + "/" + o.vehicleID + "/"
	if o.latest > 0 {
		all = append(all, publish.Retained{Topic: topic + "latest", Every: o.latest, Message: fewWhile(parked, func(last []byte) []byte {
			zero, _ := clock.Zero()
			return latest.Message(last, clock.Uptime(), zero)
		})})
	}
	if o.position > 0 {
		all = append(all, publish.Retained{Topic: topic + "position", Every: o.position, Message: fewWhile(parked, func(last []byte) []byte {
			zero, _ := clock.Zero()
			return latest.Position(last, zero)
		})})
	}
	if o.homeAssistant != "" {
		d := openDiscovery(o, latest, log)
		all = append(all, publish.Retained{Topic: d.device.Topic(), Every: discoveryEvery, Again: discoveryAgain, Message: d.message})
	}
	return all
}

// fewWhile lets a message out seldom while the vehicle is parked; at once on a new connection.
func fewWhile(parked func() bool, message func(last []byte) []byte) func(last []byte) []byte {
	var since, sent time.Time
	return func(last []byte) []byte {
		switch is := parked(); {
		case !is:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case last != nil && time.Since(since) > parkedSettles && time.Since(sent) < parkedEvery:
			return nil
		}
		m := message(last)
		if m != nil {
			sent = time.Now()
		}
		return m
	}
}

// discovery is what Home Assistant is told of the vehicle. Which signals the car has is
// learned as they come, and kept beside the buffer: a start must not take away what was there
// before.
type discovery struct {
	device homeassistant.Device
	latest *telemetry.Latest
	path   string
	log    *slog.Logger
	known  knownEntities
	saved  bool
}

// knownEntities is the file.
type knownEntities struct {
	Signals  []string                `json:"signals"`
	Entities homeassistant.Platforms `json:"entities"` // that Home Assistant was told of
}

func openDiscovery(o options, latest *telemetry.Latest, log *slog.Logger) *discovery {
	d := &discovery{latest: latest, path: filepath.Join(o.stateDir, "homeassistant"), log: log, saved: true,
		device: homeassistant.Device{Prefix: o.homeAssistant, TopicPrefix: o.topicPrefix, VehicleID: o.vehicleID, Version: version,
			Latest: o.latest > 0, Position: o.position > 0, Commands: o.commands.plain()}}
	for _, own := range o.own {
		d.device.Own = append(d.device.Own, own.Signal)
	}
	if err := loadKept(d.path, &d.known); err != nil {
		log.Warn("what Home Assistant knows of this vehicle is forgotten; it is learned anew", "error", err)
	}
	return d
}

// message is what to tell now; the same as before when nothing is new.
func (d *discovery) message([]byte) []byte {
	signals := slices.Concat(d.known.Signals, d.latest.Seen())
	slices.Sort(signals)
	signals = slices.Compact(signals)
	message, now := d.device.Message(signals, d.known.Entities)
	all := maps.Clone(now)
	for name, platform := range d.known.Entities { // one that is gone is named so for good: who was away learns of it
		if _, there := all[name]; !there {
			all[name] = platform
		}
	}
	if d.saved && slices.Equal(signals, d.known.Signals) && maps.Equal(all, d.known.Entities) {
		return message
	}
	d.known = knownEntities{signals, all}
	err := saveKept(d.path, d.known)
	if d.saved = err == nil; err != nil {
		d.log.Debug("what Home Assistant knows of this vehicle cannot be kept", "error", err) // the buffer's own condition tells of the disk
	}
	return message
}
