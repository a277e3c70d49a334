package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"telemetryd/internal/telemetry"
)

// The tests of this package run telemetryd as whole processes: the test binary under
// another name, with the race detector in it.
func TestMain(m *testing.M) {
	// Daemons of these tests run side by side.
	if err := os.Setenv("TELEMETRYD_HTTP", "off"); err != nil {
		panic(err)
	}
	if file := os.Getenv("TEST_WALL_CLOCK"); file != "" {
		wallClock = func() (telemetry.SystemTime, error) { return fakeWallClock(file) }
	}
	if boot := os.Getenv("TEST_BOOT"); boot != "" {
		fakeBoot(boot)
	}
	// They wait for other processes most of the time, more than there are processors.
	if err := flag.Set("test.parallel", "5"); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"telemetryd": main})
}

// fakeWallClock is a system clock that is so far off, and synced or unsynced, as the
// file says at the moment: "-1h synced".
func fakeWallClock(file string) (telemetry.SystemTime, error) {
	var off, synced string
	b, err := os.ReadFile(file)
	if err == nil {
		_, err = fmt.Sscan(string(b), &off, &synced)
	}
	d, bad := time.ParseDuration(off)
	if err = errors.Join(err, bad); err != nil {
		panic(fmt.Sprintf("TEST_WALL_CLOCK: %v", err))
	}
	return telemetry.SystemTime{Now: time.Now().Add(d), Synced: synced == "synced", MaxError: 20 * time.Millisecond}, nil
}

// fakeBoot makes another boot of the machine: "ID 1234.5s", that long after the true one.
func fakeBoot(boot string) {
	var id, since string
	_, err := fmt.Sscan(boot, &id, &since)
	d, bad := time.ParseDuration(since)
	if err = errors.Join(err, bad); err != nil {
		panic(fmt.Sprintf("TEST_BOOT: %v", err))
	}
	bootID = func() string { return id }
	uptime = func() time.Duration { return sinceBoot() - d }
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
