package main

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"telemetryd/internal/drive"
	"telemetryd/internal/status"
	"telemetryd/internal/telemetry"
)

// privacyText is the section privacy: what of the vehicle's positions may be told.
type privacyText struct {
	Positions string     `yaml:"positions"`
	Decimals  *int       `yaml:"decimals"`
	Zones     []zoneText `yaml:"zones"`
}

type zoneText struct {
	Name      string   `yaml:"name"`
	Latitude  *float64 `yaml:"latitude"`
	Longitude *float64 `yaml:"longitude"`
	Radius    *float64 `yaml:"radius_m"`
}

const (
	leastZone, mostZone = 50, 50_000 // m
	mostZones           = 100
	mostDecimals        = 5
)

// judge checks the section; where names it.
func (p privacyText) judge(where string) (drive.Privacy, error) {
	var privacy drive.Privacy
	var errs []error
	wrong := func(format string, a ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{where}, a...)...))
	}
	switch cmp.Or(p.Positions, "exact") {
	case "exact":
	case "rounded":
		privacy.Positions, privacy.Decimals = drive.Rounded, 2
	case "off", "false": // YAML 1.1 reads off as a yes or no
		privacy.Positions = drive.NoPositions
	default:
		wrong("positions: %q is not allowed; allowed: exact, rounded, off", p.Positions)
	}
	if p.Decimals != nil {
		if *p.Decimals < 0 || *p.Decimals > mostDecimals {
			wrong("decimals: %d is not allowed; allowed: 0 to %d (2 is about a kilometre)", *p.Decimals, mostDecimals)
		}
		if cmp.Or(p.Positions, "exact") == "exact" {
			wrong("decimals goes with positions: rounded")
		}
		privacy.Decimals = *p.Decimals
	}
	if len(p.Zones) > mostZones {
		wrong("zones: %d are too many; allowed: %d", len(p.Zones), mostZones)
	}
	names := map[string]bool{}
	for i, z := range p.Zones {
		name := cmp.Or(z.Name, fmt.Sprintf("number %d", i+1))
		within := func(key string, x *float64, least, most float64) float64 {
			if x == nil || !(*x >= least && *x <= most) {
				got := "nothing"
				if x != nil {
					got = fmt.Sprint(*x)
				}
				wrong("zones: %s: %s: %s is not allowed; allowed: a number from %v to %v", name, key, got, least, most)
				return 0
			}
			return *x
		}
		if z.Name == "" {
			wrong("zones: %s: a name is missing, as home", name)
		}
		if names[z.Name] {
			wrong("zones: %s: this zone comes twice", name)
		}
		names[z.Name] = true
		privacy.Zones = append(privacy.Zones, drive.Zone{Name: z.Name, Latitude: within("latitude", z.Latitude, -89, 89),
			Longitude: within("longitude", z.Longitude, -180, 180), Radius: within("radius_m", z.Radius, leastZone, mostZone)})
	}
	return privacy, errors.Join(errs...)
}

// withSecret completes privacy with the secret of this installation, which moves its zones.
// It is made once and kept in the state directory. Where it cannot be kept, zones are moved
// otherwise at the next start.
func withSecret(privacy drive.Privacy, stateDir string, health *status.Health) drive.Privacy {
	if len(privacy.Zones) == 0 {
		return privacy
	}
	const kind, least = "privacy", 16
	path := filepath.Join(stateDir, kind)
	secret, err := telemetry.LoadKept(path)
	if err == nil && len(secret) >= least {
		privacy.Secret = secret
		return privacy
	}
	if err == nil {
		err = errors.New("it is too short")
	}
	damaged := !errors.Is(err, fs.ErrNotExist)
	privacy.Secret = []byte(rand.Text())
	if failed := telemetry.SaveKept(path, privacy.Secret); failed != nil {
		damaged, err = true, failed
	}
	if damaged {
		health.Set(kind, telemetry.Condition{Code: "privacy_zones_moved", Severity: telemetry.Warning,
			Title:  fmt.Sprintf("The edges of the privacy zones are not where they were before: %v", err),
			Remedy: fmt.Sprintf("two edges around one place tell more of it than one: see that %s can be read and written, or make the zones larger", path)})
	}
	return privacy
}
