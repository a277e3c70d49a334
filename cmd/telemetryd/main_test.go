package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The tests of this package run telemetryd as whole processes: the test binary under
// another name, with the race detector in it.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"telemetryd": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true})
}
