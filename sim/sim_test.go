package sim

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"go.bug.st/serial"
)

// log is a Truth writer to look into while the vehicle runs.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t *testing.T, c Config) *Vehicle {
	t.Helper()
	v, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return v
}

// plug opens an address of a vehicle as its clients do.
func plug(t *testing.T, address string) io.ReadWriteCloser {
	t.Helper()
	if host, ok := strings.CutPrefix(address, "tcp://"); ok {
		c, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	p, err := serial.Open(strings.TrimPrefix(address, "serial://"), &serial.Mode{BaudRate: 38400})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask sends a command and returns what comes up to the prompt.
func ask(t *testing.T, c io.ReadWriter, command string) string {
	t.Helper()
	if _, err := io.WriteString(c, command+"\r"); err != nil {
		t.Fatal(err)
	}
	answer, err := bufio.NewReader(c).ReadString('>')
	if err != nil {
		t.Fatalf("%s: %v after %q", command, err, answer)
	}
	return answer
}

func TestPTYClientsComeAndGo(t *testing.T) {
	v := start(t, Config{OBD: OBDConfig{Listen: "pty"}})
	first := plug(t, v.OBDAddress())
	if got := ask(t, first, "ATE0"); got != "ATE0\rOK\r\r>" {
		t.Errorf("%q", got)
	}
	if _, err := io.WriteString(first, "ATI\r"); err != nil { // its answer is never read
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * presenceInterval)
	for range 3 {
		again := plug(t, v.OBDAddress())
		if got := ask(t, again, "ATRV"); got != "14.1V\r\r>" { // nothing of before, settings kept
			t.Errorf("%q", got)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTCPClientsReplaceEachOther(t *testing.T) {
	v := start(t, Config{OBD: OBDConfig{Listen: "tcp://127.0.0.1:0"}, GPS: GPSConfig{Listen: "off"}})
	if v.GPSAddress() != "" {
		t.Errorf("a GPS that is off is at %q", v.GPSAddress())
	}
	first := plug(t, v.OBDAddress())
	if got := ask(t, first, "ATI"); got != "ATI\rELM327 v1.5\r\r>" {
		t.Errorf("%q", got)
	}
	second := plug(t, v.OBDAddress())
	if got := ask(t, second, "ATI"); got != "ATI\rELM327 v1.5\r\r>" {
		t.Errorf("%q", got)
	}
	if _, err := first.Read(make([]byte, 1)); err == nil {
		t.Error("the first client is still connected")
	}
	_, _ = first.Close(), second.Close()
	third := plug(t, v.OBDAddress())
	defer third.Close()
	if got := ask(t, third, "ATE0"); got != "ATE0\rOK\r\r>" {
		t.Errorf("%q", got)
	}
}

// The other end of a null modem cable: the vehicle opens the port, and again when
// the port has been away.
func TestSerialPort(t *testing.T) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := makeRaw(int(slave.Fd())); err != nil {
		t.Fatal(err)
	}
	v := start(t, Config{OBD: OBDConfig{Listen: "serial://" + slave.Name() + "?baud=115200"}})
	if want := "serial://" + slave.Name() + "?baud=115200"; v.OBDAddress() != want {
		t.Errorf("%s, want %s", v.OBDAddress(), want)
	}
	if got := ask(t, master, "ATI"); got != "ATI\rELM327 v1.5\r\r>" {
		t.Errorf("%q", got)
	}
	_ = slave.Close()
}

func TestTruthLog(t *testing.T) {
	var l log
	var called []Truth
	v := start(t, Config{Truth: &l, OnTruth: func(truth Truth) { called = append(called, truth) }, OBD: OBDConfig{Listen: "tcp://127.0.0.1:0"}})
	c := plug(t, v.OBDAddress())
	defer c.Close()
	for _, command := range []string{"ATE0", "ATS0", "ATTP6", "01 0c 0d", "ATRV"} {
		asked := time.Now()
		answer := ask(t, c, command)
		if command != "01 0c 0d" {
			continue
		}
		var truths []Truth
		for line := range strings.Lines(l.String()) {
			var truth Truth
			if err := json.Unmarshal([]byte(line), &truth); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			truths = append(truths, truth)
		}
		if len(truths) != 2 || answer != "410C"+truths[0].Bytes+"0D"+truths[1].Bytes+"\r\r>" {
			t.Fatalf("%q, truth %s", answer, l.String())
		}
		if truths[0].T.Before(asked.Truncate(time.Microsecond)) || truths[0].T.After(time.Now()) || truths[0].Request != "010C0D" {
			t.Errorf("%s", l.String())
		}
	}
	if !strings.HasSuffix(l.String(), `"source":"obd","request":"ATRV","values":{"battery_voltage_v":14.1}}`+"\n") {
		t.Errorf("%s", l.String())
	}
	_ = v.Close()
	if len(called) != 3 {
		t.Errorf("called with %d truths", len(called))
	}
	if n := v.BusTraffic(); n.Requests != 1 || n.Openings != 1 {
		t.Errorf("%+v", n)
	}
}

// A client that opens the receiver's pty late finds the present, not the past; and
// what nobody could read is not in the log.
func TestLateReaderIsFresh(t *testing.T) {
	var l log
	v := start(t, Config{Truth: &l, GPS: GPSConfig{Listen: "pty", Rate: 10}})
	for range 2 {
		time.Sleep(400 * time.Millisecond)
		if l.String() != "" {
			t.Errorf("told to nobody: %s", l.String())
		}
		c := plug(t, v.GPSAddress())
		lines := bufio.NewReader(c)
		line, err := lines.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "$GNRMC,") {
			t.Fatalf("%q: %v", line, err)
		}
		fix, err := time.Parse("150405.000", strings.Split(line, ",")[1])
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now().UTC()
		age := now.Sub(now.Truncate(24*time.Hour)) - fix.Sub(fix.Truncate(24*time.Hour))
		if age < 0 || age > 300*time.Millisecond {
			t.Errorf("the first sentence is %v old", age)
		}
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond) // leaves sentences unread
		_ = c.Close()
		time.Sleep(5 * presenceInterval)
		l.mu.Lock()
		l.b.Reset()
		l.mu.Unlock()
	}
}

// A client that has the port open and does not read finds only what is new when it
// begins to.
func TestUnreadBytesAreDropped(t *testing.T) {
	p, err := newPTYLine()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	c, err := os.OpenFile(p.slave, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w, err := p.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte("old "), 1800)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // the kernel hands bytes on in its own time
	w.(staleDropper).dropStale(readAhead)
	if _, err := io.WriteString(w, "new"); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if n, err := c.Read(b); err != nil || string(b[:n]) != "new" {
		t.Errorf("%q, %v", b[:n], err)
	}
	// A reader that keeps up loses nothing.
	if _, err := io.WriteString(w, "kept"); err != nil {
		t.Fatal(err)
	}
	w.(staleDropper).dropStale(readAhead)
	if n, err := c.Read(b); err != nil || string(b[:n]) != "kept" {
		t.Errorf("%q, %v", b[:n], err)
	}
}

// A client that never reads stops nothing: not the vehicle, not its end.
func TestClientThatDoesNotRead(t *testing.T) {
	v := start(t, Config{OBD: OBDConfig{Listen: "pty"}, GPS: GPSConfig{Listen: "tcp://127.0.0.1:0", Rate: 10}})
	obd, gps := plug(t, v.OBDAddress()), plug(t, v.GPSAddress())
	defer obd.Close()
	defer gps.Close()
	for range 20 {
		_, _ = io.WriteString(obd, strings.Repeat("ATI\r", 100))
	}
	time.Sleep(50 * time.Millisecond)
	began := time.Now()
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > writeTimeout+time.Second {
		t.Errorf("closing took %v", took)
	}
}

func TestStartRefuses(t *testing.T) {
	for _, c := range []Config{
		{Speedup: -1}, {Speedup: 1e9}, {OBD: OBDConfig{Protocol: 'B'}}, {OBD: OBDConfig{ECUs: 3}}, {GPS: GPSConfig{Rate: 11}},
		{OBD: OBDConfig{Listen: "udp://1.2.3.4"}}, {OBD: OBDConfig{Listen: "pty"}, GPS: GPSConfig{Listen: "tcp://256.0.0.1:x"}},
		{GPS: GPSConfig{Listen: "serial:///dev/x?baud=fast"}}, {OBD: OBDConfig{Baud: -1}},
	} {
		if v, err := Start(t.Context(), c); err == nil {
			t.Errorf("%+v was accepted", c)
			_ = v.Close()
		}
	}
}

func TestContextEndsTheVehicle(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	v, err := Start(ctx, Config{OBD: OBDConfig{Listen: "pty"}, GPS: GPSConfig{Listen: "pty"}})
	if err != nil {
		t.Fatal(err)
	}
	c := plug(t, v.OBDAddress())
	defer c.Close()
	cancel()
	v.running.Wait()
	for range 2 {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
}
