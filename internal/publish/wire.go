package publish

import (
	"bufio"
	"net"
	"sync"
	"time"
)

const (
	// writeLimit is how long the network may take no bytes before the connection counts as
	// lost.
	writeLimit = 5 * time.Second
	// mostGathered bounds the bytes that wait for the network; pieceBytes go at once, so
	// that a slow link has writeLimit for each.
	mostGathered = 64 << 10
	pieceBytes   = 8 << 10
	// lastWords is how long is read what the other side said before writing to it failed.
	lastWords = 500 * time.Millisecond
	// lastBytes is how long they may take to leave when the connection is closed.
	lastBytes = 100 * time.Millisecond
)

// wire is a connection that gathers: paho reads a PUBACK in three parts and writes each
// message by itself, which are as many system calls. What it writes while the network takes
// what was before leaves together. So writing waits for the network only when there is a
// lot, and a PINGREQ never does: paho would not notice that no PINGRESP comes.
type wire struct {
	net.Conn
	in *bufio.Reader

	mu      sync.Mutex
	changed *sync.Cond
	out     []byte
	err     error // of writing
	closing bool
	flushed chan struct{} // closed when nothing is written any more
}

func newWire(c net.Conn) *wire {
	w := &wire{Conn: c, in: bufio.NewReader(c), flushed: make(chan struct{})}
	w.changed = sync.NewCond(&w.mu)
	go w.flush() // until Close
	return w
}

// Read returns what has come; after a failure to write, that one.
func (w *wire) Read(b []byte) (int, error) {
	n, err := w.in.Read(b)
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.err != nil && !isAlert(err) { // an alert tells more
			err = w.err
		}
	}
	return n, err
}

// Write takes bytes that will leave soon. An error may be of an earlier Write.
func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.out) >= mostGathered && w.err == nil && !w.closing {
		w.changed.Wait()
	}
	switch {
	case w.err != nil:
		return 0, w.err
	case w.closing:
		return 0, net.ErrClosed
	}
	w.out = append(w.out, b...)
	w.changed.Broadcast()
	return len(b), nil
}

// SetWriteDeadline does nothing: flush has deadlines of its own.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// Close ends the connection, after what was written last.
func (w *wire) Close() error {
	w.mu.Lock()
	w.closing = true
	w.changed.Broadcast()
	w.mu.Unlock()
	select {
	case <-w.flushed:
	case <-time.After(lastBytes):
	}
	return w.Conn.Close()
}

// flush hands over what was written until the connection is closed.
func (w *wire) flush() {
	defer close(w.flushed)
	var empty []byte
	for {
		out, ok := w.take(empty)
		if !ok {
			return
		}
		for rest := out; len(rest) > 0; {
			piece := rest[:min(len(rest), pieceBytes)]
			err := w.Conn.SetWriteDeadline(time.Now().Add(writeLimit))
			if err == nil {
				_, err = w.Conn.Write(piece)
			}
			if err != nil {
				w.fail(err)
				return
			}
			rest = rest[len(piece):]
		}
		empty = out[:0]
	}
}

// take waits for bytes to write, and leaves an empty slice for further ones; not ok when
// there are none and the connection is closing.
func (w *wire) take(empty []byte) ([]byte, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.out) == 0 && !w.closing {
		w.changed.Wait()
	}
	out := w.out
	w.out = empty
	w.changed.Broadcast()
	return out, len(out) > 0
}

// fail makes both directions end, once what the other side said last is read: a broker that
// refuses our certificate sends an alert after the handshake (TLS 1.3), and writing to it may
// fail before that is read.
func (w *wire) fail(err error) {
	w.mu.Lock()
	w.err = err
	w.changed.Broadcast()
	w.mu.Unlock()
	_ = w.Conn.SetReadDeadline(time.Now().Add(lastWords))
}
