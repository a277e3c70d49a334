package sim

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func replay(t *testing.T, recording string) net.Conn {
	t.Helper()
	p, err := Replay(t.Context(), strings.NewReader(recording), "tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	c, err := net.Dial("tcp", strings.TrimPrefix(p.Address(), "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func expect(t *testing.T, c net.Conn, want string) time.Duration {
	t.Helper()
	began := time.Now()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v; want %q", got[:n], err, want)
	}
	return time.Since(began)
}

const obdRecording = `# telemetryd recording 1 obd 2026-11-24T14:30:00.000Z
0.000000 = "open tcp://x"
0.001000 > "ATZ\r"
0.101000 < "\r\xfcELM327"
0.201000 < " v1.5\r\r>"
1.000000 > "010C\r"
1.050000 < "41 0C 1A F8\r\r>"
2.000000 > "010C\r"
2.010000 < "NO DATA\r\r>"
2.500000 > " "
2.600000 < ">"
3.000000 < "cut o`

// An adapter's recording answers as it did: in order, byte for byte, with its delays.
func TestReplayOBD(t *testing.T) {
	c := replay(t, obdRecording)
	for _, x := range []struct {
		send, want string
		takes      time.Duration
	}{
		{"ATZ\r", "\r\xfcELM327 v1.5\r\r>", 200 * time.Millisecond},
		{"010C\r", "41 0C 1A F8\r\r>", 50 * time.Millisecond},
		{"010C\r", "NO DATA\r\r>", 10 * time.Millisecond},
		{" ", ">", 100 * time.Millisecond},
		{"010C\r", "41 0C 1A F8\r\r>", 50 * time.Millisecond}, // from the beginning again
		{"010D\r", "?\r\r>", 0},
	} {
		if _, err := io.WriteString(c, x.send); err != nil {
			t.Fatal(err)
		}
		if took := expect(t, c, x.want); took < x.takes-5*time.Millisecond {
			t.Errorf("%q was answered after %v, recorded %v", x.send, took, x.takes)
		}
	}
}

// Who only listens hears the adapter by the recording's clock; a receiver's is always
// played so.
func TestReplayByClock(t *testing.T) {
	c := replay(t, obdRecording)
	expect(t, c, "\r\xfcELM327 v1.5\r\r>41 0C 1A F8\r\r>NO DATA\r\r>>")
	c = replay(t, strings.NewReplacer(" obd ", " gps ").Replace(obdRecording))
	if took := expect(t, c, "\r\xfcELM327 v1.5\r\r>41 0C 1A F8\r\r>"); took < 900*time.Millisecond {
		t.Errorf("played within %v, recorded 949ms", took)
	}
}

// A damaged line costs itself alone, and what a file repeats of its session's beginning
// is played.
func TestReplayDamaged(t *testing.T) {
	c := replay(t, "# telemetryd recording 1 obd x\n0.0 ] \"ATZ\\r\"\n0.0 [ \"ELM327 v1.5\\r\\r>\"\nnonsense\n0.1 > \"010C\\r\"\n0.2 < \"41 0C 1A F8\\r\\r>\"\n0.3 < \"cut")
	for send, want := range map[string]string{"ATZ\r": "ELM327 v1.5\r\r>", "010C\r": "41 0C 1A F8\r\r>", "010D\r": "?\r\r>"} {
		if _, err := c.Write([]byte(send)); err != nil {
			t.Fatal(err)
		}
		expect(t, c, want)
	}
}

func TestReplayRefuses(t *testing.T) {
	for _, text := range []string{"", "$GPRMC,1\n", "# telemetryd recording 1 obd x\nnonsense\n0.1 ? \"a\"\n"} {
		if p, err := Replay(t.Context(), strings.NewReader(text), "tcp://127.0.0.1:0"); err == nil {
			p.Close()
			t.Errorf("%q was played", text)
		}
	}
}
