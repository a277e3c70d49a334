package hook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"telemetryd/internal/action"
	"telemetryd/internal/telemetry"
)

// bench is what hooks are told of and tell.
type bench struct {
	*Hooks
	mu     sync.Mutex
	took   time.Duration // that a program runs
	err    error
	output string
	began  time.Time
	ran    []string // when, and with what
	health []string
	log    *strings.Builder
}

// Run implements Runner: as the true one, without programs.
func (b *bench) Run(ctx context.Context, p action.Program) (action.Result, error) {
	select {
	case <-p.Unless:
		return action.Result{}, action.ErrUnwanted
	default:
	}
	b.mu.Lock()
	b.ran = append(b.ran, fmt.Sprint(time.Since(b.began), " ", p.Argv, " ", p.Env))
	took, err, output := b.took, b.err, b.output
	b.mu.Unlock()
	select {
	case <-time.After(took):
		return action.Result{Output: output}, err
	case <-ctx.Done():
		return action.Result{}, errors.New("it was ended")
	}
}

func (b *bench) Set(source string, c telemetry.Condition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.health = append(b.health, fmt.Sprintf("%s %s: %s. %s", source, c.Code, c.Title, c.Remedy))
}

func (b *bench) Clear(source, resolved string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.health = append(b.health, source+" clear")
}

