package publish

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
)

// A message that the broker does not take ends up as a gap, and all others arrive.
func TestRefusedByBroker(t *testing.T) {
	dir := t.TempDir()
	port := freePort(t)
	startMosquitto(t, dir, "allow_anonymous true\nmax_packet_size 3000\nlistener %[1]d 127.0.0.1\n", []int{port})
	subscriber := exec.CommandContext(t.Context(), "mosquitto_sub", "-p", fmt.Sprint(port), "-q", "1", "-i", "watcher", "-t", "vehicles/van-1/#")
	out, err := subscriber.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := subscriber.Start(); err != nil {
		t.Fatal(err)
	}
	type message struct {
		Seq  uint64
		Type string
		Data telemetry.DataGap
	}
	var mu sync.Mutex
	seen := map[uint64]message{}
	var reading sync.WaitGroup
	reading.Go(func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var m message
			if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
				t.Errorf("%v: %s", err, lines.Text())
			}
			mu.Lock()
			seen[m.Seq] = m
			mu.Unlock()
		}
	})
	defer func() {
		_ = subscriber.Process.Kill()
		reading.Wait()
		_ = subscriber.Wait()
	}()
	time.Sleep(500 * time.Millisecond) // the subscriber is another process

	r := startPublisher(t, fmt.Sprintf("mqtt://127.0.0.1:%d", port), Credentials{})
	const big = 6
	for i := range 20 {
		if i+1 == big {
			var b telemetry.Batch
			for n := range 100 {
				reading := telemetry.Reading{Arrived: r.clock.Uptime() + time.Duration(n)*time.Millisecond}
				reading.Add("vehicle_speed_kmh", float64(n))
				b.Add(reading)
			}
			r.append(t, &b)
			continue
		}
		r.record(t, float64(i))
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(100 * time.Millisecond) { // waiting for other processes
		mu.Lock()
		gap, told := seen[21]
		mu.Unlock()
		if told {
			if gap.Type != "data_gap" || gap.Data.FirstSeq != big || gap.Data.LastSeq != big || gap.Data.Reason != "refused" {
				t.Errorf("%+v", gap)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no gap was named:\n%s", r.log)
		}
	}
	if said := r.log.String(); strings.Contains(said, "broker_no_echo") {
		t.Errorf("the ends were taken for a denied subscription:\n%s", said)
	}
	await(t, "the rest", func() bool { return r.spool.Stats().Records == 0 })
	mu.Lock()
	defer mu.Unlock()
	for seq := uint64(1); seq <= 20; seq++ {
		if _, ok := seen[seq]; ok == (seq == big) {
			t.Errorf("seq %d arrived: %v", seq, ok)
		}
	}
}

func TestSuspects(t *testing.T) {
	under := func(lsns ...uint64) (all []sent) {
		for _, lsn := range lsns {
			all = append(all, sent{parcel: parcel{lsn: lsn}})
		}
		return all
	}
	var s suspects
	s.closed(under(1, 2, 3))
	if s.alone(2) {
		t.Error("a suspect after one end")
	}
	s.closed(under(0, 2, 3)) // with the status
	if s.alone(1) || !s.alone(2) || !s.alone(3) {
		t.Error("after two ends")
	}
	s.clear(3)
	for n := range refusals {
		if s.refused(2) {
			t.Errorf("refused after %d ends alone", n)
		}
		s.closed(under(2))
	}
	if !s.refused(2) || s.refused(1) || s.alone(3) {
		t.Error("after all")
	}
	for lsn := range uint64(2 * mostSuspects) {
		s.closed(under(2, 100+lsn))
	}
	if !s.refused(2) || len(s.ends) > mostSuspects+2 {
		t.Errorf("%d are kept", len(s.ends))
	}
	s.closed(nil)
	s.clear(2)
	if s.refused(2) {
		t.Error("after it left")
	}
}

func TestClosedByBroker(t *testing.T) {
	for err, want := range map[error]bool{
		io.EOF: true, syscall.ECONNRESET: true, &net.OpError{Err: os.NewSyscallError("read", syscall.ECONNRESET)}: true,
		os.ErrDeadlineExceeded: false, &net.OpError{Op: "write", Err: os.ErrDeadlineExceeded}: false, syscall.ETIMEDOUT: false,
		&net.OpError{Err: os.NewSyscallError("read", syscall.EHOSTUNREACH)}: false, errStopped: false, errNoPUBACK: false, nil: false,
		errors.New("pingresp not received, disconnecting"): false,
	} {
		if got := closedByBroker(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}
