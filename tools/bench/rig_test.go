package bench

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"golang.org/x/sys/unix"

	"telemetryd/internal/modem"
	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// lasting is how long a measurement takes: an environment variable, or the short form.
func lasting(t testing.TB, name string, short time.Duration) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(cmp.Or(os.Getenv(name), short.String()))
	if err != nil || d <= 0 {
		t.Fatalf("%s=%s is no length of time, as 10m", name, os.Getenv(name))
	}
	return d
}

// gigabyte of backlog is what the wishes speak of.
const gigabyte = 1_000_000_000

// batch is a sealed batch of about so many bytes.
func batch(t testing.TB, c *telemetry.Clock, bootID string, size int) []byte {
	t.Helper()
	var b telemetry.Batch
	b.Add(telemetry.Reading{Arrived: c.Uptime(), Fields: []telemetry.Field{{Name: "note", Value: telemetry.Text(strings.Repeat("x", size-220))}}})
	zero, q := c.Zero()
	payload, err := b.Seal("van-1", bootID, zero, q).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

func clock(bootID string) *telemetry.Clock {
	began := time.Now()
	return telemetry.NewClock(telemetry.ClockConfig{BootID: bootID, Uptime: func() time.Duration { return time.Since(began) },
		System: func() telemetry.SystemTime { return telemetry.SystemTime{Now: time.Now(), Synced: true} }})
}

// backlog fills a state directory with bytes of batches of an earlier boot.
func backlog(t testing.TB, dir string, total, size int) (records int) {
	t.Helper()
	payload := batch(t, clock("an earlier one"), "an earlier one", size)
	records = total / len(payload)
	fillWith(t, dir, payload, records)
	return records
}

// fillWith fills a state directory. It is made in memory, where there is some, and then
// copied: a million syncs take minutes on a disk.
func fillWith(t testing.TB, dir string, payload []byte, records int) {
	t.Helper()
	var shm unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &shm); err == nil && int(shm.Bavail)*int(shm.Bsize) > 2*records*len(payload) {
		memory, err := os.MkdirTemp("/dev/shm", "telemetryd-bench-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(memory)
		defer copyDir(t, dir, memory)
		dir = memory
	}
	s, err := spool.Open(dir, spool.Options{StreamID: "earlier", MaxBytes: 2 * gigabyte})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range records {
		if _, err := s.Append(spool.Telemetry, payload); err != nil {
			t.Fatal(err)
		}
	}
}

// copyDir copies a state directory to the disk.
func copyDir(t testing.TB, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	d, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		t.Fatal(err)
	}
}

// start runs a program until the test ends.
func start(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	return startTo(t, nil, name, args...)
}

// startTo gives it a standard output.
func startTo(t testing.TB, stdout *os.File, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	log := &bytes.Buffer{}
	cmd.Stderr = log
	if stdout != nil {
		cmd.Stdout = stdout
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, log)
		}
	})
	return cmd
}

// daemon is the program as it is shipped.
func daemon(t testing.TB) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "telemetryd")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "./cmd/telemetryd")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// broker runs mosquitto on a port of these addresses, 127.0.0.1 the first of them.
func broker(t testing.TB, port int, addresses ...string) {
	t.Helper()
	dir := t.TempDir()
	config := []byte("user root\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n")
	for _, a := range addresses {
		config = fmt.Appendf(config, "listener %d %s\n", port, a)
	}
	path := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, "mosquitto", "-c", path)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) { // another process
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// subscribe hands over all that arrives at the broker, in order.
func subscribe(t testing.TB, port int, got func(mqtt.Message)) {
	t.Helper()
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(fmt.Sprintf("mqtt://127.0.0.1:%d", port)).SetClientID("watcher"))
	if token := client.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	if token := client.Subscribe("+/+/+", 1, func(_ mqtt.Client, m mqtt.Message) { got(m) }); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { client.Disconnect(100) })
}

// sleep returns false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// behindLink is the way to the broker over a mobile link of one's own.
type behindLink struct {
	id, link, broker string       // link is its name, for tables
	dropped          func() int64 // packets
}

// links makes four of them to a broker on a port: with a queue of 64 and of 256 KiB, through
// a proxy and over the kernel's own TCP. addresses are those that the broker has to listen at.
func links(t *testing.T, port int) (all []behindLink, addresses []string) {
	t.Helper()
	addresses = []string{"127.0.0.1"}
	for i, kilobytes := range []int{64, 256} {
		l := mobile
		l.Queue = kilobytes << 10
		proxy, err := modem.NewProxy(fmt.Sprintf("127.0.0.1:%d", port), l)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(proxy.Close)
		all = append(all, behindLink{fmt.Sprintf("proxy-%d", i), fmt.Sprintf("proxy, %d KiB", kilobytes), "mqtt://" + proxy.Address, func() int64 { return 0 }})
		mirror, err := modem.NewMirror(byte(i), uint16(port), l)
		if err != nil {
			t.Logf("LEFT OUT: the kernel's own TCP over a link of %d KiB: %v; it needs root, or a user namespace (unshare --net --map-root-user)", kilobytes, err)
			continue
		}
		t.Cleanup(mirror.Close)
		addresses = append(addresses, mirror.Near.String())
		all = append(all, behindLink{fmt.Sprintf("device-%d", i), fmt.Sprintf("device, %d KiB", kilobytes), fmt.Sprintf("mqtt://%s:%d", mirror.Far, port), mirror.Dropped})
	}
	return all, addresses
}
