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
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

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

// under are messages under way: their LSNs, on one topic.
func under(on lane, lsns ...uint64) (all []sent) {
	for _, lsn := range lsns {
		all = append(all, sent{parcel: parcel{lsn: lsn, lane: on}, bytes: 100 * int(lsn)})
	}
	return all
}

func TestSuspects(t *testing.T) {
	var s suspects
	s.closed(under(live, 1, 2, 3))
	if s.trial() {
		t.Error("a trial after one end")
	}
	s.closed(under(live, 0, 2, 3)) // with the status
	if lsn, on, ok := s.prime(); !s.trial() || !ok || lsn != 2 || on != live {
		t.Error("no trial after two ends", lsn, on)
	}
	s.left(under(event, 3)[0])
	for range refusals {
		if s.skip(2) {
			t.Error("given up too early")
		}
		s.closed(under(live, 2))
	}
	if s.trial() || !s.skip(2) || len(s.refused()) > 0 {
		t.Error("it is smaller than what was taken, and nothing was taken since: it may be the topic")
	}
	s.left(under(live, 1)[0])
	if all := s.refused(); len(all) != 1 || all[2] != 200 || len(s.judge()) > 0 {
		t.Error("the topic is open: it is the message", all)
	}
	for lsn := range uint64(2 * mostSuspects) {
		s.closed(under(live, 2, 100+lsn))
	}
	if !s.skip(2) || len(s.ends) > mostSuspects+2 {
		t.Errorf("%d are kept", len(s.ends))
	}
	s.prune(func(lsn uint64) bool { return lsn == 2 })
	if len(s.ends) != 1 {
		t.Errorf("%d after the buffer let them go", len(s.ends))
	}
	s.closed(nil)
	if s.clear(2); s.any() {
		t.Error("after it left")
	}
}

// What is larger than all that was taken is refused though nothing was taken on its topic.
func TestLargest(t *testing.T) {
	var s suspects
	s.left(under(event, 5)[0])
	for range refusals + 1 {
		s.closed(under(live, 6))
	}
	if len(s.refused()) != 1 || len(s.judge()) > 0 {
		t.Error(s.refused())
	}
}

// A topic on which nothing is taken is left, and tried again later.
func TestDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s suspects
		for lsn := range uint64(denials) {
			if len(s.judge()) > 0 {
				t.Error("left too early")
			}
			for range refusals + 1 {
				s.closed(under(event, 1+lsn))
			}
		}
		if on := s.judge(); len(on) != 1 || on[0] != event || len(s.refused()) > 0 || s.trial() {
			t.Error(on, s.refused())
		}
		time.Sleep(deniedFor + time.Second)
		if on := s.judge(); len(on) > 0 || s.any() {
			t.Error("not tried again", on)
		}
	})
}

// Where every batch is too large each is named, and events go on.
func TestAllTooLarge(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nmax_packet_size 2000\nlistener %[1]d 127.0.0.1\n", []int{port})
	r := startPublisher(t, fmt.Sprintf("mqtt://127.0.0.1:%d", port), Credentials{})
	r.event(t, "first", telemetry.Info)
	await(t, "an event", func() bool { return r.spool.Stats().Records == 0 })
	refused := func() int { return strings.Count(r.log.String(), givenUp) }
	events := 1
	for n := 0; refused() < 4; n++ {
		if n == 90 {
			t.Fatalf("%d refused in %d s, %d wait:\n%s", refused(), n, r.spool.Stats().Records, r.log)
		}
		if n%5 == 0 {
			r.load(t, 5000)
			r.event(t, "another", telemetry.Info)
			events++
		}
		time.Sleep(time.Second) // a broker of its own
	}
	if said := r.log.String(); strings.Contains(said, "topic_denied") {
		t.Error(said)
	}
}

// A broker that ends the connection at each topic but the status costs nothing: it waits.
func TestTopicsDenied(t *testing.T) {
	t.Parallel()
	address, stop := serveTCP(t, func(c net.Conn) {
		defer c.Close()
		for {
			packet, err := packets.ReadPacket(c)
			if err != nil {
				return
			}
			switch p := packet.(type) {
			case *packets.ConnectPacket:
				_, _ = c.Write([]byte{0x20, 2, 0, 0}) // CONNACK
			case *packets.PingreqPacket:
				_ = packets.NewControlPacket(packets.Pingresp).Write(c)
			case *packets.PublishPacket:
				if !strings.HasSuffix(p.TopicName, "/status") {
					return
				}
				ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
				ack.MessageID = p.MessageID
				_ = ack.Write(c)
			}
		}
	})
	defer stop()
	r := startPublisherWith(t, "mqtt://"+address, Credentials{}, func(c *Config) { c.WriteOnly = true })
	const recorded = 6
	for range recorded / 2 {
		r.event(t, "told", telemetry.Info)
		r.load(t, 500)
	}
	ended := func() int { return strings.Count(r.log.String(), "has ended the connection") }
	for quiet, n, since := false, 0, time.Now(); !quiet; time.Sleep(100 * time.Millisecond) { // a few connections for each message
		if now := ended(); now != n {
			n, since = now, time.Now()
		}
		connected := strings.Count(r.log.String(), "msg=connected") > n // and not waiting for it
		if quiet = n > 0 && connected && time.Since(since) > 5*time.Second; n > 100 {
			t.Fatalf("no end:\n%s", r.log)
		}
	}
	if !strings.Contains(r.log.String(), "code=topic_denied") {
		t.Errorf("not said:\n%s", r.log)
	}
	if st := r.spool.Stats(); st.Records != recorded || st.Aside > 0 || strings.Contains(r.log.String(), givenUp) {
		t.Errorf("%+v:\n%s", st, r.log)
	}
	r.stop()
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
