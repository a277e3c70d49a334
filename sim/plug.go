package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// pluggable is a line that can be pulled out and comes back.
type pluggable interface {
	unplug(d time.Duration) error
	halfClose(d time.Duration) error
}

// pluggedPTY is a pseudo-terminal behind a link of a stable name, as
// /dev/serial/by-id has them. Pulled out it comes back as another one.
type pluggedPTY struct {
	link string

	mu     sync.Mutex
	inner  *ptyLine // nil while it is pulled out
	replug *time.Timer
	closed bool
}

func newPluggedPTY(link string) (*pluggedPTY, error) {
	l := &pluggedPTY{link: link}
	return l, l.plugIn()
}

// plugIn makes the pseudo-terminal and its link.
func (l *pluggedPTY) plugIn() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.inner != nil {
		return nil
	}
	inner, err := newPTYLine()
	if err != nil {
		return err
	}
	if err := os.Symlink(inner.slave, l.link); err != nil {
		return errors.Join(fmt.Errorf("name the pseudo-terminal: %w", err), inner.close())
	}
	l.inner = inner
	return nil
}

func (l *pluggedPTY) pullOut() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inner == nil {
		return nil
	}
	err := errors.Join(os.Remove(l.link), l.inner.close())
	l.inner = nil
	return err
}

func (l *pluggedPTY) unplug(d time.Duration) error {
	err := l.pullOut()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replug = time.AfterFunc(d, func() { _ = l.plugIn() })
	return err
}

// halfClose is the same on a line that has no halves.
func (l *pluggedPTY) halfClose(d time.Duration) error { return l.unplug(d) }

func (l *pluggedPTY) address() string { return "serial://" + l.link }

func (l *pluggedPTY) connect(ctx context.Context) (wire, error) {
	for {
		l.mu.Lock()
		inner := l.inner
		l.mu.Unlock()
		if inner != nil {
			if present, err := inner.present(); err == nil && present {
				return inner.connect(ctx)
			}
		}
		select {
		case <-time.After(presenceInterval):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *pluggedPTY) close() error {
	l.mu.Lock()
	l.closed = true
	if l.replug != nil {
		l.replug.Stop()
	}
	l.mu.Unlock()
	return l.pullOut()
}

// unplug closes connection and listener, and listens on the same port again after d.
func (l *tcpLine) unplug(d time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.away(d)
}

func (l *tcpLine) away(d time.Duration) error {
	if l.current != nil {
		_ = l.current.Close()
	}
	where := l.listener.Addr().String()
	err := l.listener.Close()
	l.replug = time.AfterFunc(d, func() {
		listener, err := net.Listen("tcp", where)
		if err != nil {
			return // somebody has taken the port: the adapter stays away
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.closed {
			_ = listener.Close()
			return
		}
		l.listener = listener
		l.accepter.Go(func() { l.accept(listener) })
	})
	return err
}

// halfClose ends what the adapter sends; after d the connection is closed.
func (l *tcpLine) halfClose(d time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.current.(*net.TCPConn)
	if !ok {
		return errors.New("no client is connected")
	}
	time.AfterFunc(d, func() { _ = c.Close() })
	return c.CloseWrite()
}

// stallWire holds back what is written while a fault says so, as a Bluetooth link
// does, and then hands it over at once.
type stallWire struct {
	wire
	faults *faults

	mu   sync.Mutex
	held []byte
}

func (w *stallWire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	end := w.faults.end("stall")
	if end.IsZero() && len(w.held) == 0 {
		return w.wire.Write(b)
	}
	if len(w.held) == 0 {
		time.AfterFunc(time.Until(end), w.release)
	}
	w.held = append(w.held, b...)
	return len(b), nil
}

func (w *stallWire) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = w.wire.Write(w.held) // a client that has left is found by the next read
	w.held = nil
}

// dropStale passes on what a wire remembers.
func (w *stallWire) dropStale(limit int) {
	if s, ok := w.wire.(staleDropper); ok {
		s.dropStale(limit)
	}
}

// linkOf is the link's path in "pty:/path/to/link"; empty when there is none.
func linkOf(where string) string {
	path, found := strings.CutPrefix(where, "pty:")
	if !found || !strings.HasPrefix(path, "/") {
		return ""
	}
	return path
}

// faultyLine is a line whose wires may stall.
type faultyLine struct {
	line
	faults *faults
}

func (l faultyLine) connect(ctx context.Context) (wire, error) {
	w, err := l.line.connect(ctx)
	if err != nil {
		return nil, err
	}
	return &stallWire{wire: w, faults: l.faults}, nil
}
