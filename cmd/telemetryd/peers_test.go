package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program under test or a peer of it.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	log  *syncBuffer
	done chan struct{}
	err  error
}

func start(t testing.TB, stdout *os.File, name string, args ...string) *process {
	t.Helper()
	return startIn(t, nil, stdout, name, args...)
}

// startIn adds env to the environment.
func startIn(t testing.TB, env []string, stdout *os.File, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(name, args...), log: &syncBuffer{}, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = p.log
	if stdout != nil {
		p.cmd.Stdout = stdout
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.done
		if t.Failed() {
			t.Logf("%s %v said:\n%s", name, args, p.log)
		}
	})
	return p
}

func (p *process) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// end sends a signal and returns how long the process took to end.
func (p *process) end(s os.Signal) time.Duration {
	p.t.Helper()
	began := time.Now()
	p.signal(s)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.t.Fatalf("%v has not ended 20 s after %v", p.cmd.Args, s)
	}
	return time.Since(began)
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// freePort is a port of loopback that nobody has at the moment.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// mosquitto is the distribution's broker with a configuration of its own.
type mosquitto struct {
	t      testing.TB
	port   int
	config string
	*process
}

func newMosquitto(t testing.TB) *mosquitto {
	t.Helper()
	dir := t.TempDir()
	m := &mosquitto{t: t, port: freePort(t), config: filepath.Join(dir, "mosquitto.conf")}
	// Saved every second, so that the subscriber's session outlives kill -9.
	config := fmt.Sprintf(`listener %d 127.0.0.1
allow_anonymous true
user root
persistence true
persistence_location %s/
autosave_interval 1
max_inflight_messages 0
max_queued_messages 0
`, m.port, dir)
	if err := os.WriteFile(m.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	m.run()
	return m
}

// run starts the broker and waits until it accepts connections.
func (m *mosquitto) run() {
	m.t.Helper()
	m.process = start(m.t, nil, "mosquitto", "-c", m.config)
	for range 200 {
		c, err := net.Dial("tcp", m.address())
		if err == nil {
			c.Close()
			return
		}
		time.Sleep(50 * time.Millisecond) // waiting for another process
	}
	m.t.Fatalf("mosquitto does not accept connections:\n%s", m.log)
}

func (m *mosquitto) address() string { return fmt.Sprintf("127.0.0.1:%d", m.port) }

// message is what a subscriber got.
type message struct {
	Topic    string
	Arrived  time.Time
	Payload  string
	StreamID string                       `json:"stream_id"`
	BootID   string                       `json:"boot_id"`
	Seq      uint64                       `json:"seq"`
	T        string                       `json:"t"`
	Type     string                       `json:"type"`
	TripID   string                       `json:"trip_id"`
	Position map[string]any               `json:"position"`
	State    string                       `json:"state"`
	LastSeq  uint64                       `json:"last_seq"`
	Data     map[string]any               `json:"data"`
	Samples  []map[string]json.RawMessage `json:"samples"`
}

// subscriber is a stock mosquitto_sub with a session that outlives its connection.
type subscriber struct {
	t  testing.TB
	mu sync.Mutex
	ms []message
}

func subscribe(t testing.TB, m *mosquitto, topic string) *subscriber {
	t.Helper()
	return subscribeAs(t, m, topic, "watcher")
}

// subscribeAs is for a further one at the same broker.
func subscribeAs(t testing.TB, m *mosquitto, topic, clientID string) *subscriber {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &subscriber{t: t}
	start(t, w, "mosquitto_sub", "-h", "127.0.0.1", "-p", fmt.Sprint(m.port), "-q", "1", "-c", "-i", clientID, "-t", topic, "-v")
	w.Close()
	go func() {
		defer r.Close()
		in := bufio.NewReader(r)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			topic, payload, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			msg := message{Topic: topic, Arrived: time.Now(), Payload: payload}
			if err := json.Unmarshal([]byte(payload), &msg); err != nil {
				t.Errorf("%s: %v: %s", topic, err, payload)
			}
			s.mu.Lock()
			s.ms = append(s.ms, msg)
			s.mu.Unlock()
		}
	}()
	return s
}

// messages returns what arrived so far, in order.
func (s *subscriber) messages() []message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ms[:len(s.ms):len(s.ms)]
}

// await waits until enough says so.
func (s *subscriber) await(what string, limit time.Duration, enough func([]message) bool) []message {
	s.t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) { // waiting for other processes
		ms := s.messages()
		if enough(ms) {
			return ms
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("within %v not seen: %s (%d messages)", limit, what, len(ms))
		}
	}
}

// onTopic keeps the messages of one kind, as "telemetry".
func onTopic(ms []message, kind string) []message {
	var kept []message
	for _, m := range ms {
		if strings.HasSuffix(m.Topic, "/"+kind) {
			kept = append(kept, m)
		}
	}
	return kept
}

// vehicle is `telemetryd sim` on TCP, with its truth log.
type vehicle struct {
	obd, gps, truth string

	wallClock, boot string // of its Pi, in TEST_WALL_CLOCK and TEST_BOOT; empty for the true ones
}

func startVehicle(t testing.TB, args ...string) vehicle {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	v := vehicle{truth: filepath.Join(t.TempDir(), "truth.jsonl")}
	args = append([]string{"sim", "--obd", "tcp://127.0.0.1:0", "--gps", "tcp://127.0.0.1:0", "--truth", v.truth}, args...)
	start(t, w, "telemetryd", args...)
	w.Close()
	for in := bufio.NewScanner(r); v.obd == "" || v.gps == ""; {
		if !in.Scan() {
			t.Fatalf("telemetryd sim ended: %v", in.Err())
		}
		switch name, address, _ := strings.Cut(in.Text(), " "); name {
		case "--obd":
			v.obd = address
		case "--gps":
			v.gps = address
		}
	}
	return v
}

// ask runs one of the commands that speak with a vehicle over a broker, to its end.
func ask(t testing.TB, m *mosquitto, command string, args ...string) (out, said string, status int) {
	t.Helper()
	cmd := exec.Command("telemetryd", append([]string{command, "--vehicle-id", "van-1", "--broker", "mqtt://" + m.address()}, args...)...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return o.String(), e.String(), status
}
