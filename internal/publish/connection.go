package publish

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

const (
	connectLimit = 15 * time.Second
	// handLimit is how long paho may hold a publish back at a loss.
	handLimit = 5 * time.Second
	// After keepAlive without a word, unless Limits tell otherwise, paho sends a PINGREQ, and
	// ends the connection when it is not answered within pingLimit. It looks every quarter of
	// keepAlive, so that just 5 s would be missed by a hair, and 2.5 s lost.
	keepAlive = 10 * time.Second
	pingLimit = 4900 * time.Millisecond
	// mostPatience is how much longer it may be on a link that is slow.
	mostPatience = 2 * time.Minute
	// ackLimit is how long a broker that answers PINGREQs may owe a PUBACK. A cluster that
	// fails over takes its time; what it has forgotten then comes on a new connection alone.
	ackLimit = time.Minute
	// causeLimit is how much later than a message paho may tell of a loss.
	causeLimit = time.Second
)

var (
	errNoPUBACK = errors.New("the broker answers, but acknowledges nothing")
	errUnheard  = errors.New("nothing comes back on a connection that was silent")
)

// connection is one MQTT connection from its CONNECT to its loss.
type connection struct {
	broker Broker
	client mqtt.Client
	lost   chan struct{} // closed at its loss
	once   sync.Once
	cause  error // why, set before lost closes
	parked bool  // the vehicle was, when it was made
	moved  atomic.Bool
}

func (c *connection) lose(err error) {
	c.once.Do(func() {
		c.cause = err
		close(c.lost)
	})
}

func (c *connection) isLost() bool {
	select {
	case <-c.lost:
		return true
	default:
		return false
	}
}

// dial connects to one broker. The last will is on its way with the connection.
func (p *publisher) dial(ctx context.Context, b Broker) (*connection, error) {
	c := &connection{broker: b, lost: make(chan struct{}), parked: p.isParked()}
	o, err := p.Credentials.options(b, p.ClientID, p.Link, p.sessions, func() time.Time { // the system's may be of 1970
		now, _ := p.Clock.Now()
		return now
	})
	if err != nil {
		return nil, err
	}
	o.SetCustomOpenConnectionFn(cut(o.CustomOpenConnectionFn)).
		SetCleanSession(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetOrderMatters(true). // of commands; no handler waits
		SetWriteTimeout(handLimit).
		SetPingTimeout(pingLimit+time.Duration(p.patience.Load())).
		SetKeepAlive(p.keepAlive(c.parked)).
		SetStore(noStore{}).
		SetBinaryWill(p.topic(p.VehicleID, statusOf), p.statusMessage(offlineWill), 1, !p.Limits.NoRetain).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { c.lose(err) })
	c.client = mqtt.NewClient(o)
	token := c.client.Connect()
	select {
	case <-token.Done():
		if err := token.Error(); err != nil {
			return nil, fmt.Errorf("connect to %s: %w", b, err)
		}
		return c, nil
	case <-time.After(connectLimit):
		err = errors.New("no answer in time")
	case <-ctx.Done():
		err = ctx.Err()
	}
	go c.client.Disconnect(0) // waits for the attempt to end by its own limits
	return nil, fmt.Errorf("connect to %s: %w", b, err)
}

// noStore is paho's memory of what is under way: none, for the buffer has it.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}

// options are what every client has in common. link counts what it carries; sessions, which may be nil, makes a TLS
// reconnection cheap; now, which may be nil, is what certificates are judged by.
func (c Credentials) options(b Broker, clientID string, link *Link, sessions tls.ClientSessionCache, now func() time.Time) (*mqtt.ClientOptions, error) {
	password, err := c.password()
	if err != nil {
		return nil, err
	}
	o := mqtt.NewClientOptions().
		AddBroker(b.String()).
		SetClientID(clientID).
		SetUsername(c.Username).
		SetPassword(password).
		SetProtocolVersion(4). // MQTT 3.1.1
		SetConnectTimeout(connectLimit).
		SetKeepAlive(keepAlive).
		SetPingTimeout(pingLimit).
		SetCustomOpenConnectionFn(func(u *url.URL, o mqtt.ClientOptions) (net.Conn, error) {
			socket, err := link.open(u, o)
			if err != nil {
				return nil, err
			}
			return newWire(socket), nil
		})
	if b.secure() {
		t, err := c.tlsConfig(sessions)
		if err != nil {
			return nil, err
		}
		t.ServerName, t.NextProtos, t.Time = cmp.Or(c.ServerName, b.url.Hostname()), c.ALPN, now
		o.SetTLSConfig(t)
	}
	return o, nil
}
