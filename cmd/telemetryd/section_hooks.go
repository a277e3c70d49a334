package main

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"telemetryd/internal/action"
	"telemetryd/internal/drive"
	"telemetryd/internal/hook"
	"telemetryd/internal/status"
	"telemetryd/internal/telemetry"
)

// hookText is a hook as it stands in the file.
type hookText struct {
	On      string   `yaml:"on"`
	For     duration `yaml:"for"`
	Exec    []string `yaml:"exec"`
	Timeout duration `yaml:"timeout"`
}

// The states that a hook may be on; all else is the type of an event.
const (
	onParked  = "parked"
	onDriving = "driving"
	onOnline  = "online"
	onOffline = "offline"
)

var hookStates = []string{onParked, onDriving, onOnline, onOffline}

const (
	mostHooks       = 64
	mostHookFor     = 7 * 24 * time.Hour
	leastHookTime   = 100 * time.Millisecond
	mostHookTime    = time.Hour
	mostHookProgram = 64 // words of a command
)

// judgeHooks checks the section hooks; where names it.
func judgeHooks(texts []hookText, where string) (hooks []hook.Hook, errs []error) {
	if len(texts) > mostHooks {
		return nil, []error{fmt.Errorf("%s: %d hooks; allowed: %d", where, len(texts), mostHooks)}
	}
	for i, text := range texts {
		h, err := text.judge()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: entry %d: %w", where, i+1, err))
		}
		hooks = append(hooks, h)
	}
	return hooks, errs
}

func (t hookText) judge() (hook.Hook, error) {
	h := hook.Hook{On: t.On, For: time.Duration(t.For), Program: action.Program{Argv: t.Exec, Timeout: time.Duration(t.Timeout)}}
	state := slices.Contains(hookStates, t.On)
	switch {
	case t.On == "":
		return h, fmt.Errorf("on is missing; allowed: a state (%s), or the type of an event, as trip_start", strings.Join(hookStates, ", "))
	case !telemetry.IsEventType(t.On):
		return h, fmt.Errorf("on: %q is not allowed; allowed: a state (%s), or the type of an event: %s", t.On, strings.Join(hookStates, ", "), telemetry.AllowedEventType)
	case t.On == "data_gap":
		return h, fmt.Errorf("on: no hook runs on data_gap; telemetryd buffer stat tells what is lost")
	case h.For != 0 && !state:
		return h, fmt.Errorf("for: an event does not last; allowed with %s", strings.Join(hookStates, ", "))
	case h.For < 0 || h.For > mostHookFor:
		return h, fmt.Errorf("for: %v is not allowed; allowed: up to %v, as 10m", h.For, mostHookFor)
	case len(t.Exec) == 0 || t.Exec[0] == "":
		return h, fmt.Errorf("exec is missing; allowed: a program and its arguments, as [systemctl, poweroff]; no shell sees them")
	case len(t.Exec) > mostHookProgram || slices.ContainsFunc(t.Exec, func(word string) bool { return strings.ContainsRune(word, 0) }):
		return h, fmt.Errorf("exec: allowed: up to %d words without NUL", mostHookProgram)
	case h.Program.Timeout != 0 && (h.Program.Timeout < leastHookTime || h.Program.Timeout > mostHookTime):
		return h, fmt.Errorf("timeout: %v is not allowed; allowed: %v to %v, as 30s", h.Program.Timeout, leastHookTime, mostHookTime)
	}
	return h, nil
}

// tellRare names the hooks on events that only telemetryd emit brings: it may be a slip.
func tellRare(hooks []hook.Hook, log *slog.Logger) {
	for _, h := range hooks {
		if !slices.Contains(hookStates, h.On) && !telemetry.IsOwnEvent(h.On) && h.On != string(telemetry.Emergency) {
			log.Info("a hook waits for an event that only telemetryd emit brings", "on", h.On)
		}
	}
}

// openHooks makes the programs of the section ready to run.
func openHooks(o options, runner *action.Runner, mode *drive.Mode, link *reached, health *status.Health, log *slog.Logger) *hook.Hooks {
	tellRare(o.hooks, log)
	return hook.New(hook.Config{
		Hooks: o.hooks, Runner: runner, Health: health, Log: log,
		Env: []string{"TELEMETRYD_VEHICLE_ID=" + o.vehicleID, "TELEMETRYD_STATE_DIR=" + o.stateDir},
		States: map[string]hook.State{
			onParked: mode.Parked,
			onDriving: func() (bool, <-chan struct{}) {
				parked, changed := mode.Parked()
				return !parked, changed
			},
			onOnline: link.online.State, onOffline: link.offline.State,
		},
	})
}

// reached is the health as the publisher sees it; it hears from it whether a broker is
// reached. While that is not known the link is neither online nor offline.
type reached struct {
	*status.Health
	online, offline hook.Switch
}

// Set implements publish.Health.
func (r *reached) Set(source string, c telemetry.Condition) {
	if source == "broker" {
		r.online.Set(false)
		r.offline.Set(true)
	}
	r.Health.Set(source, c)
}

// Clear implements publish.Health.
func (r *reached) Clear(source, resolved string) {
	if source == "broker" {
		r.offline.Set(false)
		r.online.Set(true)
	}
	r.Health.Clear(source, resolved)
}
