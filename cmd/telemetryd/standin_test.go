package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// rules are what a broker allows. It ends the connection at what goes beyond.
type rules struct {
	serverName string // that TLS has to ask for
	alpn       string // that it has to offer; empty for any
	mutual     bool   // a client certificate is wanted

	username   string // that CONNECT has to have
	password   string
	clientID   int // bytes at the most
	keepAlive  int // seconds at the most; 0 for any
	leastAlive int // and at the least

	packet    int // bytes of a PUBLISH at the most
	topic     int // bytes
	slashes   int
	perSecond int // PUBLISH in any second; 0 for any
	inFlight  int // PUBLISH without PUBACK; 0 for any
	inBytes   int // and their bytes
	noRetain  bool
}

// standIn is a broker with the rules of another one: it looks at each packet on the wire
// and hands what keeps to them on to mosquitto.
type standIn struct {
	t       *testing.T
	rules   rules
	behind  string
	address string

	mu          sync.Mutex
	breaches    []string
	connections int
	largest     int // PUBLISH
	most        int // of them in flight
}

func newStandIn(t *testing.T, r rules, certificates *tls.Config, behind string) *standIn {
	t.Helper()
	s := &standIn{t: t, rules: r, behind: behind}
	config := certificates.Clone()
	if r.mutual {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if r.alpn != "" {
		config.NextProtos = []string{r.alpn}
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { s.serve(c.(*tls.Conn)) })
		}
	})
	t.Cleanup(func() { // the client has ended before: it was started later
		l.Close()
		serving.Wait()
	})
	return s
}

func (s *standIn) breach(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.breaches = append(s.breaches, fmt.Sprintf(format, args...))
}

// seen returns what was not allowed, each once, and how many connections there were.
func (s *standIn) seen() (breaches string, connections int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(s.breaches))), "; "), s.connections
}

// serve passes one connection on.
func (s *standIn) serve(near *tls.Conn) {
	defer near.Close()
	if err := near.Handshake(); err != nil {
		s.breach("TLS: %v", err)
		return
	}
	switch state := near.ConnectionState(); {
	case state.ServerName != s.rules.serverName:
		s.breach("TLS asks for %q", state.ServerName)
		return
	case state.NegotiatedProtocol != s.rules.alpn:
		s.breach("TLS without ALPN")
		return
	}
	far, err := net.Dial("tcp", s.behind)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer far.Close()
	s.mu.Lock()
	s.connections++
	s.mu.Unlock()
	w := &wire{standIn: s, under: map[uint16]int{}}
	var back sync.WaitGroup
	back.Go(func() { w.answer(near, far) })
	defer back.Wait()
	defer far.Close()
	for {
		p, err := packets.ReadPacket(near)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.t.Logf("stand-in: %v", err)
			}
			return
		}
		switch p := p.(type) {
		case *packets.ConnectPacket:
			err = s.rules.connect(p)
		case *packets.PublishPacket:
			err = w.publish(p)
		}
		if err != nil {
			s.breach("%v", err)
			return
		}
		if p.Write(far) != nil {
			return
		}
	}
}

func (r rules) connect(c *packets.ConnectPacket) error {
	switch {
	case c.Username != r.username:
		return fmt.Errorf("CONNECT of the user %q", c.Username)
	case string(c.Password) != r.password:
		return errors.New("CONNECT with a wrong password")
	case c.ClientIdentifier == "" || len(c.ClientIdentifier) > r.clientID:
		return fmt.Errorf("client id of %d bytes", len(c.ClientIdentifier))
	case r.keepAlive > 0 && int(c.Keepalive) > r.keepAlive || int(c.Keepalive) < r.leastAlive:
		return fmt.Errorf("keep-alive of %d s", c.Keepalive)
	case r.noRetain && c.WillRetain:
		return errors.New("retained will")
	}
	return r.topicOf(c.WillTopic)
}

func (r rules) topicOf(topic string) error {
	if len(topic) > r.topic || strings.Count(topic, "/") > r.slashes {
		return fmt.Errorf("topic %s", topic)
	}
	return nil
}

// wire is what was published on one connection.
type wire struct {
	*standIn
	mu     sync.Mutex
	recent []time.Time    // of the last second
	under  map[uint16]int // bytes without PUBACK, by packet identifier
	bytes  int
}

func (w *wire) publish(p *packets.PublishPacket) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	// 2.2.3: seven bits of the remaining length a byte.
	size := 2 + p.RemainingLength
	for n := p.RemainingLength; n > 127; n >>= 7 {
		size++
	}
	now := time.Now()
	w.recent = append(slices.DeleteFunc(w.recent, func(t time.Time) bool { return now.Sub(t) >= time.Second }), now)
	w.bytes += size - w.under[p.MessageID]
	w.under[p.MessageID] = size
	w.standIn.mu.Lock()
	w.largest, w.most = max(w.largest, size), max(w.most, len(w.under))
	w.standIn.mu.Unlock()
	r := w.rules
	switch {
	case p.Qos != 1:
		return fmt.Errorf("PUBLISH with QoS %d", p.Qos)
	case p.Retain && r.noRetain:
		return errors.New("retained PUBLISH")
	case size > r.packet:
		return errors.New("PUBLISH too large")
	case r.perSecond > 0 && len(w.recent) > r.perSecond:
		return fmt.Errorf("more than %d PUBLISH in a second", r.perSecond)
	case r.inFlight > 0 && len(w.under) > r.inFlight:
		return fmt.Errorf("more than %d PUBLISH in flight", r.inFlight)
	case r.inBytes > 0 && w.bytes > r.inBytes:
		return fmt.Errorf("more than %d bytes in flight", r.inBytes)
	}
	return r.topicOf(p.TopicName)
}

// away is how long answers take, as from a cloud.
const away = 40 * time.Millisecond

// answer passes on what the broker says.
func (w *wire) answer(near, far net.Conn) {
	type late struct {
		packets.ControlPacket
		due time.Time
	}
	under := make(chan late, 1000)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(under)
		for {
			p, err := packets.ReadPacket(far)
			if err != nil {
				return
			}
			under <- late{p, time.Now().Add(away)}
		}
	})
	defer reading.Wait()
	defer near.Close()
	for p := range under {
		time.Sleep(time.Until(p.due)) // the way back
		if ack, ok := p.ControlPacket.(*packets.PubackPacket); ok {
			w.acknowledged(ack.MessageID)
		}
		_ = p.Write(near) // or it has gone; what the broker says then is nobody's
	}
}

func (w *wire) acknowledged(id uint16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes -= w.under[id]
	delete(w.under, id)
}
