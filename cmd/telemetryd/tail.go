package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"telemetryd/internal/command"
	"telemetryd/internal/publish"
	"telemetryd/ledger"
)

type tailCommand struct {
	VehicleID string `required:"" placeholder:"ID" help:"The vehicle to follow."`
	brokerFlags
	Verify bool          `help:"Check that nothing is missing; what is found is told at the end, with exit status 1 if something is."`
	For    time.Duration `placeholder:"DURATION" help:"End by itself after this long."`
}

// tail shows messages: a live table in a terminal, else JSON, a sample, event or status a
// line.
type tail struct {
	view *view // in a terminal
	out  io.Writer
	base string // what the vehicle's topics begin with

	mu     sync.Mutex
	ledger *ledger.Ledger // or nil
	broken int            // payloads that are no messages
}

// Run follows a vehicle from any machine.
func (c *tailCommand) Run(ctx context.Context, s streams) error {
	if !idPattern.MatchString(c.VehicleID) {
		return badVehicleID(c.VehicleID)
	}
	broker, credentials, err := c.judge()
	if err != nil {
		return err
	}
	if c.For > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, c.For)
		defer stop()
	}
	base := c.TopicPrefix + "/" + c.VehicleID + "/"
	t := &tail{out: s.out, base: base}
	if v := newView(s.out); v.tty {
		t.view = v
	}
	if c.Verify {
		t.ledger = &ledger.Ledger{}
	}
	err = publish.Follow(ctx, publish.Follower{
		Broker: broker, ClientID: "telemetryd-tail-" + strings.ToLower(rand.Text()[:8]), Credentials: credentials,
		Topic: base + "#", Keep: c.Verify, Message: t.message,
		Said: func(err error) { t.said(s.err, broker, err) },
	})
	if err != nil || !c.Verify {
		return err
	}
	return t.verdict(s.err)
}

// said tells of the connection.
func (t *tail) said(w io.Writer, b publish.Broker, err error) {
	line := fmt.Sprintf("telemetryd: connected to %s", b)
	if err != nil {
		line = fmt.Sprintf("telemetryd: %v; trying again", err)
	}
	if t.view != nil {
		w = t.view
	}
	fmt.Fprintln(w, line)
}

func (t *tail) message(topic string, payload []byte, retained bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kind := strings.TrimPrefix(topic, t.base) // a command may be called status
	switch kind {
	case "telemetry", "backfill", "events", "status":
	case "latest", "position": // only repeat what is in batches
		return
	default:
		t.other(kind, payload)
		return
	}
	m, err := ledger.Parse(payload)
	// A retained status is up to an hour old: what came since then and went before we were here
	// is not missing.
	if err == nil && t.ledger != nil && !retained {
		err = t.ledger.Add(m)
	}
	if err != nil {
		t.broken++
	}
	switch {
	case t.view != nil:
		above := ""
		if t.ledger != nil {
			above = summary(t.ledger.Report())
		}
		t.view.show(topic, m, err, above)
	case m.Samples != nil:
		for _, sample := range m.Samples {
			t.line(sample)
		}
	default:
		t.line(payload)
	}
}

// other shows a command or a response.
func (t *tail) other(kind string, payload []byte) {
	if t.view == nil {
		t.line(payload)
		return
	}
	line := fmt.Sprintf("%s %.100s", kind, payload)
	var r command.Response
	if json.Unmarshal(payload, &r) == nil && r.Command != "" {
		line = fmt.Sprintf("%s %s %s %s", kind, r.Command, r.State, r.Reason)
	}
	fmt.Fprintln(t.view, strings.TrimSpace(line))
}

// line prints JSON as one line; anything else is quoted, so that the output stays JSON.
func (t *tail) line(payload []byte) {
	var b bytes.Buffer
	if err := json.Compact(&b, payload); err != nil {
		quoted, _ := json.Marshal(string(payload)) // a string always marshals
		b.Reset()
		b.Write(quoted)
	}
	b.WriteByte('\n')
	_, _ = t.out.Write(b.Bytes())
}

// summary is a report in one line.
func summary(r ledger.Report) string {
	return fmt.Sprintf("%.2f %% complete: %d received, %d missing, %d named as lost, %d on the way, %d twice",
		r.Complete, r.Received, r.Missing, r.Named, r.OnItsWay, r.Duplicates)
}

// verdict tells what the ledger found; an error if something is missing.
func (t *tail) verdict(w io.Writer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.ledger.Report()
	fmt.Fprintf(w, "%s; %d clock corrections\n", summary(r), r.Corrections)
	for _, s := range r.Streams {
		for _, m := range s.Missing {
			fmt.Fprintf(w, "missing: seq %d to %d of stream %s\n", m.First, m.Last, s.StreamID)
		}
	}
	switch {
	case t.broken > 0:
		return fmt.Errorf("%d payloads are no messages of a vehicle", t.broken)
	case r.Received == 0:
		return errors.New("nothing arrived: is the vehicle connected, its id right, and may this user read its topics?")
	case r.Missing > 0:
		return fmt.Errorf("%d messages are missing", r.Missing)
	}
	return nil
}
