package main

import (
	"fmt"
	"os"

	"github.com/goccy/go-yaml"

	"telemetryd/sim"
)

// usualThresholds are what counts as harsh where nothing else is set, for a script that is drawn.
var usualThresholds = sim.Thresholds{BrakeMS2: 3.5, AccelerateMS2: 3, CornerMS2: 4, OverspeedKMH: 65, IdleS: 300, CoolantC: 115, TowM: 100, CrashMS2: 12}

// readScript reads what a virtual driver is to do: "events" draws some of each kind, else
// it is a file.
func readScript(what string, seed uint64) (sim.Script, error) {
	switch what {
	case "":
		return nil, nil
	case "events":
		return sim.DrawScript(seed, 2, usualThresholds), nil
	}
	content, err := os.ReadFile(what)
	if err != nil {
		return nil, fmt.Errorf("--script: %w; allowed: events, or a file", err)
	}
	var s sim.Script
	if err := yaml.UnmarshalWithOptions(content, &s, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("--script %s:%s", what, syntax(err))
	}
	if _, err := sim.NewScriptedDrive(seed, s); err != nil {
		return nil, fmt.Errorf("--script %s: %w", what, err)
	}
	if len(s) == 0 {
		return nil, fmt.Errorf("--script %s: nothing is in it; allowed: lines as - {do: brake, amount: 6, from_kmh: 50, to_kmh: 10}", what)
	}
	return s, nil
}
