package main

import (
	"fmt"
	"runtime"
	"time"
)

// Set by the linker; see the Makefile.
var (
	version = "0.0.0-dev"
	commit  = "unknown"
	built   = "" // date of the commit, RFC 3339
)

type versionCommand struct{}

// Run prints what this program is.
func (versionCommand) Run(s streams) error {
	_, err := fmt.Fprintf(s.out, "telemetryd %s\ncommit %s\n%s\n%s/%s\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// buildDate is a day before which no receiver can rightly say that it is; zero when
// it is not known.
func buildDate() time.Time {
	t, err := time.Parse(time.RFC3339, built)
	if err != nil {
		return time.Time{}
	}
	return t
}
