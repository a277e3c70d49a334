package modem

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Bytes take the time of their number, then half a round trip, in order; what is under way
// on the far half takes no place in the queue.
func TestLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(Link{Rate: 1000, RoundTrip: 200 * time.Millisecond, Queue: 500})
		began := time.Now()
		var came []time.Duration
		done := make(chan struct{})
		go func() {
			l.deliver(func(b []byte) error {
				came = append(came, time.Since(began))
				return nil
			})
			close(done)
		}()
		if wait := l.excess(500); wait > 0 {
			t.Errorf("an empty queue has no room for its size for %v", wait)
		}
		l.take(make([]byte, 100))
		l.take(make([]byte, 300))
		if wait := l.excess(150); wait != 50*time.Millisecond {
			t.Errorf("50 of 150 bytes do not fit: wait %v", wait)
		}
		time.Sleep(time.Second)
		l.take(make([]byte, 100)) // after an idle time nothing is made up for
		close(l.under)
		<-done
		want := []time.Duration{200 * time.Millisecond, 500 * time.Millisecond, 1200 * time.Millisecond}
		for i, w := range want {
			if i >= len(came) || came[i] != w {
				t.Fatalf("pieces came at %v, want %v", came, want)
			}
		}
	})
}

// A stream comes through whole, not sooner than the rate allows.
func TestProxy(t *testing.T) {
	service, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	const rate = 1_000_000
	p, err := NewProxy(service.Addr().String(), Link{Rate: rate, RoundTrip: 20 * time.Millisecond, Queue: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	sent := bytes.Repeat([]byte("0123456789"), 20_000)
	began := time.Now()
	c, err := net.Dial("tcp", p.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	failed := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		failed <- err
	}()
	far, err := service.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("what came differs: %v", err)
	}
	if err := <-failed; err != nil {
		t.Error(err)
	}
	if took, least := time.Since(began), time.Duration(float64(len(sent))/rate*float64(time.Second)); took < least {
		t.Errorf("%d bytes took %v, the rate allows %v", len(sent), took, least)
	}
}

// The addresses of a packet are exchanged and its checksums stay right.
func TestExchange(t *testing.T) {
	packet := make([]byte, 40)
	packet[0], packet[9] = 0x45, 6
	copy(packet[12:], []byte{10, 198, 0, 1, 10, 198, 0, 2, 0x12, 0x34, 0x07, 0x5b})
	before := sum(packet)
	port, ok := exchange(packet)
	if !ok || port != 0x075b {
		t.Errorf("port %d, %v", port, ok)
	}
	if !bytes.Equal(packet[12:20], []byte{10, 198, 0, 2, 10, 198, 0, 1}) {
		t.Errorf("addresses %v", packet[12:20])
	}
	if sum(packet) != before {
		t.Error("the checksum changed")
	}
	for _, bad := range [][]byte{nil, make([]byte, 40), packet[:39], append([]byte{0x60}, packet[1:]...), append([]byte{0x4f}, packet[1:]...)} {
		if _, ok := exchange(bad); ok {
			t.Errorf("%x is no IPv4 packet with TCP", bad)
		}
	}
}

// sum adds 16-bit words up as the checksums of IP and TCP do.
func sum(b []byte) (all uint32) {
	for i := 0; i < len(b); i += 2 {
		all += uint32(b[i])<<8 | uint32(b[i+1])
	}
	return all
}
