package main

import (
	"strconv"
	"time"

	"telemetryd/sim"
)

// simKey are the flags of sim that say when the vehicle is parked, and what its battery tells.
type simKey struct {
	KeyOff        time.Duration `placeholder:"DURATION" help:"How long the key is off, in drive time; then the engine is started. Default: never, but for a minute after each loop."`
	KeyOffFrom    time.Duration `placeholder:"DURATION" help:"From which drive time on, at the next stop. Default: as the drive begins."`
	Ignition      time.Duration `placeholder:"DURATION" help:"How long of it the ignition is on at first, the engine off."`
	Powertrain    string        `default:"combustion" enum:"combustion,hybrid,electric" help:"hybrid: the engine stands below 40 km/h; electric: there is none. Both charge their 12 V battery while the ignition is on."`
	SystemVoltage string        `default:"12" enum:"12,24" help:"Of the battery."`
	Drain         float64       `default:"0.01" help:"Volts that a battery of 12 V loses in an hour at rest."`
	NoVoltage     bool          `help:"The adapter cannot measure (ATRV)."`
}

func (c simKey) keyOff() []sim.KeyOff {
	if c.KeyOff <= 0 {
		return nil
	}
	return []sim.KeyOff{{From: c.KeyOffFrom, For: c.KeyOff, Ignition: c.Ignition}}
}

// electrics is the zero value where the vehicle is as ever.
func (c simKey) electrics() sim.Electrics {
	system, err := strconv.Atoi(c.SystemVoltage)
	if err != nil || c.KeyOff <= 0 && system == 12 && c.Powertrain == "combustion" {
		return sim.Electrics{}
	}
	return sim.Electrics{System: system, Powertrain: c.Powertrain, Drain: c.Drain}
}
