package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"telemetryd/internal/drive"
	"telemetryd/internal/telemetry"
)

// geofencesText is the section of the places to watch, as it is written.
type geofencesText struct {
	File string `yaml:"file"`
}

// judgeGeofences reads the places of the section; nil when it is not there. A file that
// is not named from the root on is looked for beside the settings file.
func (s *settings) judgeGeofences() (*drive.Fences, error) {
	where, given := s.origin["geofences"]
	if !given {
		return nil, nil
	}
	file := s.sections.geofences.File
	if file == "" {
		return nil, fmt.Errorf("%s: no file: allowed: {file: fences.geojson}, a GeoJSON file", where)
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(filepath.Dir(s.ConfigFile), file)
	}
	fences, err := drive.LoadFences(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w; a name without a folder is looked for beside the settings file", where, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return fences, nil
}

// insideFile keeps which fences the vehicle is in over restarts: their ids or names, and
// no position.
type insideFile struct {
	Inside []string `json:"inside"`
}

// openInside returns the fences that the vehicle was in, how to tell those that it is in
// now, and what keeps them until its context ends.
func openInside(stateDir string, log *slog.Logger) (inside []string, tell func([]string), keep func(ctx context.Context)) {
	path := filepath.Join(stateDir, "geofences")
	var f insideFile
	if err := loadKept(path, &f); err != nil {
		log.Warn("which geofences the vehicle was in is not known: those that it is in now are told as first seen", "error", err)
	}
	state, failing := newNewest(), false
	save := func() (saved bool) {
		err := telemetry.SaveKept(path, state.get())
		if err != nil && !failing {
			log.Warn("which geofences the vehicle is in could not be kept: a restart may tell them again", "error", err)
		}
		failing = err != nil
		return !failing
	}
	tell = func(inside []string) {
		b, err := json.Marshal(insideFile{inside})
		if err != nil {
			log.Error("geofences are not kept", "error", err) // a mistake in this program
			return
		}
		state.set(b)
	}
	return f.Inside, tell, func(ctx context.Context) { keepSaved(ctx, state.changed, save) }
}
