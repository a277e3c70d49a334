package command

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"telemetryd/internal/action"
	"telemetryd/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a Dispatcher in a bubble of fake time, with what it answered.
type rig struct {
	*Dispatcher
	t       *testing.T
	stop    context.CancelFunc
	done    chan struct{}
	mu      sync.Mutex
	answers []Response
	health  conditions
}

// conditions are those that hold, by source.
type conditions struct {
	mu   sync.Mutex
	held map[string]string
}

func (c *conditions) Set(source string, k telemetry.Condition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = map[string]string{}
	}
	c.held[source] = k.Code
}

func (c *conditions) Clear(source, _ string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.held, source)
}

func (c *conditions) holds(source string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held[source] != ""
}

func rule(t *testing.T, args map[string]Arg, exec ...string) Rule {
	t.Helper()
	r, err := NewRule(exec, 0, args)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// startIn starts one on a state directory.
func startIn(t *testing.T, dir string, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, done: make(chan struct{})}
	c := Config{
		VehicleID: "van-1", Base: "vehicles/van-1/command",
		Topics: map[string]string{"jetson/control": "", "RakTest/topic": "wait"},
		Allow:  map[string]Rule{"status": rule(t, nil), "wait": rule(t, nil), "fail": rule(t, nil), "off": rule(t, nil)},
		Builtins: map[string]Builtin{
			"status": func(_ context.Context, args map[string]string) (any, error) { return map[string]any{"args": args}, nil },
			"wait": func(ctx context.Context, _ map[string]string) (any, error) {
				select {
				case <-time.After(5 * time.Second):
					return nil, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			},
			"fail": func(context.Context, map[string]string) (any, error) {
				return nil, errors.New("the car does not answer")
			},
		},
		Dir: dir, Now: func() (time.Time, bool) { return time.Now(), true },
		Respond: r.note, Runner: new(action.Runner), Health: &r.health, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&c)
	}
	r.Dispatcher = New(c)
	ctx, stop := context.WithCancel(t.Context())
	r.stop = func() {
		stop()
		<-r.done
	}
	go func() {
		defer close(r.done)
		r.Run(ctx)
	}()
	return r
}

func (r *rig) note(payload []byte) {
	var a Response
	if err := json.Unmarshal(payload, &a); err != nil || a.Schema != 1 || a.VehicleID != "van-1" || a.T == "" {
		r.t.Errorf("answer %s: %v", payload, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = append(r.answers, a)
}

// said returns the answers since the last time, once nothing moves.
func (r *rig) said() []Response {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.answers
	r.answers = nil
	return a
}

// send hands in a message on the command topic and returns the answers.
func (r *rig) send(payload string) []Response {
	r.Receive(r.Base, []byte(payload), false)
	return r.said()
}

// short is answers as "state command, state command".
func short(all []Response) string {
	var texts []string
	for _, a := range all {
		texts = append(texts, strings.TrimSpace(string(a.State)+" "+a.Command))
	}
	return strings.Join(texts, ", ")
}

func auditLines(t *testing.T, dir, name string) (lines []auditLine) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		var l auditLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		lines = append(lines, l)
	}
	return lines
}
