package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"telemetryd/internal/publish"
	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

const examples = "../../docs/examples/"

// brokerExample is a settings file of docs/examples, the rules of its broker, and what
// happens when a setting is another one.
type brokerExample struct {
	file    string
	rules   rules
	backlog int // messages
	broken  []brokenSetting
}

type brokenSetting struct {
	args    []string
	breach  string
	anyRate bool // the stand-in does not mind the rate, which would be found before
}

var brokerExamples = []brokerExample{
	{file: "aws-iot.yaml", backlog: 160,
		rules: rules{alpn: "x-amzn-mqtt-ca", mutual: true, clientID: 128, leastAlive: 30, keepAlive: 1200, packet: 128 << 10, topic: 256, slashes: 7, perSecond: 100, inFlight: 100},
		broken: []brokenSetting{
			{[]string{"--alpn", "mqtt"}, "unsupported application protocols", false},
			{[]string{"--server-name", "127.0.0.1"}, `TLS asks for ""`, false},
			{[]string{"--client-id", strings.Repeat("v", 129)}, "client id of 129 bytes", false},
			{[]string{"--keep-alive", "10s"}, "keep-alive of 10 s", false},
			{[]string{"--max-message", "none"}, "PUBLISH too large", false},
			{[]string{"--publish-rate", "0"}, "more than 100 PUBLISH in a second", false},
			{[]string{"--topic-prefix", "a/b/c/d/e/f/g"}, "topic a/b/c/d/e/f/g/van-12/status", false},
		}},
	{file: "azure-event-grid.yaml", backlog: 160,
		rules: rules{mutual: true, username: "van-12", clientID: 128, keepAlive: 1160, packet: 512 << 10, topic: 256, slashes: 7, perSecond: 100, inFlight: 1000, inBytes: 64 << 10, noRetain: true},
		broken: []brokenSetting{
			{[]string{"--username", "van-13"}, `CONNECT of the user "van-13"`, false},
			{[]string{"--keep-alive", "20m"}, "keep-alive of 1200 s", false},
			{[]string{"--retain", "yes"}, "retained will", false},
			{[]string{"--publish-rate", "0", "--in-flight", "140"}, "more than 65536 bytes in flight", true},
			{[]string{"--publish-rate", "0", "--in-flight", "20"}, "more than 100 PUBLISH in a second", false},
			{[]string{"--max-message", "none"}, "PUBLISH too large", false},
		}},
	{file: "hivemq-cloud.yaml", backlog: 160,
		rules: rules{username: "van-12", password: "secret", clientID: 65535, keepAlive: 65535, packet: 268435460, topic: 65535, slashes: 65535}},
	{file: "emqx-serverless.yaml", backlog: 15,
		rules: rules{username: "van-12", password: "secret", clientID: 23, keepAlive: 65535, packet: 1 << 20, topic: 65535, slashes: 127, perSecond: 10},
		broken: []brokenSetting{
			{[]string{"--client-id", "telemetryd-van-12-of-the-fleet"}, "client id of 30 bytes", false},
			{[]string{"--publish-rate", "0"}, "more than 10 PUBLISH in a second", false},
		}},
}

// Each example of docs/examples keeps to the rules of its broker, and would not without
// the setting that answers them.
func TestBrokerExamples(t *testing.T) {
	t.Parallel()
	for _, e := range brokerExamples {
		t.Run(e.file, func(t *testing.T) {
			t.Parallel()
			e.run(t)
			for _, b := range e.broken {
				t.Run(strings.Join(b.args, " "), func(t *testing.T) { e.breaks(t, b) })
			}
		})
	}
}

// run lets a whole daemon publish with the example.
func (e brokerExample) run(t *testing.T) {
	m := newMosquitto(t)
	watch := subscribe(t, m, "vehicles/#")
	v := startVehicle(t)
	d, s := e.start(t, m, "--obd", v.obd, "--gps", v.gps, "--batch-interval", "500ms")
	watch.await("the backlog, live batches and what is given up", 60*time.Second, func(ms []message) bool {
		return len(onTopic(ms, "backfill")) >= e.backlog && len(onTopic(ms, "telemetry")) > 2 && (e.oversize(t) == 0 || gapOf(ms, e.backlog+1))
	})
	d.end(syscall.SIGTERM)
	ms := watch.await("the status of a daemon that has ended", 10*time.Second, func(ms []message) bool {
		all := onTopic(ms, "status")
		return len(all) > 1 && all[len(all)-1].State == "offline"
	})
	if onTopic(ms, "status")[0].State != "online" {
		t.Error("the first status is not online")
	}
	if breaches, connections := s.seen(); breaches != "" || connections != 1 {
		t.Errorf("%d connections; %s\n%s", connections, breaches, d.log)
	}
	t.Logf("largest message %d bytes, at most %d in flight", s.largest, s.most)
}

