package publish

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"telemetryd/internal/spool"
	"telemetryd/internal/status"
	"telemetryd/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(lastPublish{m}) }

// lastPublish runs the tests, and lets the publishes end that paho still holds for a
// lost connection: for handLimit at most, then the goroutine counts as leaked.
type lastPublish struct{ *testing.M }

func (m lastPublish) Run() int {
	code := m.M.Run()
	for end := time.Now().Add(handLimit); goleak.Find() != nil && time.Now().Before(end); {
	}
	return code
}

// certificates makes a CA and a certificate for 127.0.0.1 in dir.
func certificates(t *testing.T, dir string) (ca, cert, key string) {
	t.Helper()
	a := newAuthority(t, dir, "ca")
	broker := a.certify(t, "broker", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	return a.file, broker.cert, broker.key
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

// startMosquitto runs the distribution's broker with the listeners of config, %[1]d
// and on being free ports, and waits for the first.
func startMosquitto(t testing.TB, dir, config string, ports []int) {
	t.Helper()
	args := make([]any, len(ports))
	for i, p := range ports {
		args[i] = p
	}
	path := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(path, fmt.Appendf(nil, "user root\nper_listener_settings false\n"+config, args...), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("mosquitto", "-c", path)
	log := &bytes.Buffer{}
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("mosquitto said:\n%s", log)
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) { // waiting for a process
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0]))
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// stream is what a rig records under.
const stream = "01M89AACX0G14WRHGQB2KDRDN2"

// rig is a publisher on a real buffer.
type rig struct {
	spool *spool.Spool
	clock *telemetry.Clock
	log   *lockedBuffer
	stop  func()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startPublisher(t *testing.T, broker string, credentials Credentials) *rig {
	t.Helper()
	return startPublisherWith(t, broker, credentials, func(*Config) {})
}

// startPublisherWith is startPublisher with other settings.
func startPublisherWith(t *testing.T, broker string, credentials Credentials, change func(*Config)) *rig {
	t.Helper()
	b, err := ParseBroker(broker)
	if err != nil {
		t.Fatal(err)
	}
	s, err := spool.Open(t.TempDir(), spool.Options{StreamID: stream})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{spool: s, log: &lockedBuffer{}}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	c := Config{Brokers: []Broker{b}, ClientID: "test", Credentials: credentials, TopicPrefix: "vehicles", VehicleID: "van-1",
		StreamID: stream, Version: "test", Store: s, Health: status.NewHealth(log), Log: log,
		Clock: clockOn(func() telemetry.SystemTime { return telemetry.SystemTime{Now: time.Now(), Synced: true} })}
	change(&c)
	r.clock = c.Clock
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { Run(ctx, c) })
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			running.Wait()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(r.stop)
	return r
}

// clockOn is a clock of a boot that begins now, on a system clock.
func clockOn(system func() telemetry.SystemTime) *telemetry.Clock {
	began := time.Now()
	return telemetry.NewClock(telemetry.ClockConfig{BootID: "boot", Uptime: func() time.Duration { return time.Since(began) }, System: system})
}

// record appends a batch of one reading.
func (r *rig) record(t *testing.T, speed float64) {
	t.Helper()
	var b telemetry.Batch
	reading := telemetry.Reading{Arrived: r.clock.Uptime()}
	reading.Add("vehicle_speed_kmh", speed)
	b.Add(reading)
	r.append(t, &b)
}

// append appends a batch.
func (r *rig) append(t *testing.T, b *telemetry.Batch) {
	t.Helper()
	zero, q := r.clock.Zero()
	payload, err := b.Seal("van-1", "boot", zero, q).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.spool.Append(spool.Telemetry, payload); err != nil {
		t.Fatal(err)
	}
}

// serveTCP accepts connections and serves one after the other until stop.
func serveTCP(t testing.TB, serve func(net.Conn)) (address string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
		}
	})
	return l.Addr().String(), func() {
		l.Close()
		serving.Wait()
	}
}

// await polls until done, for peers that are other processes.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not seen in time: %s", what)
		}
	}
}

