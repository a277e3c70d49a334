package bench

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"golang.org/x/sys/unix"
)

// disk is an ext4 of its own in a file, by which what reaches the device can be counted.
type disk struct {
	dir  string // where it is mounted
	name string // of its device
}

// newDisk mounts one; the kernel lets go of the device at the unmount, whoever makes it.
func newDisk(t *testing.T) disk {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	f, err := os.Create(image)
	if err == nil {
		err = f.Truncate(512 << 20)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
	device := run("losetup", "--find", "--show", image)
	err = unix.Mount(device, dir, "ext4", unix.MS_NOATIME, "")
	run("losetup", "--detach", device) // at the unmount, or now when there was no mount
	if err != nil {
		t.Fatalf("mount %s: %v", device, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return disk{dir, filepath.Base(device)}
}

// written is how many bytes have reached the device, those that waited included.
func (d disk) written(t *testing.T) int {
	t.Helper()
	dir, err := os.Open(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/sys/block/" + d.name + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	// The seventh figure: sectors written, of 512 bytes (Documentation/block/stat.rst).
	var sectors int
	if _, err := fmt.Sscan(strings.Fields(string(text))[6], &sectors); err != nil {
		t.Fatal(err)
	}
	return sectors * 512
}

// wearSignals and a fix a second are about 0.5 kB of telemetry a second.
const wearSignals = "vehicle_speed_kmh=2,engine_speed_rpm=2,engine_load_pct=1,throttle_position_pct=1,coolant_temperature_c=1,maf_g_s=1"

// simulated starts a virtual vehicle and returns where it is.
func simulated(t *testing.T, program string) (obd, gps string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	startTo(t, w, program, "sim", "--obd", "tcp://127.0.0.1:0", "--gps", "tcp://127.0.0.1:0")
	w.Close()
	for in := bufio.NewScanner(r); obd == "" || gps == ""; {
		if !in.Scan() {
			t.Fatalf("telemetryd sim ended: %v", in.Err())
		}
		switch name, address, _ := strings.Cut(in.Text(), " "); name {
		case "--obd":
			obd = address
		case "--gps":
			gps = address
		}
	}
	return obd, gps
}

// wearSettle is how long a start may take to make its files.
const wearSettle = 15 * time.Second

// TestWear is what the whole daemon writes to its disk for each byte that it publishes, at
// the default interval and with a broker that acknowledges; beside the same messages, when
// they arrive, written to a growing file and synced. Start and stop are told apart.
func TestWear(t *testing.T) {
	const wanted = 8
	length := lasting(t, "WEAR_FOR", 2*time.Minute)
	if os.Geteuid() != 0 {
		t.Skip("LEFT OUT: bytes written to the device: mounting a disk of its own needs root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skipf("LEFT OUT: bytes written to the device: this kernel has no loop devices: %v", err)
	}
	program, ours, peers := daemon(t), newDisk(t), newDisk(t)
	port := freePort(t)
	broker(t, port, "127.0.0.1")
	file, err := os.Create(filepath.Join(peers.dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var mu sync.Mutex
	messages, payload := 0, 0
	subscribe(t, port, func(m mqtt.Message) {
		if strings.HasSuffix(m.Topic(), "/status") {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		messages++
		payload += len(m.Payload())
		if _, err := file.Write(m.Payload()); err != nil {
			t.Error(err)
		}
		if err := file.Sync(); err != nil {
			t.Error(err)
		}
	})
	obd, gps := simulated(t, program)
	type reading struct{ ours, peers, messages, payload int }
	read := func() reading {
		mu.Lock()
		defer mu.Unlock()
		return reading{ours.written(t), peers.written(t), messages, payload}
	}
	empty := read()
	cmd := start(t, program, "run", "--vehicle-id", "van-1", "--broker", fmt.Sprintf("mqtt://127.0.0.1:%d", port), "--obd", obd, "--gps", gps,
		"--signals", wearSignals, "--http", "off", "--state-dir", filepath.Join(ours.dir, "state"))
	time.Sleep(wearSettle)
	before := read()
	time.Sleep(length)
	after := read()
	end(t, cmd)
	stopped := read()
	n, bytes := after.messages-before.messages, after.payload-before.payload
	if n < int(length/liveEvery)/2 {
		t.Fatalf("only %d messages in %v", n, length)
	}
	perByte := float64(after.ours-before.ours) / float64(bytes)
	t.Logf("%v, %d messages, %d bytes a second of telemetry; bytes written to the device for each: telemetryd %.1f, growing file with fsync %.1f; the start and its first %v wrote %d kB, the stop %d kB",
		length, n, bytes/int(length.Seconds()), perByte, float64(after.peers-before.peers)/float64(bytes), wearSettle, (before.ours-empty.ours)/1000, (stopped.ours-after.ours)/1000)
	if perByte > wanted {
		t.Errorf("%.1f bytes reach the device for each byte of telemetry, wanted: at most %d", perByte, wanted)
	}
}
