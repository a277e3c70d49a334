package publish

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"
	"golang.org/x/net/proxy"
	"golang.org/x/sys/unix"
)

// Link counts what goes over the sockets to the brokers, below TLS: every connection and
// attempt at one, handshakes and pings included. It is safe for concurrent use; the zero
// Link has counted nothing.
type Link struct {
	sent, received               atomic.Uint64
	sentHeaders, receivedHeaders atomic.Uint64
}

// Traffic is what a Link has counted, in bytes.
type Traffic struct {
	Sent, Received uint64 // exactly what was written to and read from the sockets
	// The headers of TCP and IP, estimated: 52 bytes (IPv4, time stamps) for each segment
	// of 1400 bytes and for an acknowledgement of every other, and those that open and end
	// a connection. Acknowledgements that ride on data are few, and make it a little too
	// much; what is sent again on a lossy link is not seen, nor are attempts that nobody
	// answers.
	SentHeaders, ReceivedHeaders uint64
}

// Read returns what was counted so far.
func (l *Link) Read() Traffic {
	return Traffic{l.sent.Load(), l.received.Load(), l.sentHeaders.Load(), l.receivedHeaders.Load()}
}

const (
	segmentBytes = 1400 // payload of a full segment, as mobile links have them
	headerBytes  = 52   // IPv4 20, TCP 20, time stamps 12
	synBytes     = 60   // with the options that only the first segment has
)

// segments are the bytes of headers for n bytes one way, and of the acknowledgements the
// other way.
func segments(n int) (data, acks uint64) {
	full := uint64(n+segmentBytes-1) / segmentBytes
	return full * headerBytes, (full + 1) / 2 * headerBytes
}

// Sockets is what went over the sockets each way.
func (l *Link) Sockets() (sent, received uint64) { return l.sent.Load(), l.received.Load() }

// dial opens a connection that is counted.
func (l *Link) dial(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	l.sentHeaders.Add(synBytes + headerBytes + 2*headerBytes) // SYN, ACK; FIN, ACK
	l.receivedHeaders.Add(synBytes + 2*headerBytes)           // SYN; FIN, ACK
	return &counted{c, l}, nil
}

// counted is a socket whose bytes are counted.
type counted struct {
	net.Conn
	link *Link
}

// Read implements net.Conn.
func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.take(n)
	return n, err
}

// take counts n bytes that came.
func (c *counted) take(n int) {
	data, acks := segments(n)
	c.link.received.Add(uint64(n))
	c.link.receivedHeaders.Add(data)
	c.link.sentHeaders.Add(acks)
}

// Close implements net.Conn. What has arrived and nobody has read, as behind a certificate
// that is refused, counts, too; not what comes later still.
func (c *counted) Close() error {
	if s, ok := c.Conn.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { // fails on one that is closed
				if n, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ); err == nil {
					c.take(n)
				}
			})
		}
	}
	return c.Conn.Close()
}

// Write implements net.Conn.
func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	data, acks := segments(n)
	c.link.sent.Add(uint64(n))
	c.link.sentHeaders.Add(data)
	c.link.receivedHeaders.Add(acks)
	return n, err
}

// open is paho's own way to open a connection (netconn.go, websocket.go of v1.5.1), with
// sockets that are counted, and the same proxies from the environment: its WebSocket takes
// no dialer.
func (l *Link) open(u *url.URL, o mqtt.ClientOptions) (net.Conn, error) {
	ctx, done := context.WithTimeout(context.Background(), o.ConnectTimeout)
	defer done()
	socket := func(ctx context.Context, network, address string) (net.Conn, error) {
		return l.dial(ctx, o.Dialer, network, address)
	}
	switch u.Scheme {
	case "ws", "wss":
		d := websocket.Dialer{NetDialContext: socket, Proxy: http.ProxyFromEnvironment, TLSClientConfig: o.TLSConfig,
			HandshakeTimeout: o.ConnectTimeout, Subprotocols: []string{"mqtt"}}
		c, response, err := d.DialContext(ctx, u.String(), nil)
		if err != nil {
			if response != nil {
				return nil, fmt.Errorf("open the WebSocket: %w: the server answers %s", err, response.Status)
			}
			return nil, err
		}
		return &webSocket{Conn: c, messages: websocket.JoinMessages(c, "")}, nil
	}
	c, err := proxy.FromEnvironmentUsing(dialer{ctx, socket}).Dial("tcp", u.Host)
	if err != nil || u.Scheme != "mqtts" {
		return c, err
	}
	secure := tls.Client(c, o.TLSConfig)
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return secure, nil
}

// dialer makes a function what a proxy dials with.
type dialer struct {
	ctx  context.Context
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Dial implements proxy.Dialer.
func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d.dial(d.ctx, network, address)
}

// DialContext implements proxy.ContextDialer.
func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d.dial(ctx, network, address)
}

// webSocket is a WebSocket as a stream of bytes, a message for each Write (MQTT 3.1.1, 6).
type webSocket struct {
	*websocket.Conn
	messages io.Reader
	writing  sync.Mutex // paho's pings come beside its messages
}

// Read implements net.Conn.
func (w *webSocket) Read(b []byte) (int, error) { return w.messages.Read(b) }

// Write implements net.Conn.
func (w *webSocket) Write(b []byte) (int, error) {
	w.writing.Lock()
	defer w.writing.Unlock()
	if err := w.WriteMessage(websocket.BinaryMessage, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// SetDeadline implements net.Conn.
func (w *webSocket) SetDeadline(t time.Time) error {
	return errors.Join(w.SetReadDeadline(t), w.SetWriteDeadline(t))
}