// Every scheme, with user, password and CA, against the distribution's broker.
func TestSchemes(t *testing.T) {
	dir := t.TempDir()
	ca, cert, key := certificates(t, dir)
	passwords := filepath.Join(dir, "passwords")
	if out, err := exec.Command("mosquitto_passwd", "-b", "-c", passwords, "van-1", "secret").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ports := []int{freePort(t), freePort(t), freePort(t), freePort(t)}
	tlsLines := fmt.Sprintf("certfile %s\nkeyfile %s\n", cert, key)
	startMosquitto(t, dir, "allow_anonymous false\npassword_file "+passwords+"\nlistener %[1]d 127.0.0.1\n"+
		"listener %[2]d 127.0.0.1\n"+tlsLines+"listener %[3]d 127.0.0.1\nprotocol websockets\n"+
		"listener %[4]d 127.0.0.1\nprotocol websockets\n"+tlsLines, ports)
	good := filepath.Join(dir, "password")
	bad := filepath.Join(dir, "wrong")
	for path, text := range map[string]string{good: "secret\n", bad: "guess\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, scheme := range []string{"mqtt", "mqtts", "ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			r := startPublisher(t, fmt.Sprintf("%s://127.0.0.1:%d", scheme, ports[i]), Credentials{Username: "van-1", PasswordFile: good, CAFile: ca})
			r.record(t, 50)
			await(t, "the PUBACK of a batch", func() bool { return r.spool.Stats().Records == 0 })
		})
	}
	t.Run("wrong password", func(t *testing.T) {
		r := startPublisher(t, fmt.Sprintf("mqtt://127.0.0.1:%d", ports[0]), Credentials{Username: "van-1", PasswordFile: bad})
		r.record(t, 50)
		await(t, "a refusal", func() bool { return strings.Contains(r.log.String(), `does not let the user \"van-1\" in`) })
		r.stop()
		if n := strings.Count(r.log.String(), "broker_refused"); n != 1 {
			t.Errorf("said %d times:\n%s", n, r.log)
		}
	})
	t.Run("system clock of another year", func(t *testing.T) {
		r := startPublisherWith(t, fmt.Sprintf("mqtts://127.0.0.1:%d", ports[1]), Credentials{Username: "van-1", PasswordFile: good, CAFile: ca}, func(c *Config) {
			c.Clock = clockOn(func() telemetry.SystemTime { return telemetry.SystemTime{Now: time.Now().AddDate(20, 0, 0)} })
		})
		r.record(t, 50)
		await(t, "a refusal", func() bool {
			return strings.Contains(r.log.String(), "has expired on 20") && strings.Contains(r.log.String(), "a clock that nobody has set yet")
		})
		for i := range time.Duration(3) { // the receiver knows better
			r.clock.Fix(time.Now().Add(i*time.Second), r.clock.Uptime()+i*time.Second, time.Second)
		}
		await(t, "the PUBACK of a batch", func() bool { return r.spool.Stats().Records == 0 })
	})
	for name, test := range map[string]struct {
		url         string
		credentials Credentials
		system      time.Time
		want        string
	}{
		"unknown CA":      {fmt.Sprintf("mqtts://127.0.0.1:%d", ports[1]), Credentials{}, time.Now(), "signed by nobody whom this machine trusts"},
		"another name":    {fmt.Sprintf("mqtts://localhost:%d", ports[1]), Credentials{CAFile: ca}, time.Now(), "is not for localhost"},
		"1970":            {fmt.Sprintf("mqtts://127.0.0.1:%d", ports[1]), Credentials{CAFile: ca}, time.Unix(100, 0), "it is 1970-01-01 here, by a clock that nobody has set yet"},
		"no TLS":          {fmt.Sprintf("mqtts://127.0.0.1:%d", ports[0]), Credentials{CAFile: ca}, time.Now(), "closes the connection before it lets us in"},
		"nobody listens":  {fmt.Sprintf("mqtt://127.0.0.1:%d", freePort(t)), Credentials{}, time.Now(), "Nothing listens at mqtt://127.0.0.1"},
		"no such name":    {"mqtt://broker.invalid", Credentials{}, time.Now(), "The broker's name broker.invalid is not found"},
		"no user":         {fmt.Sprintf("mqtt://127.0.0.1:%d", ports[0]), Credentials{}, time.Now(), "does not let us in without a user"},
		"wss, unknown CA": {fmt.Sprintf("wss://127.0.0.1:%d", ports[3]), Credentials{}, time.Now(), "signed by nobody whom this machine trusts"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startPublisherWith(t, test.url, test.credentials, func(c *Config) {
				c.Clock = clockOn(func() telemetry.SystemTime { return telemetry.SystemTime{Now: test.system} })
			})
			await(t, test.want, func() bool { return strings.Contains(r.log.String(), test.want) })
		})
	}
}

