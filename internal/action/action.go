// Package action runs programs that the owner named in the settings, for commands and for
// events.
//
// It promises that no shell sees anything of it; that one program runs at a time, and none
// longer than its time-out: then it, and what it started, is told to end (SIGTERM), and
// killed half a second later; that nobody waits for another's program for ever; that what it
// prints is kept up to a bound; and that a program which cannot be started is an error that
// says so.
package action

import (
	"bytes"
	"cmp"
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
	Wait    time.Duration // how long it may wait for another's end; 0 means DefaultWait
	// Unless is closed when the program is not wanted any more: it is not started then. One
	// that runs goes on. It may be nil.
	Unless <-chan struct{}
}

const (
	// DefaultTimeout is how long a program may run.
	DefaultTimeout = 10 * time.Second
	// DefaultWait is how long a program may wait for the end of the one that runs.
	DefaultWait = 30 * time.Second
	// MostOutput is how much is kept of what a program prints, in bytes.
	MostOutput = 4 << 10
	// moment is what a program has to end by itself, for example to set a pin back.
	moment = 500 * time.Millisecond
	// waitDelay is how long pipes may stay open after the end, when what the program left
	// running holds them; longer than moment.
	waitDelay = time.Second
)

// Why a program was not started: another one ran all the time, or it was not wanted any more
// when its turn came.
var (
	ErrBusy     = errors.New("another program still runs")
	ErrUnwanted = errors.New("it is not wanted any more")
)

// Result is how a program ended.
type Result struct {
	Output    string // standard output and error together, valid UTF-8
	Truncated bool   // it printed more
	ExitCode  int    // -1 when it did not exit by itself
}

// Runner runs one program at a time. The zero Runner is ready; it is safe for concurrent use.
type Runner struct {
	ready sync.Once
	turn  chan struct{} // holds one while a program runs
}

// take waits for the turn of a program. The caller gives it back with release.
func (r *Runner) take(ctx context.Context, wait time.Duration, unless <-chan struct{}) error {
	r.ready.Do(func() { r.turn = make(chan struct{}, 1) })
	if err := ctx.Err(); err != nil {
		return err
	}
	limit := time.NewTimer(wait)
	defer limit.Stop()
	select {
	case r.turn <- struct{}{}:
		select {
		case <-unless: // both at once
			r.release()
			return ErrUnwanted
		default:
			return nil
		}
	case <-limit.C:
		return fmt.Errorf("%w after %v", ErrBusy, wait)
	case <-unless:
		return ErrUnwanted
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Runner) release() { <-r.turn }

// Run runs p and waits for its end. The error tells why it did not end well; the Result is
// what there is, in either case. The time that p waits for its turn is none of its time-out.
func (r *Runner) Run(ctx context.Context, p Program) (Result, error) {
	if len(p.Argv) == 0 {
		return Result{}, errors.New("no program is named")
	}
	if err := r.take(ctx, cmp.Or(p.Wait, DefaultWait), p.Unless); err != nil {
		if ctx.Err() != nil {
			err = errors.New("the daemon stops")
		}
		return Result{ExitCode: -1}, fmt.Errorf("%s was not started: %w", p.Argv[0], err)
	}
	defer r.release()
	limit := cmp.Or(p.Timeout, DefaultTimeout)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	out := &bounded{}
	c := exec.CommandContext(ctx, p.Argv[0], p.Argv[1:]...)
	c.Env = append(os.Environ(), p.Env...)
	c.Stdout, c.Stderr, c.WaitDelay = out, out, waitDelay
	err := runGroup(ctx, c)
	result := out.result()
	result.ExitCode = -1
	if c.ProcessState != nil {
		result.ExitCode = c.ProcessState.ExitCode()
	}
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil:
		return result, nil // in the latter case it ended well, and left something running that may still print
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

// runGroup runs a program in a process group of its own. When ctx ends the group is told to
// end, and killed a moment later: with it what the program started.
func runGroup(ctx context.Context, c *exec.Cmd) error {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	signal := func(s syscall.Signal) error { return syscall.Kill(-c.Process.Pid, s) }
	var late *time.Timer
	c.Cancel = func() error {
		late = time.AfterFunc(moment, func() { _ = signal(syscall.SIGKILL) }) // gone by then, if it could
		return signal(syscall.SIGTERM)
	}
	err := c.Run()
	if late != nil { // Run has seen to it that Cancel has returned
		late.Stop()
		_ = signal(syscall.SIGKILL) // what took no notice, and holds no pipe
	}
	return err
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
