package sim

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"time"
)

// KeyOff is a time in which the vehicle stands with its key off. The drive goes on from the
// same place behind it.
type KeyOff struct {
	// From is the drive time from which on the key is turned off, at the first standstill; 0: as
	// the drive begins.
	From time.Duration
	// For is how long it is off, in drive time. Then the engine is started, within a second.
	For time.Duration
	// Ignition is how much of it the key stays turned at first, the engine off: ECUs answer.
	Ignition time.Duration
}

// Electrics is what the battery says of the vehicle.
type Electrics struct {
	// System is the nominal voltage, 12 or 24; 0 means 12. What follows is told for 12 V.
	System int
	// Powertrain is "combustion" (or ""), "hybrid", whose engine stands below 40 km/h, or
	// "electric", which has none and tells no engine speed. A converter charges the battery of both
	// as long as the key is turned.
	Powertrain string
	// Charging is the voltage while the engine runs; 0 means 14.1. Resting is the one that the
	// battery begins with at rest, 0 means 12.6; Drain what it loses in an hour.
	Charging, Resting, Drain float64
}

// newDrive is the drive of this vehicle, with its key.
func (c Config) newDrive() *drive {
	d := newScripted(c.Seed, c.Script)
	if len(c.KeyOff) > 0 || c.Electrics != (Electrics{}) {
		setDefault(&c.Electrics.System, 12)
		setDefault(&c.Electrics.Charging, voltsOn)
		setDefault(&c.Electrics.Resting, 12.6)
		d.key = newKey(c.KeyOff, c.Electrics, newScripted(c.Seed, c.Script))
	}
	return d
}

// judgeKey checks what newDrive takes.
func (c Config) judgeKey() error {
	for _, off := range c.KeyOff {
		if off.From < 0 || off.For <= 0 || off.Ignition < 0 || off.Ignition > off.For {
			return fmt.Errorf("the key cannot be off as %+v says", off)
		}
	}
	switch e := c.Electrics; {
	case !slices.Contains([]int{0, 12, 24}, e.System):
		return fmt.Errorf("a system of %d V: there can be 12 or 24", e.System)
	case !slices.Contains([]string{"", "combustion", "hybrid", "electric"}, e.Powertrain):
		return fmt.Errorf("no powertrain %q: combustion, hybrid or electric", e.Powertrain)
	}
	return nil
}

// key is when the key of a vehicle is off, and what that makes of its drive.
type key struct {
	offs []keyOff
	Electrics
}

// keyOff is a KeyOff with the drive time at which the vehicle stands still for it.
type keyOff struct {
	KeyOff
	at time.Duration
}

const (
	cranking     = time.Second     // from the turn of the key to a running engine
	idling       = 2 * time.Second // then, before the drive goes on
	hybridStands = 40 / 3.6        // m/s below which the engine of a hybrid does
)

func newKey(offs []KeyOff, e Electrics, d *drive) *key {
	k := &key{Electrics: e}
	at := time.Duration(0)
	for _, off := range slices.SortedFunc(slices.Values(offs), func(a, b KeyOff) int { return int(a.From - b.From) }) {
		at = max(at, off.From)
		for d.walk(at).speed > 0 {
			at += stepTime
		}
		k.offs = append(k.offs, keyOff{off, at})
	}
	return k
}

// at is the vehicle at drive time t, the times in which it stood included; walk is its drive
// without them.
func (k *key) at(t time.Duration, walk func(time.Duration) state) state {
	started := time.Duration(-1)
	for _, off := range k.offs {
		if t < off.at {
			break
		}
		if stood := t - off.at; stood < off.For+cranking+idling {
			return k.apply(k.stand(off, stood, walk(off.at)))
		}
		t -= off.For + cranking + idling
		started = off.at
	}
	s := walk(t)
	if started >= 0 {
		s.runTime = min(s.runTime, (t - started + idling).Seconds())
	}
	return k.apply(s)
}

// stand is a vehicle that was in state s when it stood still so long ago.
func (k *key) stand(off keyOff, stood time.Duration, s state) state {
	s.accel, s.speed = 0, 0
	s.load, s.torque, s.demand, s.gear, s.ratio = 0, 0, 0, 0, 0
	running := stood - off.For - cranking
	if running >= 0 {
		s.ignition, s.engine, s.rpm, s.runTime = true, true, idleSpeed, running.Seconds()
		s.volts = voltsOn - 2*math.Exp(-running.Seconds()/0.5)
		return s
	}
	s.ignition, s.engine, s.rpm = stood < off.Ignition || stood >= off.For, false, 0
	s.manifold, s.maf, s.fuelRate, s.throttle, s.timing, s.lambda = s.barometer, 0, 0, 0.05, 0, 1
	s.volts = k.Resting - k.Drain*stood.Hours()
	if off.at > 0 { // an engine ran just before: its charge wears off
		s.volts += (voltsOn - k.Resting) * math.Exp(-stood.Seconds()/20)
	}
	if stood >= off.For {
		s.rpm, s.volts = 250, 10.6 // the starter
	}
	return s
}

// apply makes the state that of a vehicle with these electrics.
func (k *key) apply(s state) state {
	electric, hybrid := k.Powertrain == "electric", k.Powertrain == "hybrid"
	if s.engine {
		s.volts += k.Charging - voltsOn
	}
	if s.ignition && (electric || hybrid && s.speed < hybridStands) {
		s.engine, s.rpm, s.load, s.maf, s.fuelRate = false, 0, 0, 0, 0
		s.volts = k.Charging
	}
	s.volts *= float64(k.System) / 12
	return s
}

// lessCombustion are the PIDs of a car without an engine that burns something.
func lessCombustion(pids []byte) []byte {
	burns := []byte{0x04, 0x05, 0x06, 0x07, 0x0A, 0x0B, 0x0C, 0x0E, 0x0F, 0x10, 0x1F, 0x2F, 0x30, 0x43, 0x44, 0x4C, 0x5C, 0x5E, 0xA4}
	return slices.DeleteFunc(pids, func(pid byte) bool { return bytes.IndexByte(burns, pid) >= 0 })
}