// hooked runs hooks in fake time.
func hooked(t *testing.T, hooks []Hook, states map[string]State, body func(t *testing.T, b *bench, stop func())) *bench {
	t.Helper()
	b := &bench{log: &strings.Builder{}}
	synctest.Test(t, func(t *testing.T) {
		b.began = time.Now()
		b.Hooks = New(Config{Hooks: hooks, States: states, Env: []string{"TELEMETRYD_STATE_DIR=/s"}, Runner: b, Health: b, Log: slog.New(slog.NewTextHandler(b.log, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { b.Hooks.Run(ctx) })
		stop := func() {
			cancel()
			running.Wait()
		}
		synctest.Wait()
		body(t, b, stop)
		stop()
	})
	return b
}

func program(name string) action.Program { return action.Program{Argv: []string{name}} }

// An event runs the programs on its type, with the event as it leaves.
func TestEvent(t *testing.T) {
	b := hooked(t, []Hook{{On: "ignition_off", Program: program("off")}, {On: "emergency", Program: program("call")}, {On: "emergency", Program: program("light")}}, nil, func(t *testing.T, b *bench, _ func()) {
		b.Happened(telemetry.Event{Type: "emergency"}, []byte(`{"type":"emergency"}`))
		b.Happened(telemetry.Event{Type: "trip_start"}, []byte(`{"type":"trip_start"}`))
		b.Happened(telemetry.Event{Type: "ignition_off"}, []byte(strings.Repeat("x", mostJSON+1)))
		synctest.Wait()
	})
	if want := []string{
		`0s [call] [TELEMETRYD_STATE_DIR=/s TELEMETRYD_EVENT=emergency TELEMETRYD_EVENT_JSON={"type":"emergency"}]`,
		`0s [light] [TELEMETRYD_STATE_DIR=/s TELEMETRYD_EVENT=emergency TELEMETRYD_EVENT_JSON={"type":"emergency"}]`,
		`0s [off] [TELEMETRYD_STATE_DIR=/s TELEMETRYD_EVENT=ignition_off]`,
	}; !slices.Equal(b.ran, want) {
		t.Errorf("%q", b.ran)
	}
}

// A state runs a program when it has lasted long enough, once each time; not one that ended
// before, nor one that held at the start.
func TestState(t *testing.T) {
	var parked, online Switch
	online.Set(true)
	b := hooked(t, []Hook{{On: "parked", For: 10 * time.Minute, Program: program("poweroff")}, {On: "parked", Program: program("light")}, {On: "online", Program: program("sync")}},
		map[string]State{"parked": parked.State, "online": online.State}, func(t *testing.T, b *bench, _ func()) {
			b.Happened(telemetry.Event{Type: "parked"}, nil) // a state goes before an event of its name
			time.Sleep(time.Minute)
			parked.Set(true) // 1 min
			time.Sleep(9 * time.Minute)
			parked.Set(false)
			time.Sleep(time.Minute)
			parked.Set(true) // 11 min
			time.Sleep(3 * time.Hour)
			parked.Set(false)
			parked.Set(true) // 191 min
			time.Sleep(10*time.Minute + time.Second)
			online.Set(false)
			synctest.Wait()
			online.Set(true)
			synctest.Wait()
		})
	var ran []string
	for _, r := range b.ran {
		ran = append(ran, strings.Join(strings.Fields(r)[:2], " "))
	}
	if want := []string{"1m0s [light]", "11m0s [light]", "21m0s [poweroff]", "3h11m0s [light]", "3h21m0s [poweroff]", "3h21m1s [sync]"}; !slices.Equal(ran, want) {
		t.Errorf("%q", ran)
	}
}

// A state that ends while its program waits for the one before it starts nothing: a car that
// was started again is not switched off.
func TestStateEndsInQueue(t *testing.T) {
	var parked Switch
	b := hooked(t, []Hook{{On: "emergency", Program: program("slow")}, {On: "parked", For: time.Minute, Program: program("poweroff")}},
		map[string]State{"parked": parked.State}, func(t *testing.T, b *bench, _ func()) {
			b.took = 10 * time.Second
			parked.Set(true)
			time.Sleep(55 * time.Second)
			b.Happened(telemetry.Event{Type: "emergency"}, nil)
			time.Sleep(7 * time.Second) // the minute is over
			parked.Set(false)
			time.Sleep(time.Minute)
		})
	if len(b.ran) != 1 || !strings.Contains(b.ran[0], "slow") || b.health[0] != "hook 1 clear" || len(b.health) != 1 {
		t.Errorf("%q, %q", b.ran, b.health)
	}
}

// More than may wait are left out, counted, and told of once; nobody waits for them.
func TestOverflow(t *testing.T) {
	b := hooked(t, []Hook{{On: "harsh_braking", Program: program("log")}}, nil, func(t *testing.T, b *bench, _ func()) {
		b.took = time.Second
		for range 2 {
			began := time.Now()
			for range queued + 11 {
				b.Happened(telemetry.Event{Type: "harsh_braking"}, nil)
				synctest.Wait() // the first one runs
			}
			if time.Since(began) != 0 {
				t.Errorf("somebody waited %v", time.Since(began))
			}
			time.Sleep(time.Minute)
		}
	})
	dropped := testutil.ToFloat64(b.runs.WithLabelValues("harsh_braking", "dropped"))
	done := testutil.ToFloat64(b.runs.WithLabelValues("harsh_braking", "done"))
	if n := strings.Count(b.log.String(), "hooks are left out"); n != 2 || dropped != 20 || done != 2*(queued+1) || len(b.ran) != 2*(queued+1) {
		t.Errorf("told %d times, %v dropped, %v done, %d ran", n, dropped, done, len(b.ran))
	}
}

// A program that fails is a condition with what to do, until it works again.
func TestFailure(t *testing.T) {
	b := hooked(t, []Hook{{On: "x", Program: program("true")}, {On: "y", Program: program("/opt/y")}}, nil, func(t *testing.T, b *bench, _ func()) {
		fail := func(err error, output string) {
			b.mu.Lock()
			b.err, b.output = err, output
			b.mu.Unlock()
			b.Happened(telemetry.Event{Type: "y"}, nil)
			time.Sleep(time.Second)
		}
		_, missing := new(action.Runner).Run(t.Context(), action.Program{Argv: []string{"no-such-program"}})
		_, denied := new(action.Runner).Run(t.Context(), action.Program{Argv: []string{"/etc/passwd"}})
		fail(errors.New("/opt/y ended with exit status 1"), "Access denied\n")
		fail(missing, "")
		fail(denied, "")
		fail(errors.New("/opt/y did not end within 10s and was killed"), strings.Repeat("ü", 300))
		fail(nil, "")
	})
	want := []string{
		`hook 2 hook_failed: The hook on y failed: /opt/y ended with exit status 1; it said "Access denied". run it by hand`,
		`hook 2 hook_failed: The hook on y failed: start no-such-program: exec: "no-such-program": executable file not found in $PATH. is it installed`,
		`hook 2 hook_failed: The hook on y failed: start /etc/passwd: fork/exec /etc/passwd: permission denied. let the user of the daemon execute it: chmod +x`,
		`hook 2 hook_failed: The hook on y failed: /opt/y did not end within 10s and was killed; it said "` + strings.Repeat("ü", 200) + `...". why does it take so long?`,
		`hook 2 clear`,
	}
	if !slices.EqualFunc(b.health, want, strings.HasPrefix) {
		t.Errorf("%s", strings.Join(b.health, "\n"))
	}
}

// At a stop a running program has a moment to end, those that wait are not begun.
func TestStop(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{grace / 2: grace / 2, time.Minute: grace} {
		b := hooked(t, []Hook{{On: "x", Program: program("x")}}, nil, func(t *testing.T, b *bench, stop func()) {
			b.took = took
			b.Happened(telemetry.Event{Type: "x"}, nil)
			b.Happened(telemetry.Event{Type: "x"}, nil)
			synctest.Wait()
			began := time.Now()
			stop()
			if waited := time.Since(began); waited != want {
				t.Errorf("a program of %v: the stop took %v, want %v", took, waited, want)
			}
		})
		if len(b.ran) != 1 {
			t.Errorf("%q", b.ran)
		}
	}
}

// A unit that is stopped ends its programs as well, some of them before the daemon hears of
// it: that is no failure.
func TestStopOfUnit(t *testing.T) {
	b := hooked(t, []Hook{{On: "parked", Program: program("systemctl")}}, nil, func(t *testing.T, b *bench, stop func()) {
		b.err = errors.New("systemctl ended with signal: terminated")
		b.Happened(telemetry.Event{Type: "parked"}, nil)
		synctest.Wait() // it has ended
		time.Sleep(together / 2)
		stop()
	})
	if len(b.health) != 0 || !strings.Contains(b.log.String(), "hook ended early: the daemon stops") {
		t.Errorf("%q, %s", b.health, b.log)
	}
}
