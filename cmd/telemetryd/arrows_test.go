package main

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows tells which rooms a room may use; docs/architecture.md draws them. What is
// not named here may use no room at all.
var arrows = map[string][]string{
	"telemetryd/cmd/telemetryd": {
		"telemetryd/internal/action", "telemetryd/internal/budget", "telemetryd/internal/command", "telemetryd/internal/drive", "telemetryd/internal/gps", "telemetryd/internal/homeassistant", "telemetryd/internal/hook",
		"telemetryd/internal/local", "telemetryd/internal/obd", "telemetryd/internal/port", "telemetryd/internal/publish",
		"telemetryd/internal/record", "telemetryd/internal/recorder", "telemetryd/internal/spool", "telemetryd/internal/status", "telemetryd/internal/telemetry", "telemetryd/ledger", "telemetryd/sim",
	},
	"telemetryd/internal/obd":       {"telemetryd/internal/port", "telemetryd/internal/telemetry"},
	"telemetryd/internal/gps":       {"telemetryd/internal/port", "telemetryd/internal/telemetry"},
	"telemetryd/internal/record":    {"telemetryd/internal/port"},
	"telemetryd/internal/recorder":  {"telemetryd/internal/spool", "telemetryd/internal/telemetry"},
	"telemetryd/internal/publish":   {"telemetryd/internal/spool", "telemetryd/internal/telemetry"},
	"telemetryd/internal/budget":    {"telemetryd/internal/telemetry"},
	"telemetryd/internal/status":    {"telemetryd/internal/telemetry"},
	"telemetryd/internal/drive":     {"telemetryd/internal/telemetry"},
	"telemetryd/internal/action":    {},
	"telemetryd/internal/hook":      {"telemetryd/internal/action", "telemetryd/internal/telemetry"},
	"telemetryd/internal/local":     {"telemetryd/internal/spool", "telemetryd/internal/telemetry"},
	"telemetryd/internal/command":   {"telemetryd/internal/action", "telemetryd/internal/telemetry"},
	"telemetryd/internal/modem":     {},
	"telemetryd/internal/port":      {},
	"telemetryd/internal/spool":     {},
	"telemetryd/internal/telemetry": {},
	"telemetryd/ledger":             {},
	"telemetryd/sim":                {},

	"telemetryd/internal/homeassistant": {"telemetryd/internal/telemetry"},
}

func TestImportArrows(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "telemetryd/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		allowed, known := arrows[p.ImportPath]
		if !known {
			t.Errorf("%s is no room of the house: add it to arrows and to docs/architecture.md", p.ImportPath)
		}
		for _, i := range p.Imports {
			if strings.HasPrefix(i, "telemetryd/") && !slices.Contains(allowed, i) {
				t.Errorf("%s must not import %s", p.ImportPath, i)
			}
			if p.ImportPath == "telemetryd/internal/telemetry" && strings.Contains(i, ".") {
				t.Errorf("%s uses the standard library only, not %s", p.ImportPath, i)
			}
		}
	}
	if seen != len(arrows) {
		t.Errorf("%d packages, %d in arrows: one is gone or new", seen, len(arrows))
	}
}
