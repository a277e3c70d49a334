package publish

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What is written while the network takes nothing does not hold the writer, leaves in
// order, and with a Close behind it, too.
func TestWireOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		w := newWire(near)
		var text strings.Builder
		for _, word := range []string{"one ", "two ", strings.Repeat("x", 3*pieceBytes), " three"} {
			text.WriteString(word)
			if n, err := w.Write([]byte(word)); n != len(word) || err != nil {
				t.Fatal(n, err)
			}
		}
		go w.Close()
		if got, err := io.ReadAll(far); string(got) != text.String() || err != nil {
			t.Errorf("%d of %d bytes, %v", len(got), len(text.String()), err)
		}
		synctest.Wait()
		if _, err := w.Write([]byte("late")); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// A network that takes nothing is noticed though only a PINGREQ waits for it, and holds
// neither whoever reads, writes or closes.
func TestWireStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, _ := net.Pipe()
		w := newWire(near)
		began := time.Now()
		if _, err := w.Write([]byte{0xc0, 0}); err != nil || time.Since(began) > 0 {
			t.Fatalf("after %v: %v", time.Since(began), err)
		}
		if _, err := w.Read(make([]byte, 2)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != writeLimit+lastWords {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if _, err := w.Write([]byte{0xc0, 0}); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if err := w.Close(); err != nil || time.Since(began) != writeLimit+lastWords {
			t.Errorf("closed after %v: %v", time.Since(began), err)
		}
	})
}

// More than may be gathered waits, until the network takes it, or not any more.
func TestWireFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		w := newWire(near)
		written := make(chan error, 3)
		go func() {
			for range cap(written) { // the first is with the network, the second waits for it
				_, err := w.Write(make([]byte, mostGathered))
				written <- err
			}
		}()
		synctest.Wait()
		if len(written) != 2 {
			t.Fatalf("%d were taken", len(written))
		}
		if _, err := io.ReadFull(far, make([]byte, mostGathered)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(written) != 3 {
			t.Fatalf("%d were taken", len(written))
		}
		_ = w.Close()
		for range 3 {
			if err := <-written; err != nil {
				t.Error(err)
			}
		}
	})
}
