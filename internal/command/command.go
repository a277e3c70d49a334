package command

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"telemetryd/internal/action"
	"telemetryd/internal/telemetry"
)

const (
	// MostPayload is how many bytes a message may have.
	MostPayload = 8 << 10
	// mostInbox messages wait to be judged, mostQueue commands to run.
	mostInbox = 64
	mostQueue = 16
	// mostAhead is how far an expiry may be away: as long its id has to be remembered.
	mostAhead = 24 * time.Hour
	// So many messages are judged, at once and a second: to check a signature takes a small Pi
	// some milliseconds. So many commands are accepted, and so many refusals answered and
	// written down; further ones are told together, every summaryEvery.
	judgeBurst, judgeRate   = 100, 100
	acceptBurst, acceptRate = 20, 5
	refuseBurst, refuseRate = 10, 1
	summaryEvery            = 10 * time.Second
)

// Builtin is a command that this program does itself. It checks its arguments; the output
// marshals to a JSON object.
type Builtin = func(ctx context.Context, args map[string]string) (output any, err error)

// Health is where conditions are reported.
type Health interface {
	Set(source string, c telemetry.Condition)
	Clear(source, resolved string)
}

// Config says what may run, and for whom.
type Config struct {
	VehicleID string
	Base      string            // topic whose payload names the command; below it, the last level does
	Topics    map[string]string // further topics, with the command that any message runs; empty: the payload names it
	Allow     map[string]Rule   // by name
	Builtins  map[string]Builtin
	PublicKey ed25519.PublicKey // nil: what is not signed is accepted
	Dir       string            // for ids and the audit log; made when it is not there
	// Now is the time, and whether it is known well enough to tell what has expired.
	Now func() (now time.Time, known bool)
	// Respond takes an answer; it must not wait.
	Respond func(payload []byte)
	Room    int            // bytes that an answer may have; 0: no limit
	Runner  *action.Runner // runs programs
	Health  Health
	Log     *slog.Logger
}

// Dispatcher takes messages and runs commands.
type Dispatcher struct {
	Config
	inbox chan message
	queue chan job

	judges, accepts, refuses *rate.Limiter
	memory                   *memory
	audit, refusals          *audit

	overflow   atomic.Int64   // messages that found the inbox full
	untold     map[string]int // refusals that were not answered, by code
	summaryDue <-chan time.Time
}

// message is what came on a topic.
type message struct {
	topic    string
	payload  []byte // nil when it is too large
	size     int
	retained bool
}

// job is a command that was accepted.
type job struct {
	request
	rule Rule
	argv []string // of a program
}

// New returns a Dispatcher that knows the ids of earlier runs.
func New(c Config) *Dispatcher {
	return &Dispatcher{
		Config: c, inbox: make(chan message, mostInbox), queue: make(chan job, mostQueue),
		judges: rate.NewLimiter(judgeRate, judgeBurst), accepts: rate.NewLimiter(acceptRate, acceptBurst), refuses: rate.NewLimiter(refuseRate, refuseBurst),
		memory: openMemory(c.Dir, c.Health), audit: &audit{dir: c.Dir, name: "audit.log", source: "command_log", health: c.Health}, refusals: &audit{dir: c.Dir, name: "refused.log", source: "refused_log", health: c.Health}, untold: map[string]int{},
	}
}

// Topics are the filters of MQTT to subscribe to; none when nothing may run.
func (d *Dispatcher) Topics() []string {
	if len(d.Allow) == 0 {
		return nil
	}
	return append([]string{d.Base, d.Base + "/+"}, slices.Sorted(maps.Keys(d.Config.Topics))...)
}

// Receive takes a message. It never waits: what is too much is dropped, and counted.
func (d *Dispatcher) Receive(topic string, payload []byte, retained bool) {
	m := message{topic, payload, len(payload), retained}
	if m.size > MostPayload {
		m.payload = nil
	}
	select {
	case d.inbox <- m:
	default:
		d.overflow.Add(1)
	}
}

// Run judges and runs commands until ctx ends; a program that is running is killed then.
func (d *Dispatcher) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() {
		for j := range d.queue {
			d.run(ctx, j)
		}
	})
	for ctx.Err() == nil {
		select {
		case m := <-d.inbox:
			d.judge(m)
		case <-d.summaryDue:
			d.summarise()
		case <-ctx.Done():
		}
		if d.summaryDue == nil && (len(d.untold) > 0 || d.overflow.Load() > 0) {
			d.summaryDue = time.After(summaryEvery)
		}
	}
	close(d.queue)
	running.Wait()
	d.summarise()
	d.audit.close()
	d.refusals.close()
	d.memory.close()
}

// judge accepts or refuses a message.
func (d *Dispatcher) judge(m message) {
	if !d.judges.Allow() {
		d.untold["too_many"]++
		return
	}
	r, err := d.read(m)
	if err == nil {
		err = d.accept(m, r)
	}
	if err != nil {
		d.refuse(m, r, err)
	}
}