// breaks proves that the stand-in finds what goes beyond a limit.
func (e brokerExample) breaks(t *testing.T, b brokenSetting) {
	m := newMosquitto(t)
	if b.anyRate {
		e.rules.perSecond = 0
	}
	d, s := e.start(t, m, append([]string{"--obd", "off", "--gps", "off"}, b.args...)...)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // waiting for another process
		breaches, _ := s.seen()
		if strings.Contains(breaches, b.breach) {
			d.end(syscall.SIGTERM)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not found: %s; but: %s", b.breach, breaches)
		}
	}
}

// start runs a daemon with the example, on a buffer with a backlog, at a stand-in with
// the example's rules. What is a name of the user's own is replaced: files, and the
// address of the broker, whose name is still asked for.
func (e brokerExample) start(t *testing.T, m *mosquitto, args ...string) (*process, *standIn) {
	t.Helper()
	written, err := readFile(examples+e.file, new(settings).targets())
	if err != nil {
		t.Fatal(err)
	}
	broker, err := url.Parse(written["broker"].texts[0])
	if err != nil {
		t.Fatal(err)
	}
	e.rules.serverName = broker.Hostname()
	dir := t.TempDir()
	certificates := certify(t, dir, broker.Hostname())
	s := newStandIn(t, e.rules, certificates, m.address())
	state := filepath.Join(dir, "state")
	fill(t, state, e.backlog, e.oversize(t))
	all := []string{"--config", examples + e.file, "--broker", broker.Scheme + "://" + s.address, "--server-name", broker.Hostname(),
		"--ca-file", filepath.Join(dir, "ca.pem"), "--state-dir", state}
	if _, is := written["cert-file"]; is {
		all = append(all, "--cert-file", filepath.Join(dir, "client.pem"), "--key-file", filepath.Join(dir, "client.key"))
	}
	if _, is := written["password-file"]; is {
		password := filepath.Join(dir, "password")
		if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		all = append(all, "--password-file", password)
	}
	return startIn(t, nil, nil, "telemetryd", append(all, args...)...), s
}

// oversize is the size of a record that the broker will not take; 0 where there is none
// that the buffer would keep.
func (e brokerExample) oversize(t *testing.T) int {
	t.Helper()
	if e.rules.packet > 600<<10 {
		return 0
	}
	return e.rules.packet + 1000
}

