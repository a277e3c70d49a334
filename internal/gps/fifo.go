package gps

import (
	"context"
	"os"
	"sync"
	"syscall"
	"time"
)

// freeFIFO frees an open of the FIFO at path, which waits for a writer, when ctx
// ends: by being a writer for a moment. The caller calls release when its open has
// returned.
func freeFIFO(ctx context.Context, path string) (release func()) {
	opened := make(chan struct{})
	var freeing sync.WaitGroup
	freeing.Go(func() {
		select {
		case <-opened:
			return
		case <-ctx.Done():
		}
		again := time.NewTicker(10 * time.Millisecond) // the open may only begin now
		defer again.Stop()
		for {
			if f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
				_ = f.Close() // nothing was written
			}
			select {
			case <-opened:
				return
			case <-again.C:
			}
		}
	})
	return func() {
		close(opened)
		freeing.Wait()
	}
}
