package main

import (
	"bytes"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// link is the road between daemon and broker. It passes MQTT on packet by packet, and
// tells books what the broker acknowledged. At most one crossing is under way to the
// broker, so that acknowledgements are noted in the order in which the broker gave them.
type link struct {
	t      testing.TB
	broker string
	books  *books
	l      net.Listener
	ended  sync.WaitGroup

	mu     sync.Mutex
	hole   bool         // what comes is accepted and thrown away
	rate   int          // bytes a second towards the broker; 0 for no limit
	cutIn  map[byte]cut // the next packet of this type is cut, and the connection with it
	cuts   int          // that were made
	newest *crossing    // nil before the first
	all    map[*crossing]bool
}

// cut says after which part of a packet, 0 to 1, the connection ends.
type cut struct{ after float64 }

// crossing is one connection over the link.
type crossing struct {
	*link
	near net.Conn // the daemon
	far  net.Conn // the broker
	done chan struct{}

	mu    sync.Mutex
	dead  bool // bytes were swallowed: nothing may pass any more
	under map[uint16]*packets.PublishPacket
}

func newLink(t testing.TB, broker string, b *books) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{t: t, broker: broker, books: b, l: listener, cutIn: map[byte]cut{}, all: map[*crossing]bool{}}
	l.ended.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			_ = near.(*net.TCPConn).SetReadBuffer(16 << 10) // a slow link is felt at once
			l.mu.Lock()
			before := l.newest
			c := &crossing{link: l, near: near, done: make(chan struct{}), under: map[uint16]*packets.PublishPacket{}}
			l.newest = c
			l.all[c] = true
			l.mu.Unlock()
			l.ended.Go(func() { c.run(before) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		l.dropAll()
		l.ended.Wait()
	})
	return l
}

func (l *link) address() string { return l.l.Addr().String() }

// dig begins a black hole, and fill ends it. Connections whose bytes it swallowed end with
// it or, as behind a router that has forgotten them, stay silent until the daemon gives up.
func (l *link) dig() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hole = true
}

func (l *link) fill(silent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hole = false
	for c := range l.all {
		if !silent && c.isDead() {
			c.near.Close()
		}
	}
}

func (l *link) slow(rate int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = rate
}

// cutNext cuts the next packet of a type.
func (l *link) cutNext(kind byte, c cut) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cutIn[kind] = c
}

// good ends all that is wrong with the link, and connections that it has spoilt.
func (l *link) good() {
	l.mu.Lock()
	clear(l.cutIn)
	l.rate = 0
	l.mu.Unlock()
	l.fill(false)
}

func (l *link) dropAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.all {
		c.near.Close()
	}
}

func (l *link) cutsMade() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cuts
}

// run passes packets on until either side ends.
func (c *crossing) run(before *crossing) {
	defer func() {
		c.near.Close()
		close(c.done)
		c.link.mu.Lock()
		delete(c.all, c)
		c.link.mu.Unlock()
	}()
	if before != nil { // the daemon has left it, and only what the broker still says is awaited
		before.near.Close()
		<-before.done
	}
	if !c.swallows() {
		far, err := net.Dial("tcp", c.broker)
		if err != nil {
			return
		}
		c.far = far
		defer far.Close()
	}
	var answers sync.WaitGroup
	if c.far != nil {
		answers.Go(c.down)
	}
	c.up()
	c.near.Close()
	if c.far != nil { // acknowledgements that are on their way count, too
		_ = c.far.(*net.TCPConn).CloseWrite()
		_ = c.far.SetReadDeadline(time.Now().Add(10 * time.Second))
	}
	answers.Wait()
}

// up passes on what the daemon sends.
func (c *crossing) up() {
	for {
		p, err := packets.ReadPacket(c.near)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := p.Write(&b); err != nil {
			c.t.Errorf("link: %v", err)
			return
		}
		c.pace(b.Len())
		if c.swallows() {
			continue
		}
		kind := byte(0)
		if m, ok := p.(*packets.PublishPacket); ok && m.Qos == 1 {
			kind = packets.Publish
			c.mu.Lock()
			c.under[m.MessageID] = m
			c.mu.Unlock()
		}
		whole := c.cutOff(kind, &b)
		if _, err := c.far.Write(b.Bytes()); err != nil || !whole {
			return
		}
	}
}

// down passes on what the broker sends, and notes it before.
func (c *crossing) down() {
	for {
		p, err := packets.ReadPacket(c.far)
		if err != nil {
			break
		}
		kind := byte(0)
		if ack, ok := p.(*packets.PubackPacket); ok {
			kind = packets.Puback
			c.mu.Lock()
			m := c.under[ack.MessageID]
			delete(c.under, ack.MessageID)
			c.mu.Unlock()
			if m == nil {
				c.t.Errorf("link: the broker acknowledged packet %d, which it was not sent", ack.MessageID)
				continue
			}
			c.books.acknowledged(m.TopicName, m.Payload)
		}
		if c.swallows() {
			continue
		}
		var b bytes.Buffer
		_ = p.Write(&b) // into memory
		whole := c.cutOff(kind, &b)
		_, _ = c.near.Write(b.Bytes()) // when it is gone, more acknowledgements may come nevertheless
		if !whole {
			c.near.Close()
		}
	}
	if !c.isDead() {
		c.near.Close()
	}
}

// swallows reports whether what is on its way is lost; then all that follows is, too.
func (c *crossing) swallows() bool {
	c.link.mu.Lock()
	hole := c.hole
	c.link.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = c.dead || hole
	return c.dead
}

func (c *crossing) isDead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

// cutOff shortens a packet whose turn it is to be cut.
func (c *crossing) cutOff(kind byte, b *bytes.Buffer) (whole bool) {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	how, ok := c.cutIn[kind]
	if !ok {
		return true
	}
	delete(c.cutIn, kind)
	c.cuts++
	b.Truncate(int(how.after * float64(b.Len())))
	return false
}

// pace waits as long as so many bytes take.
func (c *crossing) pace(n int) {
	for n > 0 {
		c.link.mu.Lock()
		rate := c.rate
		c.link.mu.Unlock()
		if rate == 0 {
			return
		}
		part := min(n, max(1, rate/20))
		time.Sleep(time.Duration(part) * time.Second / time.Duration(rate)) // it is the link that waits
		n -= part
	}
}
