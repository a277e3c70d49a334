package obd

import (
	"maps"
	"sync"
)

// Counters count what the conversation did and what it threw away. They are safe
// for concurrent use.
type Counters struct {
	mu sync.Mutex
	n  Counts
}

// Counts is a moment's view of Counters.
type Counts struct {
	Requests   uint64           // put on the bus
	Values     uint64           // measured
	Resyncs    uint64           // missed prompts
	StrayBytes uint64           // that answered nothing
	Trouble    map[Cause]uint64 // what went wrong or was noticed, by cause
	OutOfRange uint64           // values refused
}

// Read returns the counts so far.
func (c *Counters) Read() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.n
	n.Trouble = maps.Clone(n.Trouble)
	return n
}

func (c *Counters) add(field *uint64, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*field += uint64(n)
}

func (c *Counters) stray(n int)  { c.add(&c.n.StrayBytes, n) }
func (c *Counters) resync()      { c.add(&c.n.Resyncs, 1) }
func (c *Counters) request()     { c.add(&c.n.Requests, 1) }
func (c *Counters) values(n int) { c.add(&c.n.Values, n) }
func (c *Counters) refused()     { c.add(&c.n.OutOfRange, 1) }

func (c *Counters) trouble(cause Cause) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n.Trouble == nil {
		c.n.Trouble = map[Cause]uint64{}
	}
	c.n.Trouble[cause]++
}
