package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// BenchmarkReceiver is the CPU that a receiver of 10 Hz at 115200 baud costs: the whole
// daemon, which also keeps and publishes the fixes, beside gpsd, which has the same sentences
// on a port of its own and one client that watches.
func BenchmarkReceiver(b *testing.B) {
	const settle = 10 * time.Second // gpsd recognises the receiver, the daemon its cadence
	m := newMosquitto(b)
	direct, second := newReceiver(b, 10, 115200), newReceiver(b, 10, 115200)
	gpsd := newGPSD(b, second.link)
	ours := startDaemon(b, m, vehicle{obd: "off", gps: "serial://" + direct.link + "?baud=115200"}, b.TempDir())
	through := startDaemon(b, m, vehicle{obd: "off", gps: "gpsd://" + gpsd.address()}, b.TempDir(), "--vehicle-id", "van-2")
	time.Sleep(settle)
	all := map[string]*process{"telemetryd": ours, "gpsd": gpsd.process, "telemetryd-on-gpsd": through}
	before := map[string]time.Duration{}
	for name, p := range all {
		before[name] = cpu(b, p)
	}
	began := time.Now()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	wall := time.Since(began)
	for name, p := range all {
		b.ReportMetric(100*(cpu(b, p)-before[name]).Seconds()/wall.Seconds(), name+"-%CPU")
	}
	for _, p := range []*process{ours, through} {
		p.end(syscall.SIGTERM)
	}
}

// cpu is the time that the threads of a process ran.
func cpu(b *testing.B, p *process) (sum time.Duration) {
	b.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		b.Fatalf("%v has no threads: %v", p.cmd.Args, err)
	}
	for _, file := range threads {
		text, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		var ran time.Duration
		if _, err := fmt.Sscan(string(text), &ran); err != nil {
			b.Fatal(err)
		}
		sum += ran
	}
	return sum
}
