package obd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"telemetryd/internal/port"
)

// wire is what the conversation needs of a port.
type wire interface {
	Receive(ctx context.Context, timeout time.Duration) (port.Chunk, error)
	Write(b []byte, timeout time.Duration) error
	SetBaud(baud int) error
}

// errTimeout is a request whose prompt did not come.
var errTimeout = errors.New("no prompt in time")

// prompt ends every answer of an adapter.
const prompt = '>'

const (
	writeLimit = 2 * time.Second
	// maxAnswer bounds what is kept of one answer; an adapter that sends more
	// without a prompt is in a monitoring mode or is none.
	maxAnswer = 64 << 10
	// quiet is how long nothing may come before the line counts as silent.
	quiet = 50 * time.Millisecond
	// interruptLimit is how long an interrupted adapter may take to its prompt.
	interruptLimit = 100 * time.Millisecond
	identifyLimit  = time.Second
	// searchLimit is for an adapter that says that it looks for the bus.
	searchLimit = 15 * time.Second
	// mayExplain is how much of an answer is looked at for such words.
	mayExplain = 256
	// pendingLimit is for an ECU that says that it works on it (P2*max of ISO 14229-2).
	pendingLimit = 5500 * time.Millisecond
)

// conversation asks an adapter one thing at a time.
type conversation struct {
	wire     wire
	counters *Counters
	licence  string // the one text that may be sent though it does not only read
}

// reply is what came between a request and the prompt.
type reply struct {
	raw     []byte
	arrived time.Duration // of the last byte that is no line end and no prompt
	chunks  []arrival     // in which raw came
}

// arrival is when the bytes up to end came.
type arrival struct {
	end int
	at  time.Duration
}

// at is when the last byte of a line came that ends at end.
func (r reply) at(end int) time.Duration {
	for _, c := range r.chunks {
		if c.end >= end {
			return c.at
		}
	}
	return r.arrived
}

// send writes without waiting for an answer. Bytes that lie on the line from
// before belong to no request; they are thrown away and counted.
func (c *conversation) send(ctx context.Context, text string) error {
	if !mayBeSent(text) && (text != c.licence || text == "") {
		return errWrites
	}
	for {
		chunk, err := c.receive(ctx, 0)
		if err != nil {
			return err
		}
		if len(chunk.Data) == 0 {
			return c.wire.Write([]byte(text), writeLimit)
		}
		c.counters.stray(len(chunk.Data))
	}
}

// receive waits up to limit for bytes.
func (c *conversation) receive(ctx context.Context, limit time.Duration) (port.Chunk, error) {
	if err := ctx.Err(); err != nil {
		return port.Chunk{}, err
	}
	chunk, err := c.wire.Receive(ctx, limit)
	if err != nil && ctx.Err() == nil {
		err = &endedError{err}
	}
	return chunk, err
}

// ask sends a request and collects its answer up to the prompt. It returns
// errTimeout when the prompt does not come within limit, or later where adapter or
// ECU say that they need longer: the adapter has to be brought back in step then.
func (c *conversation) ask(ctx context.Context, request string, limit time.Duration) (reply, error) {
	if err := c.send(ctx, request+"\r"); err != nil {
		return reply{}, err
	}
	return c.collect(ctx, limit)
}

func (c *conversation) collect(ctx context.Context, limit time.Duration) (reply, error) {
	began := time.Now()
	var r reply
	for {
		chunk, err := c.receive(ctx, limit-time.Since(began))
		if err != nil {
			return r, err
		}
		if len(chunk.Data) == 0 {
			if time.Since(began) >= limit {
				return r, errTimeout
			}
			continue
		}
		answer, rest, whole := bytes.Cut(chunk.Data, []byte{prompt})
		if bytes.ContainsFunc(answer, func(b rune) bool { return b > ' ' && b <= '~' }) {
			r.arrived = chunk.Arrived
		}
		r.raw = append(r.raw, answer...)
		r.chunks = append(r.chunks, arrival{len(r.raw), chunk.Arrived})
		if whole {
			c.counters.stray(len(rest))
			return r, nil
		}
		if len(r.raw) > maxAnswer {
			return r, errTimeout
		}
		if longer := patience(r.raw[:min(len(r.raw), mayExplain)]); longer > limit {
			began, limit = time.Now(), longer
		}
	}
}

// patience is how long to wait on after these bytes: longer than usual when they say
// that the adapter looks for the bus or that an ECU asks for time.
func patience(b []byte) time.Duration {
	switch {
	case bytes.Contains(b, []byte("SEARCH")), bytes.Contains(b, []byte("BUS IN")):
		return searchLimit
	case bytes.Contains(b, []byte("7F")):
		return pendingLimit
	}
	return 0
}

// endedError is a port that is gone.
type endedError struct{ cause error }

func (e *endedError) Error() string { return fmt.Sprintf("the connection ended: %v", e.cause) }
func (e *endedError) Unwrap() error { return e.cause }

// resync brings adapter and client back in step after a prompt was missed: one
// character interrupts what the adapter does (never CR: alone it repeats the last
// request), then ATI gives an answer that cannot be mistaken for a value.
func (c *conversation) resync(ctx context.Context) error {
	c.counters.resync()
	if err := c.send(ctx, " "); err != nil {
		return err
	}
	if _, err := c.collect(ctx, interruptLimit); err != nil && !errors.Is(err, errTimeout) {
		return err
	}
	if err := c.send(ctx, "ATI\r"); err != nil {
		return err
	}
	// A late answer to the request before may come first, with a prompt of its own.
	for range lateAnswers {
		r, err := c.collect(ctx, identifyLimit)
		if err != nil {
			return err
		}
		if banner(r.raw) != "" {
			return c.drain(ctx)
		}
	}
	return errTimeout
}

// lateAnswers bounds how many answers may precede that to ATI.
const lateAnswers = 4

// banner finds what an adapter calls itself; empty when it says nothing of it.
func banner(raw []byte) string {
	for line := range lines(raw) {
		if strings.Contains(line, "ELM") || strings.Contains(line, "STN") || strings.Contains(line, "OBD") {
			return line
		}
	}
	return ""
}

// drain waits until the line is silent.
func (c *conversation) drain(ctx context.Context) error {
	for began := time.Now(); time.Since(began) < identifyLimit; {
		chunk, err := c.receive(ctx, quiet)
		if err != nil {
			return err
		}
		if len(chunk.Data) == 0 {
			return nil
		}
		c.counters.stray(len(chunk.Data))
	}
	return errTimeout
}
