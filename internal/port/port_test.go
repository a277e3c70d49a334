package port

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	for _, s := range []string{
		"serial:///dev/ttyUSB0", "serial:///dev/ttyUSB0?baud=38400", "tcp://192.168.0.10:35000", "tcp://[::1]:1", "file:///a.nmea",
	} {
		if a, err := Parse(s, "serial", "tcp", "file"); err != nil || a.String() != s {
			t.Errorf("Parse(%q) = %q, %v", s, a, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for s, want := range map[string]string{
		"usb:///dev/ttyUSB0":           `unknown scheme "usb" in "usb:///dev/ttyUSB0"; allowed: serial://, tcp://`,
		"/dev/ttyUSB0":                 `has no scheme; allowed: serial://, tcp://`,
		"serial://ttyUSB0":             "third slash",
		"serial:///dev/x?baud=fast":    "allowed is a number from 300 to 4000000",
		"serial:///dev/x?baud=-1":      "allowed is a number",
		"serial:///dev/x?parity=even":  "only serial:// takes an option",
		"tcp://192.168.0.10":           "tcp://host:port",
		"tcp://:35000":                 "tcp://host:port",
		"tcp://192.168.0.10:35000/obd": "tcp://host:port",
		"tcp://h:1?baud=9600":          "only serial:// takes an option",
		"file:///a.nmea":               "unknown scheme",
		"serial://%zz":                 "is no address",
	} {
		if a, err := Parse(s, "serial", "tcp"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %v, %v; want %q", s, a, err, want)
		}
	}
}

func fixedUptime() time.Duration { return 42 * time.Second }

// onTerminal opens a port on a pseudo terminal. All three are closed at the end of the test.
func onTerminal(t *testing.T) (master, slave *os.File, p *Port) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	t.Cleanup(func() { slave.Close() })
	if p, err = Open(t.Context(), Address{Scheme: "serial", Path: slave.Name()}, fixedUptime, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return master, slave, p
}

func TestSerial(t *testing.T) {
	master, slave, p := onTerminal(t)
	slave.Close()
	if err := p.SetBaud(9600); err != nil {
		t.Error(err)
	}
	if _, err := master.WriteString("ELM"); err != nil {
		t.Fatal(err)
	}
	if c, err := p.Receive(t.Context(), time.Second); string(c.Data) != "ELM" || c.Arrived != 42*time.Second {
		t.Errorf("chunk %q at %v, %v", c.Data, c.Arrived, err)
	}
	if err := p.Write([]byte("ATZ\r"), time.Second); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if n, err := master.Read(buf); err != nil || string(buf[:n]) != "ATZ\r" {
		t.Errorf("the device read %q, %v", buf[:n], err)
	}
	master.Close() // unplugged
	if c, err := p.Receive(t.Context(), time.Second); len(c.Data) > 0 || err == nil || errors.Is(err, ErrClosed) {
		t.Errorf("chunk %q after the device is gone, %v", c.Data, err)
	}
}

// A reader that rests takes the first bytes at once and the next later; Close does not
// wait for it.
func TestRest(t *testing.T) {
	for _, rest := range []time.Duration{20 * time.Millisecond, time.Hour} {
		master, slave, p := onTerminal(t)
		slave.Close()
		p.Rest(rest)
		var came strings.Builder
		for _, sentence := range []string{"$GPRMC", "$GPGGA"} {
			if _, err := master.WriteString(sentence); err != nil {
				t.Fatal(err)
			}
			for range 10 {
				c, err := p.Receive(t.Context(), 50*time.Millisecond)
				if err != nil {
					t.Fatal(err)
				}
				if came.WriteString(string(c.Data)); strings.HasSuffix(came.String(), sentence) {
					break
				}
			}
		}
		if want := "$GPRMC$GPGGA"; rest == time.Hour && came.String() != "$GPRMC" || rest < time.Hour && came.String() != want {
			t.Errorf("with a rest of %v came %q", rest, came.String())
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Bytes that another program took are no end, and nothing is spent on waiting for more.
func TestSharedSerial(t *testing.T) {
	master, slave, p := onTerminal(t)
	other := make(chan struct{})
	go func() { // reads what it can, as the port does
		defer close(other)
		buf := make([]byte, 16)
		for {
			if n, err := slave.Read(buf); err != nil || bytes.IndexByte(buf[:n], '.') >= 0 {
				return
			}
		}
	}()
	for done := false; !done; {
		if _, err := master.WriteString("x."); err != nil {
			t.Fatal(err)
		}
		select {
		case <-other:
			done = true
		case <-time.After(time.Millisecond):
			if _, err := p.Receive(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := master.WriteString("ours"); err != nil {
		t.Fatal(err)
	}
	came := ""
	for end := time.Now().Add(2 * time.Second); !strings.HasSuffix(came, "ours") && time.Now().Before(end); {
		c, err := p.Receive(t.Context(), time.Until(end))
		if err != nil {
			t.Fatal(err)
		}
		came += string(c.Data)
	}
	if !strings.HasSuffix(came, "ours") {
		t.Errorf("after another program read, came %q", came)
	}
}

// A device that takes no bytes must not hold its owner.
func TestSerialWriteEnds(t *testing.T) {
	_, _, p := onTerminal(t)
	err := p.Write(make([]byte, 1<<20), 200*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "not taken within 200ms") {
		t.Errorf("Write = %v", err)
	}
	// goleak proves that the blocked write ended.
}

func TestTCPEndsWithPeer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := Open(t.Context(), Address{Scheme: "tcp", Host: l.Addr().String()}, fixedUptime, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if c, err := p.Receive(t.Context(), time.Second); len(c.Data) > 0 || err != io.EOF {
		t.Errorf("chunk %q, %v", c.Data, err)
	}
}

func TestFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.nmea")
	want := strings.Repeat("$GPRMC,\r\n", 20000)
	if err := os.WriteFile(name, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Open(t.Context(), Address{Scheme: "file", Path: name}, fixedUptime, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var got strings.Builder
	for err == nil {
		var c Chunk
		c, err = p.Receive(t.Context(), time.Second)
		got.Write(c.Data)
	}
	if got.String() != want || err != io.EOF {
		t.Errorf("read %d of %d bytes, %v", got.Len(), len(want), err)
	}
}

func TestCloseFreesReader(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.nmea")
	if err := os.WriteFile(name, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Open(t.Context(), Address{Scheme: "file", Path: name}, fixedUptime, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	for a, want := range map[Address]string{
		{Scheme: "serial", Path: "/dev/ttyNONE"}: "open serial port /dev/ttyNONE: no such file or directory",
		{Scheme: "tcp", Host: nobody}:            "connect to " + nobody + ": connect: connection refused",
		{Scheme: "file", Path: "/none.nmea"}:     "open /none.nmea: no such file or directory",
	} {
		if p, err := Open(t.Context(), a, fixedUptime, nil); err == nil || err.Error() != want {
			t.Errorf("Open(%s) = %v, %v; want %q", a, p, err, want)
		}
	}
}

// gpsd listens at 2947 unless the address says otherwise.
func TestParseGPSD(t *testing.T) {
	for s, want := range map[string]string{
		"gpsd://127.0.0.1:2947": "127.0.0.1:2947", "gpsd://127.0.0.1": "127.0.0.1:2947", "gpsd://[::1]": "[::1]:2947",
		"gpsd://[::1]:2948": "[::1]:2948", "gpsd://pi.local/": "pi.local:2947",
	} {
		a, err := Parse(s, "serial", "gpsd")
		if err != nil || a.Host != want || a.String() != "gpsd://"+want {
			t.Errorf("Parse(%q) = %q, %v", s, a, err)
		}
	}
	for _, s := range []string{"gpsd://", "gpsd:///dev/ttyACM0", "gpsd://host:0", "gpsd://host:65536", "gpsd://host:", "gpsd://host/device", "gpsd://host?device=1"} {
		if a, err := Parse(s, "gpsd"); err == nil {
			t.Errorf("Parse(%q) = %v", s, a)
		}
	}
}

// Only what is known to be an adapter is one: printers have the same bridge chips as
// cables.
func TestFind(t *testing.T) {
	dev := t.TempDir()
	dir := filepath.Join(dev, "serial/by-id")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"usb-u-blox_AG_u-blox_7-if00", "usb-1a86_GNSS_receiver-if00", "usb-ScanTool.net_LLC_OBDLink_SX_113010-if00-port0",
		"usb-FTDI_FT232R_USB_UART_A9-if00-port0", "usb-1a86_USB2.0-Serial-if00-port0", "usb-EPSON_TM-T20-if00"} {
		device := filepath.Join(dev, fmt.Sprintf("ttyUSB%d", i))
		if err := os.WriteFile(device, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(device, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dev, "rfcomm0"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	receivers := named(dir, receiverName.MatchString)
	adapters := named(dir, func(name string) bool { return adapterName.MatchString(name) && !receiverName.MatchString(name) })
	if len(receivers) != 2 || len(adapters) != 1 || !strings.Contains(adapters[0].Path, "OBDLink") {
		t.Errorf("receivers %v, adapters %v", receivers, adapters)
	}
	if others := unknown(dev); len(others) != 4 || !strings.Contains(others[3].Path, "rfcomm0") {
		t.Errorf("unknown: %v", others)
	}
}

// A port by its device's name has a stable one where udev made it.
func TestStableName(t *testing.T) {
	dev, dir := t.TempDir(), t.TempDir()
	device, link := filepath.Join(dev, "ttyUSB0"), filepath.Join(dir, "usb-1a86_USB_Serial-if00-port0")
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := stableName(dir+"/none", device); got != device {
		t.Errorf("without links: %s", got)
	}
	if err := os.Symlink(device, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{device, link} {
		if got := stableName(dir, path); got != link {
			t.Errorf("%s: %s", path, got)
		}
	}
	if got := stableName(dir, "/dev/ttyUSB9"); got != "/dev/ttyUSB9" {
		t.Errorf("of a port that is gone: %s", got)
	}
}

// A listening test hears a receiver and never writes.
func TestSilent(t *testing.T) {
	for _, speaks := range []bool{false, true} {
		master, slave, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer master.Close()
		defer slave.Close()
		if speaks {
			time.AfterFunc(200*time.Millisecond, func() { _, _ = master.Write([]byte("$GPRMC\n")) }) // when it is open, or it would echo
		}
		if got := Silent(t.Context(), Address{Scheme: "serial", Path: slave.Name()}, fixedUptime); got == speaks {
			t.Errorf("speaks %v, silent %v", speaks, got)
		}
		p := []unix.PollFd{{Fd: int32(master.Fd()), Events: unix.POLLIN}}
		if n, err := unix.Poll(p, 50); n > 0 && p[0].Revents&unix.POLLIN != 0 {
			t.Errorf("something was written, %v", err)
		}
	}
}
