// Package action runs programs that the owner named in the settings, for commands and for
// events.
//
// It promises that no shell sees anything of it; that one program runs at a time, and none
// longer than its time-out: then it, and what it started, is killed; that what it prints is
// kept up to a bound; and that a program which cannot be started is an error that says so.
package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Program is what to run: a file, and its arguments as they are.
type Program struct {
	Argv    []string
	Timeout time.Duration // 0 means DefaultTimeout
	Env     []string      // beside the daemon's own, as NAME=value
}

const (
	// DefaultTimeout is how long a program may run.
	DefaultTimeout = 10 * time.Second
	// MostOutput is how much is kept of what a program prints, in bytes.
	MostOutput = 4 << 10
	// waitDelay is how long pipes may stay open after the end.
	waitDelay = time.Second
)

// Result is how a program ended.
type Result struct {
	Output    string // standard output and error together, valid UTF-8
	Truncated bool   // it printed more
	ExitCode  int    // -1 when it did not exit by itself
}

// Runner runs one program at a time. The zero Runner is ready; it is safe for concurrent use.
type Runner struct{ one sync.Mutex }

// Run runs p and waits for its end. The error tells why it did not end well; the Result is
// what there is, in either case.
func (r *Runner) Run(ctx context.Context, p Program) (Result, error) {
	if len(p.Argv) == 0 {
		return Result{}, errors.New("no program is named")
	}
	r.one.Lock()
	defer r.one.Unlock()
	limit := p.Timeout
	if limit == 0 {
		limit = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	out := &bounded{}
	c := exec.CommandContext(ctx, p.Argv[0], p.Argv[1:]...)
	c.Env = append(os.Environ(), p.Env...)
	c.Stdout, c.Stderr, c.WaitDelay = out, out, waitDelay
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	err := c.Run()
	result := out.result()
	result.ExitCode = -1
	if c.ProcessState != nil {
		result.ExitCode = c.ProcessState.ExitCode()
	}
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return result, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return result, fmt.Errorf("%s did not end within %v and was killed", p.Argv[0], limit)
	case ctx.Err() != nil:
		return result, fmt.Errorf("%s was ended: the daemon stops", p.Argv[0])
	case ended:
		return result, fmt.Errorf("%s ended with %v", p.Argv[0], exit.ProcessState)
	default:
		return result, fmt.Errorf("start %s: %w", p.Argv[0], err)
	}
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	mu   sync.Mutex
	kept bytes.Buffer
	more bool
}

func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	room := MostOutput - b.kept.Len()
	b.more = b.more || len(p) > room
	b.kept.Write(p[:min(room, len(p))])
	return len(p), nil
}

func (b *bounded) result() Result {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Result{Output: strings.ToValidUTF8(b.kept.String(), "\uFFFD"), Truncated: b.more}
}
