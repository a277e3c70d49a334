package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"telemetryd/internal/command"
	"telemetryd/internal/publish"
)

// commandCommand sends commands to vehicles.
type commandCommand struct {
	Send sendCommand `cmd:"" default:"withargs" help:"Send a command and wait for its answer: exit status 0 when it is done, 1 when it failed, was refused or not answered. The word send may be left out."`
	Sign signCommand `cmd:"" help:"Print a signed command, for another program to send."`
}

// asked is what a vehicle is to do.
type asked struct {
	VehicleID string        `required:"" placeholder:"ID" help:"The vehicle."`
	Key       string        `placeholder:"FILE" help:"Private key to sign with, Ed25519, PEM: openssl genpkey -algorithm ed25519."`
	Expires   time.Duration `default:"30s" placeholder:"DURATION" help:"After this long the vehicle refuses it; 0 for never, which a signed one cannot have."`
	Name      string        `arg:"" help:"The command, as the owner of the vehicle listed it."`
	Args      []string      `arg:"" optional:"" sep:"none" placeholder:"NAME=VALUE" help:"Its arguments, as level=40."`
}

var argName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// request makes what is sent, under a new id.
func (a *asked) request(now time.Time) (id string, payload []byte, err error) {
	q := command.Request{ID: ulid.Make().String(), Command: a.Name, Args: map[string]string{}}
	if a.Expires > 0 {
		q.Expires = now.Add(a.Expires).UTC().Truncate(time.Second)
	}
	switch {
	case !idPattern.MatchString(a.VehicleID):
		return "", nil, badVehicleID(a.VehicleID)
	case !command.ValidName(a.Name):
		return "", nil, &usageError{fmt.Errorf("%q is no name for a command; allowed: 1 to 64 of A-Z a-z 0-9 _ -", a.Name)}
	case a.Expires < 0 || a.Expires > 24*time.Hour || a.Expires > 0 && a.Expires < time.Second:
		return "", nil, &usageError{fmt.Errorf("--expires: %v is not allowed; allowed: 1s to 24h, or 0 for never", a.Expires)}
	case a.Key != "" && a.Expires == 0:
		return "", nil, &usageError{errors.New("--expires: a signed command has to expire; allowed: 1s to 24h")}
	}
	for _, text := range a.Args {
		name, value, ok := strings.Cut(text, "=")
		if !ok || !argName.MatchString(name) {
			return "", nil, &usageError{fmt.Errorf("argument %q is not allowed; allowed: name=value", text)}
		}
		q.Args[name] = value
	}
	if a.Key == "" {
		payload, err = json.Marshal(q)
		return q.ID, payload, err
	}
	key, err := command.ReadPrivateKey(a.Key)
	if err != nil {
		return "", nil, &usageError{fmt.Errorf("--key: %w", err)}
	}
	token, err := q.Sign(key, a.VehicleID, now)
	return q.ID, []byte(token), err
}

type signCommand struct{ asked }

// Run prints a signed command.
func (c *signCommand) Run(s streams) error {
	if c.Key == "" {
		return &usageError{errors.New("--key is missing: the private key to sign with; make one: openssl genpkey -algorithm ed25519 -out command.key")}
	}
	_, payload, err := c.request(time.Now())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s\n", payload)
	return err
}

type sendCommand struct {
	asked
	brokerFlags
}

const (
	// sendAgain is how often a command is repeated until it is answered: it reaches a vehicle
	// only while that is connected.
	sendAgain = 5 * time.Second
	// answerWait is how long one that does not expire is waited for, lastAnswer how long after
	// the expiry the answer of one that was accepted.
	answerWait = 30 * time.Second
	lastAnswer = 10 * time.Second
)

// Run sends a command and waits for what becomes of it.
func (c *sendCommand) Run(ctx context.Context, s streams) error {
	broker, credentials, err := c.judge()
	if err != nil {
		return err
	}
	id, payload, err := c.request(time.Now())
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, cmp.Or(c.Expires, answerWait)+lastAnswer)
	defer stop()
	w := &awaited{id: id, streams: s, limit: cmp.Or(c.Expires, answerWait), answered: stop}
	late := time.AfterFunc(w.limit, w.late)
	defer late.Stop()
	base := c.TopicPrefix + "/" + c.VehicleID
	err = publish.Follow(ctx, publish.Follower{
		Broker: broker, ClientID: "telemetryd-command-" + strings.ToLower(id[len(id)-8:]), Credentials: credentials,
		Topic: base + "/response", Message: w.message, Said: w.said,
		Offer: &publish.Offer{Topic: base + "/command", Payload: payload, Every: sendAgain},
	})
	if err != nil {
		return err
	}
	return w.result(base)
}

// awaited is the answer to a command.
type awaited struct {
	streams
	id       string
	limit    time.Duration
	answered func()

	mu       sync.Mutex
	accepted bool
	done     bool
	err      error // of the command
	trouble  error // of the connection
}

// said tells of the connection.
func (w *awaited) said(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.trouble = err; err != nil {
		fmt.Fprintf(w.streams.err, "telemetryd: %v; trying again\n", err)
	}
}

// late ends the waiting for a command that nobody accepted in time.
func (w *awaited) late() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.accepted {
		w.answered()
	}
}

// message takes an answer.
func (w *awaited) message(_ string, payload []byte, _ bool) {
	var r struct {
		command.Response
		Output json.RawMessage `json:"output"`
	}
	if json.Unmarshal(payload, &r) != nil || r.ID != w.id {
		return // another's
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	state, reason := r.State, r.Reason
	if state == command.Refused && r.Became != nil { // that of an earlier repetition
		state, reason = r.Became.State, r.Became.Reason
	}
	switch {
	case w.done:
		return
	case w.accepted && state == command.Refused: // a repetition, as it has expired: the first runs
		return
	case state == command.Accepted:
		if !w.accepted {
			fmt.Fprintln(w.streams.err, "telemetryd: accepted")
		}
		w.accepted = true
		return
	case state == command.Refused:
		w.err = fmt.Errorf("refused: %s", reason)
	case state == command.Failed:
		w.err = fmt.Errorf("failed: %s", reason)
	}
	w.done = true
	if state != command.Refused && len(r.Output) > 0 && (state == command.Done || string(r.Output) != "{}") {
		fmt.Fprintf(w.out, "%s\n", r.Output)
	}
	w.answered()
}

// result is how it ended.
func (w *awaited) result(base string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.done:
		return w.err
	case w.accepted:
		return errors.New("it was accepted, but what became of it did not arrive in time; the vehicle's audit log tells")
	case w.trouble != nil:
		return fmt.Errorf("no answer: %w", w.trouble)
	}
	return fmt.Errorf("no answer within %v: is the vehicle connected, its id right, does its owner allow commands, may this user write %s/command and read %s/response, and may the vehicle read the one and write the other?", w.limit, base, base)
}
