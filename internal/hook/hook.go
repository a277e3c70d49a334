// Package hook runs programs of the owner's when something happens: at an event, or when a
// state, as parked, has lasted for a while.
//
// It promises that nothing waits for it: not recording, nor sending; that runs are bounded in
// number and time, one after the other; that a state which ended meanwhile starts nothing;
// that a program which fails is a condition until it works again; and that none outlives the
// daemon by more than a moment.
//
// What the programs may do is the owner's affair; who runs them is package action.
package hook

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"telemetryd/internal/action"
	"telemetryd/internal/telemetry"
)

// Hook is a program and when it runs.
type Hook struct {
	On      string        // the type of an event, or a state
	For     time.Duration // how long the state has to last first
	Program action.Program
}

// State tells whether something holds; changed is closed when that is no longer so.
type State func() (holds bool, changed <-chan struct{})

// Runner runs one program at a time.
type Runner interface {
	Run(ctx context.Context, p action.Program) (action.Result, error)
}

// Health is where conditions are reported.
type Health interface {
	Set(source string, c telemetry.Condition)
	Clear(source, resolved string)
}

// Config says which programs run, and what they are told.
type Config struct {
	Hooks  []Hook
	States map[string]State // those that Hooks name
	Env    []string         // for every program, as NAME=value
	Runner Runner
	Health Health
	Log    *slog.Logger
}

const (
	// queued runs may wait for their turn.
	queued = 16
	// grace is what a running program has at a stop of the daemon before it is told to end.
	grace = 300 * time.Millisecond
	// together is within what a stop of the unit reaches both a program and the daemon.
	together = 100 * time.Millisecond
	// mostJSON is how long an event may be to be handed over: the kernel takes 128 KiB for a
	// variable (execve(2), MAX_ARG_STRLEN).
	mostJSON = 100 << 10
	// patience is how long a program waits for its turn: as long as the one before may run.
	patience = time.Hour
	// mostQuote is how many characters of a program's output a condition tells.
	mostQuote = 200
)

// Hooks are the programs of one daemon. Its methods are safe for concurrent use.
type Hooks struct {
	Config
	queue chan run
	full  atomic.Bool // runs were left out since there was room last
	*counters
}

// run is one program to be run once.
type run struct {
	hook   int
	event  []byte          // its message; nil for a state
	unless <-chan struct{} // closed when it is too late
}

// New returns Hooks; Run makes them work.
func New(c Config) *Hooks {
	return &Hooks{Config: c, queue: make(chan run, queued), counters: newCounters()}
}

// Happened runs what is to run at an event, some time later.
func (h *Hooks) Happened(e telemetry.Event, message []byte) {
	for i, hook := range h.Hooks {
		if _, state := h.States[hook.On]; !state && hook.On == e.Type {
			h.enqueue(run{hook: i, event: message})
		}
	}
}

// enqueue leaves a run out rather than wait.
func (h *Hooks) enqueue(r run) {
	select {
	case h.queue <- r:
		return
	default:
	}
	on := h.Hooks[r.hook].On
	h.count(on, "dropped")
	if !h.full.Swap(true) {
		h.Log.Warn("hooks are left out: too many wait for their turn", "on", on, "waiting", queued,
			"remedy", "one program runs at a time: let it end sooner, or hook it on something that is less frequent")
	}
}

// Run runs programs until ctx ends; one that runs then is given a moment, and killed.
func (h *Hooks) Run(ctx context.Context) {
	var following sync.WaitGroup
	defer following.Wait()
	for i, hook := range h.Hooks {
		if state, ok := h.States[hook.On]; ok {
			following.Go(func() { h.follow(ctx, i, state) })
		}
	}
	running, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, kill) })()
	for {
		select {
		case <-ctx.Done():
			return
		default:
		}
		select {
		case r := <-h.queue:
			h.run(ctx, running, r)
			if len(h.queue) == 0 {
				h.full.Store(false)
			}
		case <-ctx.Done():
			return
		}
	}
}

// follow runs a hook each time that its state has lasted long enough. What holds at the start
// began unseen: nobody knows how long it has lasted.
func (h *Hooks) follow(ctx context.Context, i int, state State) {
	_, changed := state()
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
		var holds bool
		if holds, changed = state(); !holds {
			continue
		}
		lasted := time.NewTimer(h.Hooks[i].For)
		select {
		case <-lasted.C:
			h.enqueue(run{hook: i, unless: changed})
		case <-changed:
		case <-ctx.Done():
		}
		lasted.Stop()
	}
}

// run runs a program in running and tells how that went. A program that fails as the daemon
// stops did what it should: a stop of the unit ends both, as systemctl poweroff makes it.
func (h *Hooks) run(ctx, running context.Context, r run) {
	hook := h.Hooks[r.hook]
	p := hook.Program
	p.Wait, p.Unless = patience, r.unless
	p.Env = append(append([]string{}, h.Env...), "TELEMETRYD_EVENT="+hook.On)
	if r.event != nil && len(r.event) <= mostJSON {
		p.Env = append(p.Env, "TELEMETRYD_EVENT_JSON="+string(r.event))
	}
	began := time.Now()
	result, err := h.Runner.Run(running, p)
	if err != nil && !errors.Is(err, action.ErrUnwanted) {
		select {
		case <-ctx.Done():
		case <-time.After(together):
		}
	}
	source := fmt.Sprintf("hook %d", r.hook+1)
	switch {
	case errors.Is(err, action.ErrUnwanted):
		h.Log.Debug("hook left out: the state has ended", "on", hook.On, "program", p.Argv[0])
	case err != nil && ctx.Err() != nil:
		h.Log.Info("hook ended early: the daemon stops", "on", hook.On, "program", p.Argv[0], "error", err)
	case err != nil:
		h.count(hook.On, "failed")
		h.Log.Debug("hook failed", "on", hook.On, "program", p.Argv[0], "error", err, "output", result.Output)
		h.Health.Set(source, failed(hook, result, err))
	default:
		h.count(hook.On, "done")
		h.Log.Info("hook done", "on", hook.On, "program", p.Argv[0], "took", time.Since(began).Round(time.Millisecond))
		h.Health.Clear(source, "The hook on "+hook.On+" works again")
	}
}

// failed is a program that did not end well, in the words of who can mend it.
func failed(h Hook, result action.Result, err error) telemetry.Condition {
	c := telemetry.Condition{Code: "hook_failed", Severity: telemetry.Warning, Title: fmt.Sprintf("The hook on %s failed: %v", h.On, err)}
	if said := strings.TrimSpace(result.Output); said != "" {
		if utf8.RuneCountInString(said) > mostQuote {
			said = string([]rune(said)[:mostQuote]) + "..."
		}
		c.Title += fmt.Sprintf("; it said %q", said)
	}
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		c.Remedy = "is it installed, and its path right? A script's first line names the program that runs it, too"
	case errors.Is(err, fs.ErrPermission):
		c.Remedy = "let the user of the daemon execute it: chmod +x"
	case strings.Contains(err.Error(), "did not end within"):
		c.Remedy = "why does it take so long? If it may, give the hook a longer timeout"
	default:
		c.Remedy = "run it by hand as the user of the daemon (sudo -u USER ...): may it do that? docs/hooks.md tells what systemctl poweroff needs"
	}
	return c
}