// accept lets a command run, or tells why not.
func (d *Dispatcher) accept(m message, r request) error {
	rule, listed := d.Allow[r.command]
	if !listed {
		return refused("not_listed", "%s is not among the commands that the owner allows (commands: allow: in the settings)", r.command)
	}
	j := job{request: r, rule: rule}
	if rule.exec == nil {
		if d.Builtins[r.command] == nil {
			return refused("not_there", "%s cannot be run here: what it needs is off, or not in this version", r.command)
		}
	} else {
		argv, err := rule.argv(r.args)
		if err != nil {
			return err
		}
		j.argv = argv
	}
	if known, ok := d.memory.find(r.id); ok { // first: who repeats it learns what became of it, also after its expiry
		return repeated(known)
	}
	if err := d.inTime(r); err != nil {
		return err
	}
	// Only this goroutine fills the queue.
	if len(d.queue) == cap(d.queue) {
		return refused("too_many", "%d commands wait already", cap(d.queue))
	}
	if !d.accepts.Allow() {
		return refused("too_many", "too many commands: %d a second are accepted", acceptRate)
	}
	if r.id == "" {
		j.id = strings.ToLower(rand.Text()[:12]) // for those who read the answers
	} else if err := d.memory.begin(outcome{ID: r.id, Command: r.command, State: Accepted, At: d.now(), Until: r.until}, d.now()); err != nil {
		return err
	}
	d.tell(m.topic, j, Accepted, "", nil)
	d.queue <- j
	return nil
}

// inTime judges an expiry.
func (d *Dispatcher) inTime(r request) error {
	if r.expires.IsZero() {
		return nil
	}
	switch now, known := d.Now(); {
	case !known:
		return errUnsynced
	case !now.Before(r.until):
		return refused("expired", "it expired at %s; here it is %s", telemetry.FormatTime(r.expires), telemetry.FormatTime(now))
	case r.expires.Sub(now) > mostAhead:
		return refused("far_expiry", "it expires more than %v from now", mostAhead)
	}
	return nil
}

func (d *Dispatcher) now() time.Time {
	now, _ := d.Now()
	return now
}

// run runs one command to its end.
func (d *Dispatcher) run(ctx context.Context, j job) {
	var output any
	var err error
	switch late := d.inTime(j.request); {
	case ctx.Err() != nil:
		err = fmt.Errorf("the daemon stops: it did not run")
	case late != nil:
		err = fmt.Errorf("it did not run, for it waited too long: %w", late)
	case j.argv != nil:
		var result action.Result
		result, err = d.Runner.Run(ctx, action.Program{Argv: j.argv, Timeout: j.rule.timeout})
		output = programOutput{result.ExitCode, result.Output, result.Truncated}
	default:
		limited, cancel := context.WithTimeout(ctx, j.rule.limit())
		output, err = d.Builtins[j.command](limited, j.args)
		cancel()
	}
	state, reason := Done, ""
	if err != nil {
		state, reason = Failed, clip(err.Error())
	}
	d.Log.Info("a command ran", "command", j.command, "id", j.id, "state", state, "reason", reason)
	sent := d.tell("", j, state, reason, output)
	d.memory.end(j.id, state, reason, sent, d.now())
}

// programOutput is what a program left.
type programOutput struct {
	ExitCode  int    `json:"exit_code"` // -1: it did not exit by itself
	Output    string `json:"output"`    // standard output and error
	Truncated bool   `json:"truncated,omitempty"`
}

// refuse answers a message that does not run, while there are not too many of them.
func (d *Dispatcher) refuse(m message, r request, err error) {
	why := asRefusal(err)
	r.args = nil // nobody checked them
	if !d.refuses.Allow() {
		d.untold[why.code]++
		return
	}
	d.Log.Info("a command is refused", "topic", clip(m.topic), "command", r.command, "id", r.id, "reason", why.text)
	response := d.response(r, Refused, why.text)
	if why.became != nil {
		response.Became = &Became{why.became.State, why.became.Reason, telemetry.FormatTime(why.became.At)}
		response.Output = orEmpty(why.became.output)
	}
	d.send(response)
	d.refusals.write(d.line(m.topic, r, Refused, why.text))
}

// summarise tells of the refusals that were not answered one by one.
func (d *Dispatcher) summarise() {
	d.summaryDue = nil
	if n := d.overflow.Swap(0); n > 0 {
		d.untold["too_many"] += int(n)
	}
	if len(d.untold) == 0 {
		return
	}
	n := 0
	for _, of := range d.untold {
		n += of
	}
	why := fmt.Sprintf("%d messages more were refused: too many to answer each", n)
	d.Log.Warn("messages on the topics of commands are refused", "count", n, "by", d.untold)
	response := d.response(request{}, Refused, why)
	response.Output = struct {
		Refused map[string]int `json:"refused"`
	}{d.untold}
	d.send(response)
	line := d.line("", request{}, Refused, why)
	line.Count = d.untold
	d.refusals.write(line)
	d.untold = map[string]int{}
}
