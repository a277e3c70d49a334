package action

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	for name, c := range map[string]struct {
		p      Program
		output string
		code   int
		err    string
	}{
		"good":           {Program{Argv: []string{"echo", "a b", "$HOME", ";ls"}}, "a b $HOME ;ls\n", 0, ""},
		"environment":    {Program{Argv: []string{"printenv", "EVENT"}, Env: []string{"EVENT=parked"}}, "parked\n", 0, ""},
		"exit":           {Program{Argv: []string{"sh", "-c", "echo no >&2; exit 3"}}, "no\n", 3, "sh ended with exit status 3"},
		"missing":        {Program{Argv: []string{"/no/such"}}, "", -1, "start /no/such: fork/exec /no/such: no such file or directory"},
		"no program":     {Program{}, "", 0, "no program is named"},
		"not UTF-8":      {Program{Argv: []string{"printf", `a\377b`}}, "a\uFFFDb", 0, ""},
		"killed by TERM": {Program{Argv: []string{"sh", "-c", "kill -TERM $$"}}, "", -1, "sh ended with signal: terminated"},
	} {
		t.Run(name, func(t *testing.T) {
			result, err := new(Runner).Run(t.Context(), c.p)
			said := ""
			if err != nil {
				said = err.Error()
			}
			if result.Output != c.output || result.ExitCode != c.code || said != c.err {
				t.Errorf("%+v, %q; want %q, %d, %q", result, said, c.output, c.code, c.err)
			}
		})
	}
}

func TestOutputIsBounded(t *testing.T) {
	result, err := new(Runner).Run(t.Context(), Program{Argv: []string{"head", "-c", "100000", "/dev/zero"}})
	if err != nil || len(result.Output) != MostOutput || !result.Truncated {
		t.Errorf("%d bytes, truncated %v, %v", len(result.Output), result.Truncated, err)
	}
}

// What hangs is killed with all that it started, also when that left its pipes open.
func TestTimeout(t *testing.T) {
	sign := filepath.Join(t.TempDir(), "late")
	started := time.Now()
	_, err := new(Runner).Run(t.Context(), Program{Argv: []string{"sh", "-c", "(sleep 2; touch " + sign + ") & sleep 60"}, Timeout: 200 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "did not end within 200ms") {
		t.Fatalf("error: %v", err)
	}
	time.Sleep(time.Until(started.Add(3 * time.Second))) // a process of another's making: there is nothing to wait for
	if _, err := os.Stat(sign); err == nil {
		t.Error("what it started went on")
	}
}

// A program that ends well and leaves something running, which may still print, has not failed.
func TestLeftRunning(t *testing.T) {
	result, err := new(Runner).Run(t.Context(), Program{Argv: []string{"sh", "-c", "echo on; sleep 2 &"}})
	if err != nil || result != (Result{Output: "on\n"}) {
		t.Errorf("%+v, %v", result, err)
	}
	result, err = new(Runner).Run(t.Context(), Program{Argv: []string{"sh", "-c", "sleep 2 & exit 3"}})
	if err == nil || err.Error() != "sh ended with exit status 3" || result.ExitCode != 3 {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestOneAtATime(t *testing.T) {
	var r Runner
	dir := t.TempDir()
	lock := filepath.Join(dir, "lock")
	errs := make(chan error, 4)
	for range cap(errs) {
		go func() {
			_, err := r.Run(context.Background(), Program{Argv: []string{"sh", "-c", "mkdir " + lock + " && sleep 0.1 && rmdir " + lock}})
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		time.Sleep(100 * time.Millisecond)
		cancel()
	}()
	if _, err := new(Runner).Run(ctx, Program{Argv: []string{"sleep", "60"}}); err == nil || !strings.Contains(err.Error(), "the daemon stops") {
		t.Errorf("error: %v", err)
	}
}
