package main

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"time"

	"telemetryd/internal/drive"
)

// drivingText is the section driving as it is written: what counts as an event. Each limit
// may be off.
type drivingText struct {
	Braking      string `yaml:"harsh_braking_ms2"`
	Acceleration string `yaml:"harsh_acceleration_ms2"`
	Cornering    string `yaml:"harsh_cornering_ms2"`
	Overspeed    string `yaml:"overspeed_kmh"`
	OverspeedFor string `yaml:"overspeed_for"`
	LongIdling   string `yaml:"long_idling"`
	Coolant      string `yaml:"coolant_c"`
	Moved        string `yaml:"moved_while_parked_m"`
	Crash        string `yaml:"crash_ms2"`
	Readings     string `yaml:"readings"`
}

// judge completes what is written with what is usual; wrong is told what is not allowed.
func (d drivingText) judge(wrong func(key, value, allowed string)) drive.Driving {
	out := drive.UsualDriving
	for _, x := range []struct {
		key, text   string
		target      *float64
		least, most float64
		unit        string
	}{
		{"harsh_braking_ms2", d.Braking, &out.BrakingMS2, 1, 12, "m/s^2"},
		{"harsh_acceleration_ms2", d.Acceleration, &out.AccelerationMS2, 1, 10, "m/s^2"},
		{"harsh_cornering_ms2", d.Cornering, &out.CorneringMS2, 1, 12, "m/s^2"},
		{"overspeed_kmh", d.Overspeed, &out.OverspeedKMH, 10, 300, "km/h"},
		{"coolant_c", d.Coolant, &out.CoolantC, 80, 150, "degrees Celsius"},
		{"moved_while_parked_m", d.Moved, &out.MovedM, 50, 5000, "metres"},
		{"crash_ms2", d.Crash, &out.CrashMS2, 10, 100, "m/s^2"},
	} {
		switch x.text {
		case "":
		case "off":
			*x.target = 0
		default:
			v, err := strconv.ParseFloat(x.text, 64)
			if err != nil || math.IsNaN(v) || v < x.least || v > x.most {
				wrong(x.key, x.text, fmt.Sprintf("%v to %v %s, or off", x.least, x.most, x.unit))
			}
			*x.target = v
		}
	}
	out.OverspeedFor = judgeTime("overspeed_for", d.OverspeedFor, out.OverspeedFor, time.Second, 10*time.Minute, "1s to 10m", wrong)
	if d.LongIdling == "off" {
		out.LongIdling = 0
	} else {
		out.LongIdling = judgeTime("long_idling", d.LongIdling, out.LongIdling, 30*time.Second, 24*time.Hour, "30s to 24h, or off", wrong)
	}
	switch cmp.Or(d.Readings, "on") {
	case "on", "yes", "true":
		out.Readings = true
	case "off", "no", "false":
		out.Readings = false
	default:
		wrong("readings", d.Readings, "on, off")
	}
	return out
}

// judgeTime reads a duration within bounds.
func judgeTime(key, text string, usual, least, most time.Duration, allowed string, wrong func(key, value, allowed string)) time.Duration {
	if text == "" {
		return usual
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		wrong(key, text, allowed)
	}
	return d
}
