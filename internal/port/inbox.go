package port

import (
	"bytes"
	"context"
	"sync"
	"time"
)

// maxWaiting bounds the bytes that are read ahead of the owner.
const maxWaiting = 64 << 10

// inbox holds what was read until the port's owner takes it: one goroutine puts, one
// takes.
type inbox struct {
	end   byte // that wakes who takes
	whole bool // only that byte wakes; otherwise every one does

	mu      sync.Mutex
	chunks  []Chunk
	waiting int // bytes in chunks
	err     error

	wake  chan struct{} // something is there that wakes
	room  chan struct{} // something was taken
	timer *time.Timer   // of who takes
}

func newInbox() *inbox {
	b := &inbox{wake: make(chan struct{}, 1), room: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	b.timer.Stop()
	return b
}

// notify leaves a token in a channel that has room for one.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// put adds a chunk, and waits while too much is there. It returns false when closing
// ends the wait.
func (b *inbox) put(c Chunk, closing <-chan struct{}) bool {
	b.mu.Lock()
	b.chunks = append(b.chunks, c)
	b.waiting += len(c.Data)
	full := b.waiting >= maxWaiting
	b.mu.Unlock()
	if !b.whole || full || bytes.IndexByte(c.Data, b.end) >= 0 {
		notify(b.wake)
	}
	for full {
		select {
		case <-b.room:
		case <-closing:
			return false
		}
		b.mu.Lock()
		full = b.waiting >= maxWaiting
		b.mu.Unlock()
	}
	return true
}

// finish notes that no more will come.
func (b *inbox) finish(err error) {
	b.mu.Lock()
	b.err = err
	b.mu.Unlock()
	notify(b.wake)
}

// take returns the oldest chunk when one is there that wakes, or whatever is there
// after timeout; an empty one for nothing.
func (b *inbox) take(ctx context.Context, timeout time.Duration) (Chunk, error) {
	if timeout > 0 {
		b.timer.Reset(timeout)
		defer b.timer.Stop()
	}
	for waited := timeout <= 0; ; {
		if c, err := b.oldest(waited); len(c.Data) > 0 || err != nil || waited {
			return c, err
		}
		select {
		case <-b.wake:
		case <-b.timer.C:
			waited = true
		case <-ctx.Done():
			return Chunk{}, ctx.Err()
		}
	}
}

// oldest takes the oldest chunk. Unless any will do, it waits for one that wakes
// behind it.
func (b *inbox) oldest(any bool) (Chunk, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case len(b.chunks) == 0:
		return Chunk{}, b.err
	case !any && b.whole && b.err == nil && b.waiting < maxWaiting && !b.answered():
		return Chunk{}, nil
	}
	c := b.chunks[0]
	b.chunks = b.chunks[1:]
	if len(b.chunks) == 0 {
		b.chunks = nil
	}
	b.waiting -= len(c.Data)
	notify(b.room)
	return c, nil
}

// answered reports whether the end of an answer is there.
func (b *inbox) answered() bool {
	for i := len(b.chunks) - 1; i >= 0; i-- {
		if bytes.IndexByte(b.chunks[i].Data, b.end) >= 0 {
			return true
		}
	}
	return false
}
