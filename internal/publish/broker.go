package publish

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
)

// Broker is where to connect.
type Broker struct{ url *url.URL }

// String returns the URL as a user writes it.
func (b Broker) String() string { return b.url.String() }

func (b Broker) secure() bool { return b.url.Scheme == "mqtts" || b.url.Scheme == "wss" }

var defaultPorts = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}

// ParseBroker reads a broker's URL; the port may be left out.
func ParseBroker(s string) (Broker, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Broker{}, fmt.Errorf("%q is no URL: %w", s, err)
	}
	port, ok := defaultPorts[u.Scheme]
	switch {
	case u.Scheme == "":
		return Broker{}, fmt.Errorf("%q has no scheme; allowed: mqtt://, mqtts://, ws://, wss://", s)
	case !ok:
		return Broker{}, fmt.Errorf("unknown scheme %q in %q; allowed: mqtt://, mqtts://, ws://, wss://", u.Scheme, s)
	case u.User != nil:
		return Broker{}, fmt.Errorf("the broker's URL has a user in it: give --username and --password-file")
	case u.Hostname() == "":
		return Broker{}, fmt.Errorf("%q names no host, as in %s://broker.example", s, u.Scheme)
	case strings.HasPrefix(u.Scheme, "mqtt") && (u.Path != "" && u.Path != "/" || u.RawQuery != ""):
		return Broker{}, fmt.Errorf("%q: nothing may follow host and port", s)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	return Broker{u}, nil
}

// Credentials are what the broker is shown, and how its own are checked. Secrets
// are files, read anew at each connection.
type Credentials struct {
	Username     string
	PasswordFile string
	CAFile       string
	CertFile     string
	KeyFile      string
	ServerName   string   // that TLS asks for and verifies; empty for the host of the URL
	ALPN         []string // protocols that TLS offers (RFC 7301); nil for none
}

func (c Credentials) password() (string, error) {
	if c.PasswordFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read the broker's password: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// tlsConfig returns the TLS settings. cache makes a reconnection cheap.
func (c Credentials) tlsConfig(cache tls.ClientSessionCache) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: cache}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the broker's CA: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", c.CAFile)
		}
	}
	if c.CertFile != "" || c.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load our certificate: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// Check reads the files, to find mistakes at start.
func (c Credentials) Check() error {
	if _, err := c.password(); err != nil {
		return err
	}
	_, err := c.tlsConfig(nil)
	return err
}
