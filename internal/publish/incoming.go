package publish

import (
	"encoding/binary"
	"errors"
	"net"
	"net/url"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// mostIncoming is how much of a message from the broker is read into memory, topic included.
// It is more than our own status, which is read back, and than a command on the longest of
// topics, 64 KiB.
const mostIncoming = 80 << 10

// cut makes connections from which no large packet comes.
func cut(open mqtt.OpenConnectionFunc) mqtt.OpenConnectionFunc {
	return func(u *url.URL, o mqtt.ClientOptions) (net.Conn, error) {
		socket, err := open(u, o)
		if err != nil {
			return nil, err
		}
		return &cutter{Conn: socket}, nil
	}
}

// cutter is a connection from which no large packet comes. Whoever may write to a topic that
// we subscribe to could send 256 MB, which paho would read into memory as one; MQTT 3.1.1 has
// no way to tell the broker a limit. So of a PUBLISH the beginning is passed on, with a
// length that fits, and the rest is thrown away: it gets its PUBACK, and whoever takes the
// payload sees that it is too large.
type cutter struct {
	net.Conn
	ready []byte // to be passed on before anything is read
	pass  int    // bytes of the packet that follow them
	waste int    // bytes of it to be thrown away then
}

var (
	errTooLong = errors.New("a packet of the broker is longer than MQTT allows")
	errNoSuch  = errors.New("the broker sends a packet that is larger than any of its kind")
)

// Read passes on at most a packet.
func (c *cutter) Read(b []byte) (int, error) {
	if len(c.ready) == 0 && c.pass == 0 {
		if err := c.begin(); err != nil {
			return 0, err
		}
	}
	if len(c.ready) > 0 {
		n := copy(b, c.ready)
		c.ready = c.ready[n:]
		return n, nil
	}
	n, err := c.Conn.Read(b[:min(len(b), c.pass)])
	c.pass -= n
	return n, err
}

// begin reads the head of a packet, after the rest of the one before.
func (c *cutter) begin() error {
	var scrap [4 << 10]byte
	for c.waste > 0 {
		n, err := c.Conn.Read(scrap[:min(len(scrap), c.waste)])
		c.waste -= n
		if err != nil {
			return err
		}
	}
	// 2.2: the type, and the remaining length in seven bits a byte.
	head := make([]byte, 0, fixedHeader)
	for {
		n, err := c.Conn.Read(scrap[:1])
		if n == 1 {
			head = append(head, scrap[0])
		}
		if n == 1 && len(head) > 1 && scrap[0] < 0x80 {
			break
		}
		if err != nil {
			return err
		}
		if len(head) == fixedHeader {
			return errTooLong
		}
	}
	length := 0
	for i, b := range head[1:] {
		length |= int(b&0x7f) << (7 * i)
	}
	const publish = 3
	if length > mostIncoming {
		if head[0]>>4 != publish { // all others are small
			return errNoSuch
		}
		c.waste = length - mostIncoming
		length = mostIncoming
		head = binary.AppendUvarint(head[:1], uint64(length))
	}
	c.ready, c.pass = head, length
	return nil
}
