package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"telemetryd/internal/command"
)

// commandsSection is the section `commands` as it is written.
type commandsSection struct {
	Topics    map[string]topicText `yaml:"topics"`
	Allow     map[string]allowText `yaml:"allow"`
	PublicKey string               `yaml:"public_key"`
}

type topicText struct {
	Run string `yaml:"run"`
}

type allowText struct {
	Exec    []string           `yaml:"exec"`
	Timeout duration           `yaml:"timeout"`
	Args    map[string]argText `yaml:"args"`
	MaxHz   float64            `yaml:"max_hz"`
	MaxFor  duration           `yaml:"max_for"`
}

type argText struct {
	Pattern string `yaml:"pattern"`
	Secret  bool   `yaml:"secret"`
}

// commandOptions are what it comes to.
type commandOptions struct {
	topics    map[string]string
	allow     map[string]command.Rule
	publicKey ed25519.PublicKey
	car       carLimits // of set_rate
}

// plain are the commands that their name alone runs, for a button. Where commands have to be
// signed there are none.
func (o commandOptions) plain() (names []string) {
	if o.publicKey != nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(o.allow)) {
		if !o.allow[name].Takes() && name != "set_rate" {
			names = append(names, name)
		}
	}
	return names
}

// builtinCommands are those that need no program. They run only where the owner lists them,
// as all others.
var builtinCommands = []string{"clear_dtc", "read_dtc", "read_vin", "sample_now", "set_rate", "status"}

const (
	longestCommand = 10 * time.Minute
	// The bounds of set_rate that the owner may give.
	mostRateHz  = 100
	mostRateFor = 24 * time.Hour
)

// judge checks the section. base is the topic of all that this vehicle publishes; where is
// the section's place in the file.
func (s *commandsSection) judge(base, where string) (commandOptions, error) {
	o := commandOptions{topics: map[string]string{}, allow: map[string]command.Rule{}}
	var errs []error
	wrong := func(key string, err error) { errs = append(errs, fmt.Errorf("%s: %s: %w", where, key, err)) }
	for _, name := range slices.Sorted(maps.Keys(s.Allow)) {
		rule, err := s.Allow[name].judge(name, &o)
		if err != nil {
			wrong("allow: "+name, err)
		}
		o.allow[name] = rule
	}
	for _, topic := range slices.Sorted(maps.Keys(s.Topics)) {
		run := s.Topics[topic].Run
		if err := judgeTopic(topic, run, base, o.allow); err != nil {
			wrong("topics: "+topic, err)
		}
		o.topics[topic] = run
	}
	if len(s.Allow) == 0 && (len(s.Topics) > 0 || s.PublicKey != "") {
		wrong("allow", errors.New("no command is allowed; list them, as allow: {status: {}}"))
	}
	if s.PublicKey != "" {
		var err error
		if o.publicKey, err = command.ReadPublicKey(s.PublicKey); err != nil {
			wrong("public_key", err)
		}
	}
	return o, errors.Join(errs...)
}

// judge checks one command.
func (a allowText) judge(name string, o *commandOptions) (command.Rule, error) {
	builtin := slices.Contains(builtinCommands, name)
	timeout := time.Duration(a.Timeout)
	switch {
	case !command.ValidName(name):
		return command.Rule{}, errors.New("is no name for a command; allowed: 1 to 64 of A-Z a-z 0-9 _ -")
	case builtin && len(a.Exec) > 0:
		return command.Rule{}, errors.New("exec: this command is built in; give the program another name")
	case !builtin && len(a.Exec) == 0:
		return command.Rule{}, fmt.Errorf("a program is missing, as exec: [pinctrl, set, \"17\", op, dh]; built in are only %s", strings.Join(builtinCommands, ", "))
	case timeout != 0 && (timeout < 100*time.Millisecond || timeout > longestCommand):
		return command.Rule{}, fmt.Errorf("timeout: %v is not allowed; allowed: 100ms to 10m", timeout)
	case name != "set_rate" && (a.MaxHz != 0 || a.MaxFor != 0):
		return command.Rule{}, errors.New("max_hz and max_for are for set_rate alone")
	case a.MaxHz != 0 && !(a.MaxHz >= 0.1 && a.MaxHz <= mostRateHz):
		return command.Rule{}, fmt.Errorf("max_hz: %v is not allowed; allowed: 0.1 to %d", a.MaxHz, mostRateHz)
	case a.MaxFor != 0 && (time.Duration(a.MaxFor) < time.Second || time.Duration(a.MaxFor) > mostRateFor):
		return command.Rule{}, fmt.Errorf("max_for: %v is not allowed; allowed: 1s to 24h", time.Duration(a.MaxFor))
	}
	if name == "set_rate" {
		o.car = carLimits{a.MaxHz, time.Duration(a.MaxFor)}
	}
	args := map[string]command.Arg{}
	for arg, text := range a.Args {
		args[arg] = command.Arg(text)
	}
	return command.NewRule(a.Exec, timeout, args)
}

// judgeTopic checks a further topic for commands.
func judgeTopic(topic, run, base string, allow map[string]command.Rule) error {
	switch {
	case topic == "" || len(topic) > 256 || strings.ContainsAny(topic, "#+\x00") || strings.HasPrefix(topic, "$"):
		return errors.New("is no topic to listen on; allowed: 1 to 256 characters without # and +, no $ at its start")
	case topic == base || strings.HasPrefix(topic, base+"/"):
		return fmt.Errorf("%s/command and %s/command/NAME are listened on already, and the other topics there are the vehicle's own", base, base)
	}
	if run == "" {
		return nil
	}
	rule, listed := allow[run]
	if !listed {
		return fmt.Errorf("run: %s is not listed under allow", run)
	}
	if rule.Takes() {
		return fmt.Errorf("run: %s takes arguments, which this topic cannot give; leave run out, and send the command's name with its arguments", run)
	}
	return nil
}
