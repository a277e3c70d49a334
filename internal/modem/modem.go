// Package modem is a mobile link for tests and benchmarks: a rate, a delay and a queue of
// bounded size, each way. [Proxy] is the link for one TCP service and needs nothing; [Mirror]
// is one for the kernel's own packets, with its TCP on both sides, and needs the right to
// make a network device.
//
// It promises that bytes leave in order and never sooner than the link allows. It is no part
// of the daemon.
package modem

import (
	"sync"
	"time"
)

// Link is what a link does to bytes, each way.
type Link struct {
	Rate      int           // bytes a second
	RoundTrip time.Duration // of the first bit, with nothing under way
	Queue     int           // bytes that wait for their turn at most
}

// line is one direction.
type line struct {
	Link
	free  time.Time // when all that was taken will have left
	under chan piece
}

type piece struct {
	bytes []byte
	due   time.Time
}

// mostUnder pieces may be under way; the queue's size is met before it.
const mostUnder = 1 << 14

func newLine(l Link) *line {
	return &line{Link: l, free: time.Now(), under: make(chan piece, mostUnder)}
}

// lasts is how long n bytes take to leave.
func (l *line) lasts(n int) time.Duration {
	return time.Duration(float64(n) / float64(l.Rate) * float64(time.Second))
}

// excess is how long it takes until n more bytes have room in the queue.
func (l *line) excess(n int) time.Duration {
	return time.Until(l.free) - l.lasts(l.Queue-n)
}

// take puts bytes into the queue.
func (l *line) take(b []byte) {
	if now := time.Now(); l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(l.lasts(len(b)))
	l.under <- piece{b, l.free.Add(l.RoundTrip / 2)}
}

// deliver hands over what has come through, until the line is closed or give fails.
func (l *line) deliver(give func([]byte) error) {
	for p := range l.under {
		time.Sleep(time.Until(p.due))
		if give(p.bytes) != nil {
			break
		}
	}
}

// drain lets whoever fills the line come to its end.
func (l *line) drain() {
	for range l.under {
	}
}

// group is what is open and has to end.
type group struct {
	mu      sync.Mutex
	closers []func()
	ended   bool
	running sync.WaitGroup
}

// add keeps what closes a thing; it is called at once when all has ended.
func (g *group) add(closing func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		closing()
		return
	}
	g.closers = append(g.closers, closing)
}

func (g *group) end() {
	g.mu.Lock()
	g.ended = true
	for _, closing := range g.closers {
		closing()
	}
	g.mu.Unlock()
	g.running.Wait()
}
