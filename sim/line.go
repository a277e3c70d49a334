package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"go.bug.st/serial"
)

// line is the device's end of a cable into which clients plug, one at a time.
type line interface {
	// address is what a client opens.
	address() string
	// connect waits for a client and returns its wire. The wire of the client
	// before must be closed.
	connect(ctx context.Context) (wire, error)
	close() error
}

// wire carries bytes to and from one client. Read ends with an error when the
// client has left; Close frees a blocked Read. A fault can be wrapped around it.
type wire interface {
	io.ReadWriteCloser
}

// staleDropper is a wire that remembers what its client does not read.
type staleDropper interface {
	// dropStale throws away what has waited for the client when it is limit bytes
	// or more.
	dropStale(limit int)
}

const (
	writeTimeout  = time.Second // a client that takes nothing for so long is behind
	retryInterval = 500 * time.Millisecond
)

func newLine(ctx context.Context, where string) (line, error) {
	switch where {
	case "pty":
		return newPTYLine()
	case "pipe":
		return newInsideLine(), nil
	}
	if link := linkOf(where); link != "" {
		return newPluggedPTY(link)
	}
	u, err := url.Parse(where)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", where, err)
	}
	switch {
	case u.Scheme == "tcp" && u.Host != "":
		return newTCPLine(ctx, u.Host)
	case u.Scheme == "serial" && u.Path != "":
		return newSerialLine(u)
	}
	return nil, fmt.Errorf("listen on %q: want pty, pty:/path/of/a/link, tcp://host:port, serial:///dev/name?baud=rate or off", where)
}

// tcpLine is a listener. A new client takes the place of the one before, as its
// adapter would otherwise be lost to a client that vanished.
type tcpLine struct {
	listener net.Listener
	clients  chan net.Conn
	accepter sync.WaitGroup
	mu       sync.Mutex
	current  net.Conn // the last accepted
	replug   *time.Timer
	closed   bool
}

func newTCPLine(ctx context.Context, host string) (*tcpLine, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", host)
	if err != nil {
		return nil, err // net.OpError names operation and address
	}
	l := &tcpLine{listener: listener, clients: make(chan net.Conn, 1)}
	l.accepter.Go(func() { l.accept(listener) })
	return l, nil
}

func (l *tcpLine) accept(listener net.Listener) {
	for {
		c, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files, a client gone already
			time.Sleep(10 * time.Millisecond)
			continue
		}
		l.mu.Lock()
		if l.current != nil {
			_ = l.current.Close()
		}
		l.current = c
		l.mu.Unlock()
		select {
		case <-l.clients: // closed above, before anyone served it
		default:
		}
		l.clients <- c // only this goroutine sends: there is room
	}
}

func (l *tcpLine) address() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return "tcp://" + l.listener.Addr().String()
}

func (l *tcpLine) connect(ctx context.Context) (wire, error) {
	select {
	case c := <-l.clients:
		return deadlineWire{c}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *tcpLine) close() error {
	l.mu.Lock()
	l.closed = true
	if l.replug != nil {
		l.replug.Stop()
	}
	err := l.listener.Close()
	if errors.Is(err, net.ErrClosed) { // it is unplugged
		err = nil
	}
	l.mu.Unlock()
	l.accepter.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current != nil {
		_ = l.current.Close()
	}
	return err
}

// deadlineWire gives up writing to a client that takes nothing.
type deadlineWire struct {
	io.ReadWriteCloser
}

func (w deadlineWire) Write(b []byte) (int, error) {
	if d, ok := w.ReadWriteCloser.(interface{ SetWriteDeadline(time.Time) error }); ok {
		if err := d.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return 0, err
		}
	}
	return w.ReadWriteCloser.Write(b)
}

// serialLine is a real serial port, at whose other end a client is or is not:
// that cannot be seen. It is opened again when it comes back.
type serialLine struct {
	path string
	baud int
}

func newSerialLine(u *url.URL) (*serialLine, error) {
	l := &serialLine{path: u.Path, baud: 38400}
	if s := u.Query().Get("baud"); s != "" {
		baud, err := strconv.Atoi(s)
		if err != nil || baud <= 0 {
			return nil, fmt.Errorf("serial port %s: %q is no baud rate", u.Path, s)
		}
		l.baud = baud
	}
	return l, nil
}

func (l *serialLine) address() string {
	return "serial://" + l.path + "?baud=" + strconv.Itoa(l.baud)
}

func (l *serialLine) connect(ctx context.Context) (wire, error) {
	for {
		if p, err := serial.Open(l.path, &serial.Mode{BaudRate: l.baud}); err == nil {
			return serialWire{p}, nil
		}
		select {
		case <-time.After(retryInterval):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *serialLine) close() error { return nil }

// serialWire frees a blocked Write at Close: the port has no write deadline.
type serialWire struct {
	serial.Port
}

func (w serialWire) Write(b []byte) (int, error) {
	full := time.AfterFunc(writeTimeout, func() { _ = w.ResetOutputBuffer() })
	defer full.Stop()
	return w.Port.Write(b)
}
