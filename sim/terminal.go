package sim

import (
	"context"
	"errors"
	"time"
)

// terminal is a device's view of one client: bytes in the order and at the pace
// of a wire of some baud rate, in both directions.
type terminal struct {
	wire     wire
	byteTime time.Duration // 0: not paced
	in       chan []byte
	pending  []byte    // arrived, not yet taken
	readFree time.Time // when the last byte taken was wholly received
	sendFree time.Time // when the last byte sent has wholly left
}

var (
	// errGone ends the service of a client that has left.
	errGone = errors.New("the client has left")
	// errInterrupted is a byte that came while the device was busy.
	errInterrupted = errors.New("interrupted")
)

func newTerminal(w wire, baud int) *terminal {
	t := &terminal{wire: w, in: make(chan []byte, 16)}
	if baud > 0 {
		t.byteTime = 10 * time.Second / time.Duration(baud) // start bit, 8 bits, stop bit
	}
	return t
}

// receive reads from the wire until the client has left or ctx is done.
func (t *terminal) receive(ctx context.Context) {
	defer close(t.in)
	buf := make([]byte, 1024)
	for {
		n, err := t.wire.Read(buf)
		if n > 0 {
			select {
			case t.in <- append([]byte(nil), buf[:n]...):
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// next takes the next byte. It returns when the byte would have been received.
func (t *terminal) next(ctx context.Context) (byte, error) {
	for len(t.pending) == 0 {
		select {
		case b, ok := <-t.in:
			if !ok {
				return 0, errGone
			}
			t.pending = b
		case <-ctx.Done():
			return 0, errGone
		}
	}
	b := t.pending[0]
	t.pending = t.pending[1:]
	if t.byteTime > 0 {
		now := time.Now()
		if t.readFree.Before(now.Add(-t.byteTime)) {
			t.readFree = now
		}
		t.readFree = t.readFree.Add(t.byteTime)
		// Short waits are only kept when they matter: at the end of a command.
		if b == '\r' || t.readFree.Sub(now) > time.Millisecond {
			if err := t.wait(ctx, time.Until(t.readFree), false); err != nil {
				return 0, err
			}
		}
	}
	return b, nil
}

// wait lets d pass. If it may be interrupted, the first byte that arrives ends
// it and is swallowed; NUL and LF, which the ELM327 ignores, do not count.
func (t *terminal) wait(ctx context.Context, d time.Duration, interruptible bool) error {
	if interruptible && t.interrupted() {
		return errInterrupted
	}
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	in := t.in
	if !interruptible {
		in = nil
	}
	for {
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return errGone
		case b, ok := <-in:
			if !ok {
				return errGone
			}
			t.pending = append(t.pending, b...)
			if t.interrupted() {
				return errInterrupted
			}
		}
	}
}

// interrupted swallows the byte that interrupts, if there is one.
func (t *terminal) interrupted() bool {
	for len(t.pending) == 0 {
		select {
		case b, ok := <-t.in:
			if !ok {
				return false // the next wait finds the client gone
			}
			t.pending = b
		default:
			return false
		}
		t.skipIgnored()
	}
	t.skipIgnored()
	if len(t.pending) == 0 {
		return false
	}
	t.pending = t.pending[1:]
	return true
}

func (t *terminal) skipIgnored() {
	for len(t.pending) > 0 && (t.pending[0] == 0 || t.pending[0] == '\n') {
		t.pending = t.pending[1:]
	}
}

// send sends b at the pace of the wire. leaving, if not nil, is called with the
// time just before the last byte is handed over.
func (t *terminal) send(ctx context.Context, b []byte, interruptible bool, leaving func(time.Time)) error {
	if t.byteTime == 0 {
		return t.hand(b, leaving)
	}
	if now := time.Now(); t.sendFree.Before(now) {
		t.sendFree = now
	}
	chunk := max(1, int(time.Millisecond/t.byteTime))
	for len(b) > 0 {
		n := min(chunk, len(b))
		t.sendFree = t.sendFree.Add(time.Duration(n) * t.byteTime)
		if err := t.wait(ctx, time.Until(t.sendFree), interruptible); err != nil {
			return err
		}
		last := leaving
		if n < len(b) {
			last = nil
		}
		if err := t.hand(b[:n], last); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// echo returns what was just received. Its bytes have been going out while the
// others came in, so that they take no time of their own.
func (t *terminal) echo(b []byte) error { return t.hand(b, nil) }

func (t *terminal) hand(b []byte, leaving func(time.Time)) error {
	if leaving != nil {
		leaving(time.Now())
	}
	if _, err := t.wire.Write(b); err != nil {
		return errGone
	}
	return nil
}

// serve serves the clients of a line one after the other until ctx is done.
func serve(ctx context.Context, l line, baud int, session func(context.Context, *terminal)) {
	for ctx.Err() == nil {
		w, err := l.connect(ctx)
		if err != nil {
			select {
			case <-time.After(retryInterval):
			case <-ctx.Done():
			}
			continue
		}
		serveClient(ctx, w, baud, session)
	}
}

func serveClient(ctx context.Context, w wire, baud int, session func(context.Context, *terminal)) {
	ctx, cancel := context.WithCancel(ctx)
	t := newTerminal(w, baud)
	received := make(chan struct{})
	go func() {
		defer close(received)
		t.receive(ctx)
	}()
	session(ctx, t)
	cancel()
	_ = w.Close()
	<-received
}

// drain drops what arrives until the client has left or ctx is done.
func (t *terminal) drain(ctx context.Context) {
	for {
		select {
		case _, ok := <-t.in:
			if !ok {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// forget drops what has arrived and was not taken.
func (t *terminal) forget() {
	t.pending = nil
	for {
		select {
		case _, ok := <-t.in:
			if !ok {
				return
			}
		default:
			return
		}
	}
}
