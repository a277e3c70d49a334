package port

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func (b *inbox) text(t *testing.T, text string, closing chan struct{}) bool {
	t.Helper()
	return b.put(Chunk{Data: []byte(text)}, closing)
}

// Who waits for the end of an answer is woken by it, or by his own patience; then the
// chunks come one by one, each with its own time.
func TestWakeAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox()
		b.end, b.whole = '>', true
		began := time.Now()
		take := func(timeout time.Duration, want string, at time.Duration) {
			t.Helper()
			c, err := b.take(t.Context(), timeout)
			if string(c.Data) != want || err != nil || time.Since(began) != at {
				t.Errorf("%q, %v after %v, want %q after %v", c.Data, err, time.Since(began), want, at)
			}
		}
		go func() {
			for _, part := range []string{"41 0C", " 1A F8\r", "\r>"} {
				time.Sleep(10 * time.Millisecond)
				b.text(t, part, nil)
			}
			time.Sleep(10 * time.Millisecond)
			b.text(t, "SEARCHING", nil)
			time.Sleep(time.Second)
			b.finish(io.EOF)
		}()
		take(time.Second, "41 0C", 30*time.Millisecond)
		take(time.Second, " 1A F8\r", 30*time.Millisecond)
		take(time.Second, "\r>", 30*time.Millisecond)
		take(100*time.Millisecond, "SEARCHING", 130*time.Millisecond)
		take(100*time.Millisecond, "", 230*time.Millisecond)
		take(0, "", 230*time.Millisecond)
		if _, err := b.take(t.Context(), time.Hour); !errors.Is(err, io.EOF) || time.Since(began) != 1040*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		synctest.Wait()
	})
}

// What is read ahead is bounded; who reads goes on when something was taken, and ends
// when the port is closed.
func TestInboxBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, closing := newInbox(), make(chan struct{})
		put, ended := 0, make(chan struct{})
		go func() {
			defer close(ended)
			for b.text(t, strings.Repeat("x", 1024), closing) {
				put++
			}
		}()
		synctest.Wait()
		if b.waiting != maxWaiting {
			t.Errorf("%d bytes wait, %d are allowed", b.waiting, maxWaiting)
		}
		before := put
		if c, err := b.take(t.Context(), time.Second); len(c.Data) != 1024 || err != nil {
			t.Errorf("%d bytes, %v", len(c.Data), err)
		}
		synctest.Wait()
		if put != before+1 {
			t.Errorf("%d chunks were put after one was taken", put-before)
		}
		close(closing)
		<-ended
		ctx, stop := context.WithCancel(t.Context())
		stop()
		for len(b.chunks) > 0 {
			if _, err := b.take(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.take(ctx, time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
