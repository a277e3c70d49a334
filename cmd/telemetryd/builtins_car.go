package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"telemetryd/internal/command"
	"telemetryd/internal/obd"
)

// carLimits bound what a command may ask of the car. Zero fields are the defaults.
type carLimits struct {
	mostHertz float64       // of set_rate
	longest   time.Duration // that set_rate may last
}

const (
	// usualHertz and usualLongest are as much as a diagnosis needs; --obd-max-requests
	// holds in any case.
	usualHertz   = 20.0
	usualLongest = 10 * time.Minute
	// leastHertz keeps a command from switching a signal off that trips and parking go by.
	leastHertz = 0.1
	// usualFor is how long a rate holds when nothing is said.
	usualFor = time.Minute
	// carWait bounds a command that waits for its turn and for the car.
	carWait = time.Minute
)

// rateSet is the output of set_rate.
type rateSet struct {
	Signal string  `json:"signal"`
	Hertz  float64 `json:"hz"`
	ForS   float64 `json:"for_s"`
}

// codesCleared is the output of clear_dtc.
type codesCleared struct {
	Cleared bool       `json:"cleared"`
	Left    *obd.Codes `json:"left,omitempty"` // that stand there now, where they could be read
}

// carCommands are the built-in commands that ask something of the car (docs/builtins.md).
func carCommands(c *obd.Control, l carLimits) map[string]command.Builtin {
	if l.mostHertz == 0 {
		l.mostHertz = usualHertz
	}
	if l.longest == 0 {
		l.longest = usualLongest
	}
	return map[string]command.Builtin{
		"read_dtc":   withoutArguments(func(ctx context.Context) (any, error) { return c.ReadCodes(ctx) }),
		"read_vin":   withoutArguments(func(ctx context.Context) (any, error) { return c.ReadIdentity(ctx) }),
		"sample_now": withoutArguments(func(ctx context.Context) (any, error) { return c.SampleNow(ctx) }),
		"clear_dtc":  withoutArguments(func(ctx context.Context) (any, error) { return clearCodes(ctx, c) }),
		"set_rate":   func(ctx context.Context, args map[string]string) (any, error) { return setRate(ctx, c, l, args) },
	}
}

// withoutArguments is a command without arguments.
func withoutArguments(do func(ctx context.Context) (any, error)) command.Builtin {
	return func(ctx context.Context, args map[string]string) (any, error) {
		if err := onlyArguments(args); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, carWait)
		defer cancel()
		out, err := do(ctx)
		if err != nil {
			return nil, err
		}
		return out, nil
	}
}

// onlyArguments is the error of an argument that is not among those allowed.
func onlyArguments(args map[string]string, allowed ...string) error {
	for _, name := range slices.Sorted(maps.Keys(args)) {
		if !slices.Contains(allowed, name) {
			if len(allowed) == 0 {
				return fmt.Errorf("argument %q; this command takes none", name)
			}
			return fmt.Errorf("argument %q; allowed: %s", name, strings.Join(allowed, ", "))
		}
	}
	return nil
}

// clearCodes clears the codes and tells what stands there then.
func clearCodes(ctx context.Context, c *obd.Control) (codesCleared, error) {
	if err := c.ClearCodes(ctx); err != nil {
		return codesCleared{}, err
	}
	out := codesCleared{Cleared: true}
	if left, err := c.ReadCodes(ctx); err == nil {
		out.Left = &left
	}
	return out, nil
}

// setRate reads a signal at another rate for a time.
func setRate(ctx context.Context, c *obd.Control, l carLimits, args map[string]string) (any, error) {
	if err := onlyArguments(args, "signal", "hz", "for"); err != nil {
		return nil, err
	}
	signal := args["signal"]
	if signal == "" {
		return nil, errors.New("no signal is named; set_rate takes signal, hz and for, as signal=engine_speed_rpm hz=10 for=60s")
	}
	hertz, err := strconv.ParseFloat(args["hz"], 64)
	if err != nil || !(hertz >= leastHertz && hertz <= l.mostHertz) {
		return nil, fmt.Errorf("hz %q; allowed: a number from %v to %v", args["hz"], leastHertz, l.mostHertz)
	}
	d := min(usualFor, l.longest)
	if text, given := args["for"]; given {
		if d, err = time.ParseDuration(text); err != nil || d < time.Second || d > l.longest {
			return nil, fmt.Errorf("for %q; allowed: from 1s to %v, as 60s or 5m", text, l.longest)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, carWait)
	defer cancel()
	if err := c.SetRates(ctx, map[string]float64{signal: hertz}, d); err != nil {
		return nil, err
	}
	return rateSet{signal, hertz, d.Seconds()}, nil
}