// fill leaves a backlog in the buffer, as an earlier daemon would: n records of about
// 1.5 kB, and one of size bytes.
func fill(t *testing.T, state string, n, size int) {
	t.Helper()
	b, err := spool.Open(state, spool.Options{StreamID: "earlier"})
	if err != nil {
		t.Fatal(err)
	}
	put := func(bytes int) {
		var batch telemetry.Batch
		batch.Add(telemetry.Reading{Fields: []telemetry.Field{{Name: "note", Value: telemetry.Text(strings.Repeat("x", bytes))}}})
		payload, err := batch.Seal("van-12", "an earlier boot", time.Now().Add(-time.Hour), telemetry.System).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Append(spool.Telemetry, payload); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		put(1500)
	}
	if size > 0 {
		put(size)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// gapOf reports whether a number of the earlier stream is named as refused.
func gapOf(ms []message, seq int) bool {
	for _, m := range onTopic(ms, "events") {
		if m.Type == "data_gap" && m.Data["gap_stream_id"] == "earlier" && m.Data["first_seq"] == float64(seq) && m.Data["reason"] == "refused" {
			return true
		}
	}
	return false
}

// certify writes ca.pem, server.pem and client.pem with their keys, the server's for a name
// and loopback, and returns the server's side.
func certify(t *testing.T, dir, name string) *tls.Config {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(file, kind string, der []byte) {
		must(os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	issue := func(who string, c, by *x509.Certificate) {
		key := rootKey
		if c != by {
			key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			must(err)
		}
		der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, rootKey)
		must(err)
		write(who+".pem", "CERTIFICATE", der)
		private, err := x509.MarshalECPrivateKey(key)
		must(err)
		write(who+".key", "EC PRIVATE KEY", private)
	}
	issue("ca", root, root)
	leaf := x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	issue("server", &leaf, root)
	leaf.Subject.CommonName, leaf.ExtKeyUsage = "van-12", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	issue("client", &leaf, root)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	must(err)
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	must(err)
	pool.AppendCertsFromPEM(ca)
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool}
}

// Batches are closed so early that they fit --max-message on any topic.
func TestBatchLimit(t *testing.T) {
	o := options{topicPrefix: "vehicles", vehicleID: "van-12", limits: publish.Limits{MaxMessage: 16 << 10}}
	if got, want := o.batchLimit(), 16<<10-len("vehicles/van-12/telemetry")-9; got != want {
		t.Errorf("%d, want %d", got, want)
	}
	o.limits.MaxMessage = 128 << 10
	if got := o.batchLimit(); got != telemetry.MaxBatchBytes {
		t.Errorf("%d", got)
	}
}

// The policy for AWS IoT is JSON, and is about the topics of the example.
func TestPolicy(t *testing.T) {
	content, err := os.ReadFile(examples + "aws-iot-policy.json")
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Statement []struct {
			Effect   string
			Action   any
			Resource string
		}
	}
	if err := json.Unmarshal(content, &policy); err != nil {
		t.Fatal(err)
	}
	allowed := map[string]string{}
	for _, s := range policy.Statement {
		for action := range strings.FieldsSeq(strings.Trim(fmt.Sprint(s.Action), "[]")) {
			allowed[s.Effect+" "+action] = s.Resource
		}
	}
	const own = "vehicles/${iot:Connection.Thing.ThingName}/*"
	for action, resource := range map[string]string{"iot:Connect": "client/${iot:Connection.Thing.ThingName}", "iot:Publish": "topic/" + own, "iot:RetainPublish": "topic/" + own,
		"iot:Subscribe": "topicfilter/" + own, "iot:Receive": "topic/" + own} {
		if !strings.HasSuffix(allowed["Allow "+action], ":"+resource) {
			t.Errorf("%s is allowed for %q", action, allowed["Allow "+action])
		}
	}
}

// The example of a mosquitto of one's own: its configuration and access rules as they
// stand there, with other files and another port.
func TestMosquittoExample(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certify(t, dir, "broker.example")
	for user, password := range map[string]string{"van-12": "secret", "ingest": "other"} {
		args := []string{"-b", filepath.Join(dir, "passwords"), user, password}
		if _, err := os.Stat(args[1]); err != nil {
			args = append([]string{"-c"}, args...)
		}
		if out, err := exec.Command("mosquitto_passwd", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	content, err := os.ReadFile(examples + "mosquitto.conf")
	if err != nil {
		t.Fatal(err)
	}
	acl, err := filepath.Abs(examples + "mosquitto.acl")
	if err != nil {
		t.Fatal(err)
	}
	m := &mosquitto{t: t, port: freePort(t), config: filepath.Join(dir, "mosquitto.conf")}
	config := strings.NewReplacer("listener 8883", fmt.Sprintf("listener %d 127.0.0.1", m.port), "/etc/mosquitto/certs", dir, "/etc/mosquitto/passwords", filepath.Join(dir, "passwords"),
		"/etc/mosquitto/mosquitto.acl", acl).Replace(string(content)) + "user root\npersistence_location " + dir + "/\n"
	if err := os.WriteFile(m.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	m.run()
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := func(args ...string) *process {
		state := t.TempDir()
		fill(t, state, 20, 70000)
		return startIn(t, nil, nil, "telemetryd", append([]string{"--config", examples + "mosquitto.yaml", "--broker", "mqtts://" + m.address(), "--server-name", "broker.example",
			"--ca-file", filepath.Join(dir, "ca.pem"), "--password-file", password, "--state-dir", state, "--obd", "off", "--gps", "off"}, args...)...)
	}
	own := daemon()
	watch := exec.Command("mosquitto_sub", "-h", "127.0.0.1", "-p", fmt.Sprint(m.port), "--cafile", filepath.Join(dir, "ca.pem"), "-u", "ingest", "-P", "other", "-t", "vehicles/van-12/status", "-C", "1", "-W", "20")
	if out, err := watch.Output(); err != nil || !strings.Contains(string(out), `"state":"online"`) {
		t.Errorf("the consumer sees %s, %v", out, err)
	}
	foreign := daemon("--vehicle-id", "van-13")
	for deadline := time.Now().Add(40 * time.Second); !strings.Contains(foreign.log.String(), "code=broker_no_echo"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the vehicle of another user publishes:\n%s", foreign.log)
		}
	}
	own.end(syscall.SIGTERM)
	said := own.log.String()
	if strings.Contains(said, "code=") || strings.Count(said, "msg=connected") != 1 || !strings.Contains(said, "larger than --max-message 70000") {
		t.Errorf("%s", said)
	}
}
