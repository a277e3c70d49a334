package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"time"
)

// Set by the linker; see the Makefile.
var (
	version = "0.0.0-dev"
	commit  = "unknown"
	built   = "" // date of the commit, RFC 3339; else of what `go build` notes
)

type versionCommand struct{}

// Run prints what this program is.
func (versionCommand) Run(s streams) error {
	_, err := fmt.Fprintf(s.out, "telemetryd %s\ncommit %s\n%s\n%s/%s\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// firstRelease is a day that had passed when this was written, for builds that know no
// better.
const firstRelease = "2026-11-01T00:00:00Z"

// buildDate is a day before which no receiver can rightly say that it is.
func buildDate() time.Time {
	noted := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" {
				noted = s.Value
			}
		}
	}
	for _, date := range []string{built, noted, firstRelease} {
		if t, err := time.Parse(time.RFC3339, date); err == nil {
			return t
		}
	}
	return time.Time{}
}
