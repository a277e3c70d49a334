package obd

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rzetterberg/elmobd"
	"go.bug.st/serial"
	"golang.org/x/sys/unix"

	"telemetryd/internal/port"
	"telemetryd/internal/telemetry"
	"telemetryd/sim"
)

// wire of a benchmark: what stands between a client and its values.
type bench struct {
	name     string
	protocol byte
	baud     int
	delay    time.Duration
	ecus     int
	ideal    string // the request of a loop that knows the car by heart
	values   int    // in its answer
}

var benches = []bench{
	{"CAN/115200/10ms", '6', 115200, 10 * time.Millisecond, 1, "0104050B0C0D113", 6},
	{"CAN/38400/10ms", '6', 38400, 10 * time.Millisecond, 1, "0104050B0C0D113", 6},
	{"CAN/115200/50ms", '6', 115200, 50 * time.Millisecond, 1, "0104050B0C0D113", 6},
	{"CAN/115200/10ms/2ECUs", '6', 115200, 10 * time.Millisecond, 2, "0104050B0C0D114", 6},
	{"K-line/115200/10ms", '5', 115200, 10 * time.Millisecond, 1, "010C1", 1},
}

var benchSignals = map[string]float64{
	"engine_load_pct": math.Inf(1), "coolant_temperature_c": math.Inf(1), "intake_manifold_pressure_kpa": math.Inf(1),
	"engine_speed_rpm": math.Inf(1), "vehicle_speed_kmh": math.Inf(1), "throttle_position_pct": math.Inf(1),
}

// Readers of six PIDs, one after another on the same simulated adapter, which runs in
// a process of its own: values/s, CPU of the reader per 1000 values, and both beside
// a bare loop that knows the car by heart. `make bench-obd` runs it.
func BenchmarkReaders(b *testing.B) {
	for _, w := range benches {
		var ideal, idealCPU float64
		for _, client := range []struct {
			name string
			read func(b *testing.B, w bench, address string) (values int, cpu time.Duration)
		}{{"ideal", idealLoop}, {"telemetryd", ours}, {"elmobd", device}} {
			b.Run(w.name+"/"+client.name, func(b *testing.B) {
				address := simProcess(b, w)
				values, cpu := client.read(b, w, address)
				rate := float64(values) / b.Elapsed().Seconds()
				perThousand := cpu.Seconds() * 1e6 / float64(values)
				if client.name == "ideal" {
					ideal, idealCPU = rate, perThousand
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(rate, "values/s")
				b.ReportMetric(perThousand, "CPU-ms/1000")
				if ideal > 0 {
					b.ReportMetric(rate/ideal, "x-ideal")
					b.ReportMetric(perThousand/idealCPU, "x-ideal-CPU")
				}
			})
		}
	}
}

// settle is how long a reader runs before it is measured: ours reads trouble codes and
// identity at first.
const settle = 3 * time.Second

// simProcess runs this test binary as the virtual car and returns its path.
func simProcess(b *testing.B, w bench) string {
	b.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), fmt.Sprintf("OBD_BENCH_SIM=%c %d %d %d", w.protocol, w.baud, w.delay.Milliseconds(), w.ecus))
	stdin, err := c.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		_ = c.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// runSim is the virtual car until standard input ends.
func runSim(config string) {
	var o sim.OBDConfig
	var ms int
	if _, err := fmt.Sscanf(config, "%c %d %d %d", &o.Protocol, &o.Baud, &ms, &o.ECUs); err != nil {
		panic(err)
	}
	o.Listen, o.ECUDelay = "pty", time.Duration(ms)*time.Millisecond
	v, err := sim.Start(context.Background(), sim.Config{Seed: 1, OBD: o})
	if err != nil {
		panic(err)
	}
	fmt.Println(strings.TrimPrefix(v.OBDAddress(), "serial://"))
	_, _ = io.Copy(io.Discard, os.Stdin)
	v.Close()
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// idealLoop writes one request again and again and reads up to the prompt; it decodes
// nothing.
func idealLoop(b *testing.B, w bench, path string) (int, time.Duration) {
	p, err := serial.Open(path, &serial.Mode{BaudRate: w.baud})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	buf := make([]byte, 4096)
	ask := func(request string) []byte {
		if _, err := p.Write([]byte(request + "\r")); err != nil {
			b.Fatal(err)
		}
		var answer []byte
		for !bytes.ContainsRune(answer, '>') {
			n, err := p.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			answer = append(answer, buf[:n]...)
		}
		return answer
	}
	for _, command := range []string{"ATZ", "ATE0", "ATL0", "ATS0", "ATH1", "ATAT1", "ATSP" + string(w.protocol), "0100"} {
		ask(command)
	}
	if answer := parseAnswer(ask(w.ideal), w.ideal, busOf(w.protocol)); len(answer.Messages) == 0 {
		b.Fatalf("the ideal request gave %v", answer.Trouble)
	}
	return whileCounting(b, func(ctx context.Context, count *atomic.Int64) {
		for ctx.Err() == nil {
			ask(w.ideal)
			count.Add(int64(w.values))
		}
	})
}

// whileCounting lets a reader count its values in a goroutine of its own, as in a daemon,
// and counts while the benchmark lasts.
func whileCounting(b *testing.B, read func(ctx context.Context, count *atomic.Int64)) (int, time.Duration) {
	var count atomic.Int64
	ctx, stop := context.WithCancel(b.Context())
	var done sync.WaitGroup
	done.Go(func() { read(ctx, &count) })
	defer func() {
		stop()
		done.Wait()
	}()
	for deadline := time.Now().Add(10 * time.Second); count.Load() < 100; time.Sleep(time.Millisecond) { // until it knows the car
		if time.Now().After(deadline) {
			b.Fatal("no values")
		}
	}
	time.Sleep(settle)
	first, began := count.Load(), cpuTime()
	for b.Loop() {
		time.Sleep(time.Second) // rarely: waking up costs CPU that is not the reader's
	}
	return int(count.Load() - first), cpuTime() - began
}

// ours is the reader of this package, its ceiling lifted, in one thread of Go at a
// time as in the daemon. The others run as Go sets itself up, which is cheaper for a
// bare loop.
func ours(b *testing.B, w bench, path string) (int, time.Duration) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	a, err := port.Parse("serial://"+path+"?baud="+strconv.Itoa(w.baud), "serial")
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	return whileCounting(b, func(ctx context.Context, count *atomic.Int64) {
		Run(ctx, Config{Address: &a, Wanted: benchSignals, Uptime: func() time.Duration { return time.Since(start) },
			Deliver: func(r telemetry.Reading) { count.Add(int64(len(r.Fields))) }, Health: new(rig), Log: slog.New(slog.DiscardHandler)})
	})
}

// device is elmobd's own client.
func device(b *testing.B, w bench, path string) (int, time.Duration) {
	d, err := elmobd.NewDevice("serial://"+path, false)
	if err != nil {
		b.Skipf("elmobd: %v", err)
	}
	commands := []elmobd.OBDCommand{elmobd.NewEngineLoad(), elmobd.NewCoolantTemperature(), elmobd.NewIntakeManifoldPressure(),
		elmobd.NewEngineRPM(), elmobd.NewVehicleSpeed(), elmobd.NewThrottlePosition()}
	return whileCounting(b, func(ctx context.Context, count *atomic.Int64) {
		for n := 0; ctx.Err() == nil; n++ {
			if _, err := d.RunOBDCommand(commands[n%len(commands)]); err != nil {
				b.Error(err)
				return
			}
			count.Add(1)
		}
	})
}
