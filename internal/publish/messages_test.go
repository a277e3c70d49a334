package publish

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"telemetryd/internal/telemetry"
)

var update = flag.Bool("update", false, "write the messages in docs/brokers.md anew")

// seenHealth keeps each condition of the broker.
type seenHealth struct {
	mu   sync.Mutex
	seen []telemetry.Condition
}

func (h *seenHealth) Set(_ string, c telemetry.Condition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, c)
}

func (h *seenHealth) Clear(string, string)              {}
func (h *seenHealth) Conditions() []telemetry.Condition { return nil }

func (h *seenHealth) first() (telemetry.Condition, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.seen) == 0 {
		return telemetry.Condition{}, false
	}
	return h.seen[0], true
}

// refusing accepts connections, reads the CONNECT and answers with these bytes.
func refusing(t *testing.T, answer string) string {
	t.Helper()
	address, stop := serveTCP(t, func(c net.Conn) {
		if _, err := packets.ReadPacket(c); err == nil {
			_, _ = io.WriteString(c, answer)
		}
		c.Close()
	})
	t.Cleanup(stop)
	return address
}

// What a user sees of a broker that does not take him, from real refusals, is what
// docs/brokers.md says; `make docs` writes it.
func TestMessages(t *testing.T) {
	dir := t.TempDir()
	day := 24 * time.Hour
	now := time.Now()
	ours, foreign := newAuthority(t, dir, "ours"), newAuthority(t, dir, "foreign")
	server := ours.certify(t, "server", now.Add(-day), now.Add(day))
	expired := ours.certify(t, "expired", now.Add(-2*day), now.Add(-day))
	stranger := foreign.certify(t, "stranger", now.Add(-day), now.Add(day))
	passwords := filepath.Join(dir, "passwords")
	if out, err := exec.Command("mosquitto_passwd", "-b", "-c", passwords, "van-12", "secret").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	wrong := filepath.Join(dir, "wrong")
	if err := os.WriteFile(wrong, []byte("guess\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ports := []int{freePort(t), freePort(t), freePort(t)}
	pair := func(p certificate) string { return fmt.Sprintf("certfile %s\nkeyfile %s\n", p.cert, p.key) }
	startMosquitto(t, dir, "allow_anonymous false\npassword_file "+passwords+"\nlistener %[1]d 127.0.0.1\n"+pair(server)+
		"listener %[2]d 127.0.0.1\n"+pair(server)+"cafile "+ours.file+"\nrequire_certificate true\nuse_identity_as_username true\n"+
		"listener %[3]d 127.0.0.1\n"+pair(expired), ports)
	at := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	loaded, err := tls.LoadX509KeyPair(server.cert, server.key)
	if err != nil {
		t.Fatal(err)
	}
	choosy, stop := serveTCP(t, func(c net.Conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{loaded}, NextProtos: []string{"x-amzn-mqtt-ca"}})
		_ = s.Handshake()
		s.Close()
	})
	t.Cleanup(stop)

	us := Credentials{Username: "van-12", PasswordFile: wrong, CAFile: ours.file}
	with := func(change func(*Credentials)) Credentials {
		c := us
		change(&c)
		return c
	}
	certified := func(p certificate) Credentials {
		return with(func(c *Credentials) { c.CertFile, c.KeyFile = p.cert, p.key })
	}
	rows := []string{}
	row := func(what, code, title, remedy string) {
		rows = append(rows, fmt.Sprintf("| %s | `%s` | %s | %s |\n", what, code, title, remedy))
	}
	dates := regexp.MustCompile(`\b\d{4}-\d\d-\d\d\b`)
	for _, test := range []struct {
		what, scheme, address string
		credentials           Credentials
		system                telemetry.SystemTime
	}{
		{"nothing runs there", "mqtts", fmt.Sprintf("127.0.0.1:%d", freePort(t)), us, telemetry.SystemTime{}},
		{"no such name, or no network", "mqtts", "broker.invalid:8883", us, telemetry.SystemTime{}},
		{"`mqtts://` on a port without TLS", "mqtts", plainText(t), us, telemetry.SystemTime{}},
		{"the broker's certificate is of a CA that is not ours", "mqtts", at(0), with(func(c *Credentials) { c.CAFile = foreign.file }), telemetry.SystemTime{}},
		{"it has another name", "mqtts", at(0), with(func(c *Credentials) { c.ServerName = "broker.internal" }), telemetry.SystemTime{}},
		{"it has expired", "mqtts", at(2), us, telemetry.SystemTime{}},
		{"the clock here stands in 1970", "mqtts", at(0), us, telemetry.SystemTime{Now: time.Unix(100, 0)}},
		{"the broker wants a client certificate, and there is none", "mqtts", at(1), us, telemetry.SystemTime{}},
		{"ours is signed by a foreign CA", "mqtts", at(1), certified(stranger), telemetry.SystemTime{}},
		{"ours has expired", "mqtts", at(1), certified(expired), telemetry.SystemTime{}},
		{"ours is not for clients", "mqtts", at(1), certified(ours.certifyFor(t, "not-client")), telemetry.SystemTime{}},
		{"the port asks for another ALPN", "mqtts", choosy, with(func(c *Credentials) { c.ALPN = []string{"mqtt"} }), telemetry.SystemTime{}},
		{"wrong password", "mqtts", at(0), us, telemetry.SystemTime{}},
		{"no user", "mqtts", at(0), with(func(c *Credentials) { c.Username, c.PasswordFile = "", "" }), telemetry.SystemTime{}},
		{"the client id is refused", "mqtt", refusing(t, "\x20\x02\x00\x02"), us, telemetry.SystemTime{}},
		{"a rule denies the connection", "mqtt", refusing(t, ""), us, telemetry.SystemTime{}},
	} {
		t.Run(test.what, func(t *testing.T) {
			if test.system.Now.IsZero() {
				test.system = telemetry.SystemTime{Now: time.Now(), Synced: true}
			}
			health := &seenHealth{}
			url := test.scheme + "://" + test.address
			r := startPublisherWith(t, url, test.credentials, func(c *Config) {
				c.VehicleID, c.ClientID, c.Health = "van-12", "telemetryd-van-12", health
				c.Clock = clockOn(func() telemetry.SystemTime { return test.system })
			})
			await(t, "a condition", func() bool { _, is := health.first(); return is })
			r.stop()
			c, _ := health.first()
			text := strings.NewReplacer(url, test.scheme+"://broker.example:"+defaultPorts[test.scheme], dir+"/", "", "broker.invalid", "broker.example")
			row(test.what, c.Code, dates.ReplaceAllString(text.Replace(c.Title), "DATE"), text.Replace(c.Remedy))
		})
	}
	// Their causes are proven by tests of their own: TestDeliveryCheck, TestClientIDClash,
	// TestRefusedByBroker and TestMaxMessage.
	s := &sender{publisher: &publisher{Config: Config{TopicPrefix: "vehicles", VehicleID: "van-12", Credentials: us}}}
	denied := s.noEcho()
	row("an access rule denies what is published", denied.Code, denied.Title, denied.Remedy)
	b, err := ParseBroker("mqtts://broker.example")
	if err != nil {
		t.Fatal(err)
	}
	two := clash("telemetryd-van-12", b)
	row("two clients have one id", two.Code, two.Title, two.Remedy)
	row("a message is larger than the broker takes", "data_gap", givenUp, endsConnections(70000).Error())
	row("it is larger than `--max-message`", "data_gap", givenUp, Limits{MaxMessage: 4096}.tooLarge("", make([]byte, 5000)).Error())

	const name, begin, end = "../../docs/brokers.md", "<!-- messages, written by make docs -->\n", "<!-- end of the messages -->\n"
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(content), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the messages", name)
	}
	want := before + begin + "| what is wrong | code | what is said | what to do |\n| --- | --- | --- | --- |\n" + strings.Join(rows, "") + end + after
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(content) != want {
		t.Errorf("%s does not tell what is said; make docs writes it:\n%s", name, strings.Join(rows, ""))
	}
}

// plainText is a server that greets in words.
func plainText(t *testing.T) string {
	t.Helper()
	address, stop := serveTCP(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 mail.example ESMTP\r\n")
		_, _ = io.Copy(io.Discard, c)
		c.Close()
	})
	t.Cleanup(stop)
	return address
}
