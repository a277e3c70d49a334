package modem

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"time"
)

// segment is how much of a stream a packet of a mobile link carries.
const segment = 1400

// Proxy is a link to one TCP service.
type Proxy struct {
	Address string // where to find the service

	open group
}

// NewProxy opens a link to the service at an address, on a free port of loopback.
func NewProxy(service string, l Link) (*Proxy, error) {
	// What this end of the connection would keep for itself is no part of the link.
	small := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if bad := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4*segment)
		}); bad != nil {
			return bad
		}
		return err
	}}
	listener, err := small.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for a link to %s: %w", service, err)
	}
	p := &Proxy{Address: listener.Addr().String()}
	p.open.add(func() { listener.Close() })
	p.open.running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", service)
			if err != nil {
				near.Close()
				continue
			}
			both := func() { near.Close(); far.Close() }
			p.open.add(both)
			p.open.running.Go(func() { pass(far, near, l); both() })
			p.open.running.Go(func() { pass(near, far, l); both() })
		}
	})
	return p, nil
}

// Close ends the link and all that goes over it.
func (p *Proxy) Close() { p.open.end() }

// pass copies until either side ends.
func pass(to, from net.Conn, l Link) {
	line := newLine(l)
	go func() {
		defer close(line.under)
		for {
			b := make([]byte, segment)
			n, err := from.Read(b)
			if n > 0 {
				time.Sleep(line.excess(n)) // the sender waits, as TCP makes it
				line.take(b[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	line.deliver(func(b []byte) error { _, err := to.Write(b); return err })
	to.Close()
	from.Close()
	line.drain()
}
