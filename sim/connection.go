package sim

import (
	"sync"
	"time"
)

// connection is the adapter's access to the vehicle's bus: whether its protocol is
// open, and what was put on the bus. It is the adapter's; traffic may be asked for
// from elsewhere.
type connection struct {
	car *car

	mu        sync.Mutex
	open      bool
	used      time.Time // last traffic, of a K-line the last before the keep-alives counted
	keepAlive time.Duration
	count     BusTraffic
}

const (
	defaultKeepAlive = 0x92 * keepAliveUnit // ATSW's default, 3 s
	keepAliveUnit    = 20480 * time.Microsecond
	kLineTimeout     = 5 * time.Second // P3max of ISO 14230: the ECU closes the session
)

// isOpen reports whether the protocol is open. A K-line session ends with the
// ignition, or after five seconds without traffic.
func (c *connection) isOpen(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle(now)
	if c.open && c.car.protocol.kLine() && (now.Sub(c.used) > kLineTimeout || !c.ignition(now)) {
		c.open = false
	}
	return c.open
}

func (c *connection) ignition(now time.Time) bool {
	return c.car.drive.at(c.car.clock.at(now)).ignition && c.car.faults.end("ignition_off").IsZero()
}

// settle counts the keep-alives sent since the last traffic. An adapter goes on
// sending them, whether or not the ECUs are awake.
func (c *connection) settle(now time.Time) {
	if !c.open || !c.car.protocol.kLine() || c.keepAlive <= 0 {
		return
	}
	if n := now.Sub(c.used) / c.keepAlive; n > 0 {
		c.count.KeepAlives += int64(n)
		c.used = c.used.Add(n * c.keepAlive)
	}
}

// opening counts an attempt to open the protocol; opened says that it worked.
func (c *connection) opening() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count.Openings++
}

func (c *connection) opened(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open, c.used = true, now
}

// request counts one request of the client.
func (c *connection) request(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle(now)
	c.count.Requests++
	c.used = now
}

func (c *connection) close(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle(now)
	c.open = false
}

func (c *connection) setKeepAlive(d time.Duration, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle(now)
	c.keepAlive = d
}

func (c *connection) traffic(now time.Time) BusTraffic {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle(now)
	return c.count
}
