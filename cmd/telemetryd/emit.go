package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"telemetryd/internal/local"
	"telemetryd/internal/telemetry"
)

type emitCommand struct {
	Type     string        `arg:"" help:"What happened, as emergency, ignition_off or door_open: a-z 0-9 _, and no name of the daemon's own events."`
	Note     string        `placeholder:"TEXT" help:"What a person should read, 500 characters at most."`
	Severity string        `placeholder:"LEVEL" help:"info, warning or emergency. Default info; that of the type emergency is emergency."`
	Data     []string      `sep:"none" placeholder:"KEY=VALUE" help:"A figure of the event; repeat for more. Numbers, true and false are kept as such."`
	StateDir string        `placeholder:"DIR" help:"As given to the daemon. Default $$STATE_DIRECTORY, else ~/.local/state/telemetryd."`
	Wait     time.Duration `placeholder:"DURATION" help:"Wait so long for the broker's acknowledgement, up to 10m. Default: the event is on the disk, that is enough."`
	JSON     bool          `name:"json" help:"The daemon's answer as JSON in place of the text."`
}

// Run hands an event to the daemon that runs on this machine.
func (c *emitCommand) Run(ctx context.Context, s streams) error {
	dir, err := stateDir(c.StateDir)
	if err != nil {
		return err
	}
	data, err := emitData(c.Data)
	if err != nil {
		return &usageError{err}
	}
	if c.Wait < 0 || c.Wait > 0 && c.Wait < time.Millisecond {
		return &usageError{fmt.Errorf("--wait: %v is not allowed; allowed: 1ms to %v", c.Wait, local.MostWait)}
	}
	r := local.Request{Type: c.Type, Severity: telemetry.Severity(c.Severity), Note: c.Note, Data: data, WaitMS: c.Wait.Milliseconds()}
	if _, err := r.Event(0); err != nil {
		return &usageError{err}
	}
	a, err := local.Send(ctx, dir, r)
	if err != nil {
		return err
	}
	if c.JSON {
		if err := json.NewEncoder(s.out).Encode(a); err != nil {
			return err
		}
	}
	switch {
	case a.Error != "":
		return fmt.Errorf("%s was not recorded: %s", c.Type, a.Error)
	case a.GivenUp:
		return fmt.Errorf("%s was recorded as seq %d of stream %s, and no broker takes it: it is named in a data_gap event; the daemon's log tells why", c.Type, a.Seq, a.StreamID)
	case c.JSON:
		return nil
	}
	_, err = fmt.Fprintln(s.out, emitted(c.Type, a, c.Wait))
	return err
}

// emitted tells what became of an event.
func emitted(kind string, a local.Answer, wait time.Duration) string {
	text := fmt.Sprintf("%s is recorded as seq %d of stream %s", kind, a.Seq, a.StreamID)
	if !a.Durable {
		text += fmt.Sprintf(", in memory alone while the disk fails (%s)", cmp.Or(a.Trouble, "no reason is known"))
	}
	switch {
	case a.Acknowledged:
		text += "; the broker has it"
	case wait > 0:
		text += fmt.Sprintf("; the broker has not acknowledged it within %v: it is sent until it does", wait)
	}
	return text
}

// plainNumber is a number that is one in JSON as well; 007 is a text.
var plainNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?$`)

// emitData makes an object of KEY=VALUE texts.
func emitData(texts []string) (json.RawMessage, error) {
	data := map[string]any{}
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		_, twice := data[key]
		switch {
		case !ok || key == "":
			return nil, fmt.Errorf("--data: %q is not KEY=VALUE", text)
		case twice:
			return nil, fmt.Errorf("--data: %s comes twice", key)
		case value == "true" || value == "false" || plainNumber.MatchString(value):
			data[key] = json.RawMessage(value)
		default:
			data[key] = value
		}
	}
	if len(data) == 0 {
		return nil, nil
	}
	b, err := json.Marshal(data)
	if err != nil {
		return nil, errors.Join(errors.New("--data"), err)
	}
	return b, nil
}
