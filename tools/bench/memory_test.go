package bench

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"telemetryd/internal/modem"
)

// mostMemory is what the daemon may have in memory, ever.
const mostMemory = 50_000_000

// peakOf is the most memory that a process has had so far, in bytes.
func peakOf(pid int) (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "\nVmHWM:")
	var kb int
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		return 0, fmt.Errorf("VmHWM of process %d: %w", pid, err)
	}
	return kb * 1024, nil
}

// TestMemory is the most memory that the daemon has had with 1 GB of backlog: while nobody
// takes it, while it leaves over a slow link, and as fast as the broker takes it.
func TestMemory(t *testing.T) {
	length := lasting(t, "MEMORY_FOR", 20*time.Second)
	program, full := daemon(t), t.TempDir()
	began := time.Now()
	records := backlog(t, full, gigabyte, 1000)
	t.Logf("backlog of %d records made in %v", records, time.Since(began).Round(time.Second))
	port := freePort(t)
	loopback := fmt.Sprintf("127.0.0.1:%d", port)
	addresses := []string{"127.0.0.1"}
	links := []struct{ name, broker string }{{"no broker", fmt.Sprintf("127.0.0.1:%d", freePort(t))}}
	slow := mobile
	slow.Queue = 256 << 10
	proxy, err := modem.NewProxy(loopback, slow)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	links = append(links, struct{ name, broker string }{"proxy, 1 Mbit/s", proxy.Address})
	if mirror, err := modem.NewMirror(99, uint16(port), slow); err != nil {
		t.Logf("LEFT OUT: the kernel's own TCP over a link of 1 Mbit/s: %v", err)
	} else {
		t.Cleanup(mirror.Close)
		addresses = append(addresses, mirror.Near.String())
		links = append(links, struct{ name, broker string }{"device, 1 Mbit/s", fmt.Sprintf("%s:%d", mirror.Far, port)})
	}
	links = append(links, struct{ name, broker string }{"loopback", loopback})
	broker(t, port, addresses...)
	var arrived atomic.Int64
	subscribe(t, port, func(m mqtt.Message) { arrived.Add(int64(len(m.Payload()))) })
	for _, l := range links {
		dir := t.TempDir()
		copyDir(t, dir, full)
		arrived.Store(0)
		cmd := start(t, program, "run", "--vehicle-id", "van-1", "--broker", "mqtt://"+l.broker, "--obd", "off", "--gps", "off", "--http", "off",
			"--buffer-size", "2GB", "--state-dir", dir)
		time.Sleep(length)
		most, err := peakOf(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		end(t, cmd)
		t.Logf("%s: VmHWM %.1f MB after %v, %.1f MB of backlog arrived", l.name, float64(most)/1e6, length, float64(arrived.Load())/1e6)
		if most > mostMemory {
			t.Errorf("%s: the daemon had %d bytes in memory, wanted: at most %d", l.name, most, mostMemory)
		}
		if l.name != "no broker" && arrived.Load() == 0 {
			t.Errorf("%s: no backlog arrived", l.name)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// end stops a daemon as a service manager does.
func end(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %v", cmd.Args, err)
	}
}