// While the first broker is away the next one is used, and left when the first is back.
func TestReturnToFirst(t *testing.T) {
	t.Parallel()
	ports := []int{freePort(t), freePort(t)}
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nlistener %[1]d 127.0.0.1\n", ports[1:])
	var brokers []Broker
	for _, port := range ports {
		b, err := ParseBroker(fmt.Sprintf("mqtt://127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		brokers = append(brokers, b)
	}
	r := startPublisherWith(t, brokers[0].String(), Credentials{}, func(c *Config) { c.Brokers, c.Return = brokers, 500*time.Millisecond })
	on := func(b Broker) bool { return strings.Contains(r.log.String(), "connected broker="+b.String()) }
	await(t, "the second broker", func() bool { return on(brokers[1]) })
	r.record(t, 50)
	await(t, "the PUBACK of a batch", func() bool { return r.spool.Stats().Records == 0 })
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nlistener %[1]d 127.0.0.1\n", ports[:1])
	await(t, "the first broker", func() bool { return on(brokers[0]) })
	out, err := exec.Command("mosquitto_sub", "-p", fmt.Sprint(ports[1]), "-t", "vehicles/van-1/status", "-C", "1", "-W", "5").Output()
	if err != nil || !strings.Contains(string(out), `"state":"offline"`) {
		t.Errorf("the second broker still says %s, %v", out, err)
	}
	r.record(t, 51)
	await(t, "the PUBACK of a batch", func() bool { return r.spool.Stats().Records == 0 })
	if said := r.log.String(); strings.Count(said, "msg=connected") != 2 {
		t.Errorf("%s", said)
	}
}

// Two vehicles under one client id: the broker ends the connection of one for the other,
// without a word.
func TestClientIDClash(t *testing.T) {
	t.Parallel()
	ports := []int{freePort(t)}
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nlistener %[1]d 127.0.0.1\n", ports)
	address := fmt.Sprintf("mqtt://127.0.0.1:%d", ports[0])
	one, two := startPublisher(t, address, Credentials{}), startPublisher(t, address, Credentials{})
	await(t, "a word of the clash", func() bool {
		return strings.Contains(one.log.String()+two.log.String(), "another client may use the id test")
	})
}

// A connection that ends without PUBACK acknowledges nothing, whatever the client's
// tokens say.
func TestNoAckWithoutPUBACK(t *testing.T) {
	rounds := make(chan struct{}, 100)
	address, stop := serveTCP(t, func(c net.Conn) {
		buf := make([]byte, 64<<10)
		if _, err := c.Read(buf); err == nil { // CONNECT
			_, _ = c.Write([]byte{0x20, 2, 0, 0}) // CONNACK, accepted
			for total := 0; total < 500; {        // some PUBLISH, never answered
				n, err := c.Read(buf)
				if err != nil {
					break
				}
				total += n
			}
		}
		c.Close()
		rounds <- struct{}{}
	})
	r := startPublisher(t, "mqtt://"+address, Credentials{})
	for i := range 20 {
		r.record(t, float64(i))
	}
	<-rounds
	<-rounds
	if n := r.spool.Stats().Records; n != 20 {
		t.Errorf("%d of 20 records wait", n)
	}
	r.stop()
	stop()
}

// A broker that accepts and then says nothing does not hold a stop.
func TestStopInBlackHole(t *testing.T) {
	accepted := make(chan net.Conn, 10)
	address, stop := serveTCP(t, func(c net.Conn) { accepted <- c })
	defer stop()
	r := startPublisher(t, "mqtt://"+address, Credentials{})
	c := <-accepted
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the stop took %v", took)
	}
	c.Close()
}

func TestParseBroker(t *testing.T) {
	for s, want := range map[string]string{
		"mqtt://broker.example": "mqtt://broker.example:1883", "mqtts://[::1]": "mqtts://[::1]:8883", "ws://h:9001/mqtt": "ws://h:9001/mqtt", "wss://h": "wss://h:443",
	} {
		if b, err := ParseBroker(s); err != nil || b.String() != want {
			t.Errorf("ParseBroker(%q) = %v, %v", s, b, err)
		}
	}
	for s, want := range map[string]string{
		"http://h": "unknown scheme", "broker.example": "no scheme", "mqtt://": "names no host", "mqtt://user:pw@h": "--password-file", "mqtt://h/x": "nothing may follow",
	} {
		if b, err := ParseBroker(s); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pw") {
			t.Errorf("ParseBroker(%q) = %v, %v", s, b, err)
		}
	}
}
