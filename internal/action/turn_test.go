package action

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hold runs a program until the returned function is called, and waits until it runs.
func hold(t *testing.T, r *Runner) (end func()) {
	t.Helper()
	sign := filepath.Join(t.TempDir(), "runs")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = r.Run(ctx, Program{Argv: []string{"sh", "-c", "touch " + sign + "; exec sleep 60"}, Timeout: time.Minute})
	}()
	for { // another process
		if _, err := os.Stat(sign); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return func() {
		cancel()
		<-ended
	}
}

// Who waits for another's program does not wait for ever, nor when the daemon stops.
func TestWaitIsBounded(t *testing.T) {
	var r Runner
	end := hold(t, &r)
	defer end()
	_, err := r.Run(t.Context(), Program{Argv: []string{"true"}, Wait: 50 * time.Millisecond})
	if !errors.Is(err, ErrBusy) || err.Error() != "true was not started: another program still runs after 50ms" {
		t.Errorf("error: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() {
		_, err := r.Run(ctx, Program{Argv: []string{"true"}})
		stopped <- err
	}()
	cancel()
	if err := <-stopped; err == nil || !strings.Contains(err.Error(), "true was not started: the daemon stops") {
		t.Errorf("error: %v", err)
	}
	unwanted := make(chan struct{})
	time.AfterFunc(20*time.Millisecond, func() { close(unwanted) })
	if _, err := r.Run(t.Context(), Program{Argv: []string{"true"}, Unless: unwanted}); !errors.Is(err, ErrUnwanted) {
		t.Errorf("error: %v", err)
	}
	end()
	if _, err := r.Run(t.Context(), Program{Argv: []string{"true"}, Unless: unwanted}); !errors.Is(err, ErrUnwanted) {
		t.Errorf("when it is free again, unwanted: %v", err)
	}
	if _, err := r.Run(t.Context(), Program{Argv: []string{"true"}, Unless: make(chan struct{})}); err != nil {
		t.Errorf("when it is free again: %v", err)
	}
}

// A program that is to end may put things in order; one that takes no notice is killed.
func TestMomentToEnd(t *testing.T) {
	for name, c := range map[string]struct{ script, output string }{
		"tidy":     {`trap 'echo tidied; exit 0' TERM; echo runs; sleep 60 & wait`, "runs\ntidied\n"},
		"stubborn": {`trap '' TERM; echo runs; sleep 60; sleep 60`, "runs\n"},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			result, err := new(Runner).Run(t.Context(), Program{Argv: []string{"sh", "-c", c.script}, Timeout: 300 * time.Millisecond})
			if err == nil || !strings.Contains(err.Error(), "did not end within 300ms") || result.Output != c.output {
				t.Errorf("%+v, %v", result, err)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}
