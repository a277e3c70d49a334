package sim

import (
	"context"
	"errors"
	"net"
)

// insideLine is a line within the process: for tests in which time is not the system's.
type insideLine struct {
	clients chan net.Conn
	closed  chan struct{}
}

func newInsideLine() *insideLine {
	return &insideLine{clients: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *insideLine) address() string { return "pipe" }

func (l *insideLine) connect(ctx context.Context) (wire, error) {
	select {
	case c := <-l.clients:
		return deadlineWire{c}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *insideLine) close() error {
	close(l.closed)
	return nil
}

// dial plugs a client in. It waits until the one before has left.
func (l *insideLine) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.clients <- far:
		return near, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// DialOBD connects to an adapter that listens on "pipe".
func (v *Vehicle) DialOBD(ctx context.Context) (net.Conn, error) {
	if v.adapter != nil {
		if l, ok := v.adapter.line.(*insideLine); ok {
			return l.dial(ctx)
		}
	}
	return nil, errors.New("the ELM327 does not listen on a pipe")
}
