package main

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The tests of this package run telemetryd as whole processes: the test binary under
// another name, with the race detector in it.
func TestMain(m *testing.M) {
	// Daemons of these tests run side by side.
	if err := os.Setenv("TELEMETRYD_HTTP", "off"); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"telemetryd": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"fails": fails}})
}

// fails is the script command `fails STATUS program args...`: the program must end
// with this exit status.
func fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails STATUS program args...")
	}
	err := ts.Exec(args[1], args[2:]...)
	e, ok := errors.AsType[*exec.ExitError](err)
	if !ok || strconv.Itoa(e.ExitCode()) != args[0] {
		ts.Fatalf("%v ended with %v, want exit status %s", args[1:], err, args[0])
	}
}
