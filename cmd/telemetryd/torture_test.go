package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	tortureShort = time.Minute // without TORTURE_FOR
	// tortureSlack is how much longer than its plan the test may take: to start, to drain
	// what waits at the end, and to read the truth.
	tortureSlack = 6 * time.Minute
)

// tortureFor is how long TestTorture goes on: TORTURE_FOR=1h.
func tortureFor(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv("TORTURE_FOR")
	if s == "" {
		return tortureShort
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// tortureSeed is random but for TORTURE_SEED.
func tortureSeed(t *testing.T) uint64 {
	t.Helper()
	s := os.Getenv("TORTURE_SEED")
	if s == "" {
		return rand.Uint64N(1e9)
	}
	seed, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

// The daemon is killed and stopped, its broker is killed, its link swallows, cuts and
// crawls, its disk is full, read-only and broken, at random moments and side by side. At the end
// every record that it accepted has arrived or is named as lost, nothing else has, and
// each lane has kept its order.
func TestTorture(t *testing.T) {
	seed, long, inside := tortureSeed(t), tortureFor(t), os.Getenv(insideNamespace) != ""
	if !inside {
		t.Parallel()
		if inNamespace(t, 2*long+tortureSlack, fmt.Sprintf("TORTURE_SEED=%d", seed)) {
			return
		}
		if os.Getenv("TORTURE_FOR") != "" {
			t.Fatal("the disk cannot be full without a file system of its own: run it as root, or allow user namespaces")
		}
		t.Log("WITHOUT FULL, READ-ONLY AND BROKEN DISKS: they need a file system of its own")
	}
	t.Logf("TORTURE_SEED=%d TORTURE_FOR=%v repeats this", seed, long)
	r := newRack(t, seed, min(30*time.Second, long/5), inside)
	r.start()
	for _, p := range r.plan(long) {
		time.Sleep(time.Until(r.began.Add(p.at))) // whole processes have no other clock
		r.check()
		if p.name != "" {
			t.Logf("%7.1f s  %s", time.Since(r.began).Seconds(), p.name)
		}
		p.do()
	}
	r.heal()
	r.drain()
	v := r.books.close(t, r.lives, r.vehicle.truth)
	t.Logf("seed %d, %.0f s: %s; %d batches, %d events, %d of them twice, %d inversions, %d invented, %v", seed, time.Since(r.began).Seconds(),
		r.counts(), r.books.batches, r.books.events, r.books.duplicates, r.books.inversions, r.books.invented, v)
	if r.books.batches < 50 || v.values < 1000 {
		t.Errorf("only %d batches, %d values", r.books.batches, v.values)
	}
}

// rack is what the daemon is stretched on.
type rack struct {
	t       *testing.T
	random  *rand.Rand
	began   time.Time
	vehicle vehicle
	broker  *mosquitto
	books   *books
	link    *link
	disk    *disk // nil where no file system of its own can be made
	state   string
	daemon  *process // nil while none runs
	lives   []*life
	done    map[string]int
	slowest time.Duration // of the stops
	longest time.Duration // of the black holes
}

func newRack(t *testing.T, seed uint64, longest time.Duration, withDisk bool) *rack {
	t.Helper()
	r := &rack{t: t, random: rand.New(rand.NewPCG(seed, 0)), began: time.Now(), books: newBooks(t), done: map[string]int{}, longest: longest}
	r.state = t.TempDir()
	if withDisk {
		r.disk = newDisk(t)
		r.state = r.disk.dir + "/state"
	}
	r.broker = newMosquitto(t)
	r.link = newLink(t, r.broker.address(), r.books)
	// A car that answers at once, and a fast receiver: much data in little time.
	r.vehicle = startVehicle(t, "--obd-baud", "0", "--ecu-delay", "1ms", "--gps-rate", "10", "--gps-baud", "115200")
	return r
}

const ample = "256MB" // a buffer that is never full here

// start starts the daemon, every other time with a buffer that is soon full.
func (r *rack) start() {
	r.startWith(r.vehicle, []string{ample, ample, "1MiB", "2MiB"}[r.random.IntN(4)])
}

func (r *rack) startWith(v vehicle, size string) {
	r.t.Helper()
	// The race detector would sleep for a second at the end of each process.
	r.daemon = startIn(r.t, []string{"GORACE=atexit_sleep_ms=0"}, nil, "telemetryd", "--vehicle-id", "van-1", "--broker", "mqtt://"+r.link.address(), "--obd", v.obd, "--gps", v.gps,
		"--state-dir", r.state, "--batch-interval", "200ms", "--buffer-size", size, "--obd-max-requests", "100",
		"--signals", "vehicle_speed_kmh=max,engine_speed_rpm=max,engine_load_pct=max,throttle_position_pct=max,maf_g_s=max")
	r.lives = append(r.lives, &life{small: size != ample, full: r.disk != nil && r.disk.bad})
}

var streamSaid = regexp.MustCompile(`msg="telemetryd starts".* stream_id=(\S+)`)

// end ends the daemon by a signal.
func (r *rack) end(s syscall.Signal) {
	r.t.Helper()
	r.check()
	if s == syscall.SIGTERM { // before it listens for it, a signal ends it as any process
		for deadline := time.Now().Add(10 * time.Second); !streamSaid.MatchString(r.daemon.log.String()); time.Sleep(5 * time.Millisecond) {
			if r.check(); time.Now().After(deadline) {
				r.t.Fatalf("it does not start:\n%s", r.daemon.log)
			}
		}
	}
	took := r.daemon.end(s)
	if s == syscall.SIGTERM {
		r.slowest = max(r.slowest, took)
		if took > 2*time.Second || r.daemon.err != nil {
			r.t.Errorf("stopped: %v after %v:\n%s", r.daemon.err, took, r.daemon.log)
		}
	}
	said := r.daemon.log.String()
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if strings.Contains(said, bad) {
			r.t.Errorf("%s:\n%s", bad, said)
		}
	}
	l := r.lives[len(r.lives)-1]
	if found := streamSaid.FindStringSubmatch(said); found != nil {
		l.stream = found[1]
	}
	l.memory = r.disk != nil && r.disk.troubled()
	r.daemon = nil
}

// check sees to it that the daemon runs.
func (r *rack) check() {
	r.t.Helper()
	if r.daemon == nil {
		return
	}
	select {
	case <-r.daemon.done:
		r.t.Fatalf("the daemon ended by itself: %v:\n%s", r.daemon.err, r.daemon.log)
	default:
	}
}

// fillDisk leaves no room for the daemon that runs.
func (r *rack) fillDisk() {
	r.t.Helper()
	r.disk.fill()
	r.lives[len(r.lives)-1].full = true
}

// counts says what was done.
func (r *rack) counts() string {
	r.done["cuts"] = r.link.cutsMade()
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(r.done)) {
		all = append(all, fmt.Sprintf("%d %s", r.done[kind], kind))
	}
	return fmt.Sprintf("%s; slowest stop %v", strings.Join(all, ", "), r.slowest.Round(time.Millisecond))
}

// heal ends all torments.
func (r *rack) heal() {
	r.t.Helper()
	r.link.good()
	if r.daemon == nil {
		r.start()
	}
}

// drain waits until the buffer is empty. Without sources nothing comes in behind it.
func (r *rack) drain() {
	r.t.Helper()
	r.end(syscall.SIGTERM)
	r.startWith(vehicle{obd: "off", gps: "off"}, ample)
	var report bufferReport
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(200 * time.Millisecond) { // waiting for other processes
		r.check()
		report = bufferReport{}
		out, err := exec.Command("telemetryd", "buffer", "stat", "--json", "--state-dir", r.state).Output()
		if err == nil {
			err = json.Unmarshal(out, &report)
		}
		// All that waits may have been said to the broker only since the last look at the disk.
		if err == nil && report.Records == 0 && len(report.Gaps) == 0 && strings.Contains(r.daemon.log.String(), "msg=connected") {
			break
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the buffer is not empty with a good link: %v: %s\n%s", err, out, r.daemon.log)
		}
	}
	r.end(syscall.SIGTERM)
}
