package publish

import (
	"crypto/tls"
	"net"
	"net/url"
	"os"
	"sync"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// In TLS 1.3 a client is through with the handshake before the server has judged its
// certificate. A broker that refuses it sends an alert and closes; what is written then
// may fail with a reset, though the alert that tells why waits to be read.

// alertConn is a connection whose first write fails with the alert, if there is one.
type alertConn struct {
	*tls.Conn
	once sync.Once
}

func (c *alertConn) Write(b []byte) (n int, err error) {
	first := false
	c.once.Do(func() { first = true })
	if n, err = c.Conn.Write(b); err != nil && first { // later, somebody else reads
		if _, alert := c.Read(make([]byte, 1)); isAlert(alert) {
			err = alert
		}
	}
	return n, err
}

// hearAlerts makes a client open connections of mqtts:// so. Through a proxy it is left
// to paho.
func hearAlerts(o *mqtt.ClientOptions) {
	if os.Getenv("all_proxy") != "" {
		return
	}
	o.SetCustomOpenConnectionFn(func(broker *url.URL, o mqtt.ClientOptions) (net.Conn, error) {
		c, err := tls.DialWithDialer(o.Dialer, "tcp", broker.Host, o.TLSConfig)
		if err != nil {
			return nil, err
		}
		return &alertConn{Conn: c}, nil
	})
}
