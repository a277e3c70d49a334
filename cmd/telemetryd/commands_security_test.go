package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// openssl makes a key pair as docs/commands.md tells.
func openssl(t *testing.T, dir, name string) (private, public string) {
	t.Helper()
	private, public = filepath.Join(dir, name+".key"), filepath.Join(dir, name+".pub")
	for _, args := range [][]string{{"genpkey", "-algorithm", "ed25519", "-out", private}, {"pkey", "-in", private, "-pubout", "-out", public}} {
		if b, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v: %s", args, err, b)
		}
	}
	return private, public
}

// sign runs `telemetryd command sign`.
func sign(t *testing.T, key, vehicleID string, more ...string) string {
	t.Helper()
	out, err := exec.Command("telemetryd", append([]string{"command", "sign", "--key", key, "--vehicle-id", vehicleID}, more...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// idOf is the jti of a token.
func idOf(t *testing.T, token string) string {
	t.Helper()
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil {
		t.Fatal(err)
	}
	return claims.ID
}

// With a public key configured, only what its owner signed runs: each row is refused and
// answered, and its program does not run.
func TestSecuritySigned(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	said := listen(t, m, "van-1")
	dir := t.TempDir()
	key, public := openssl(t, dir, "owner")
	stranger, _ := openssl(t, dir, "stranger")
	ran := filepath.Join(dir, "ran")
	ordered(t, m, carless, "van-1", fmt.Sprintf(`
commands:
  public_key: %s
  topics: {RakTest/topic: {run: bell}}
  allow:
    bell: {exec: [sh, -c, 'printf x >> %s']}
`, public, ran))
	const topic = "vehicles/van-1/command"
	expired := sign(t, key, "van-1", "--expires", "1s", "bell")
	later := time.Now().Add(7 * time.Second) // the tolerance for clocks, too

	good := sign(t, key, "van-1", "bell")
	pub(t, m, topic, good)
	awaitFile(t, ran, "x")
	said.awaitAfter(0, "done", func(r answer) bool { return r.ID == idOf(t, good) && r.State == "done" })

	claims := func() jwt.MapClaims {
		return jwt.MapClaims{"aud": "van-1", "exp": time.Now().Add(time.Minute).Unix(), "jti": "made", "command": "bell"}
	}
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims()).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	confused, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims()).SignedString(pem)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(sign(t, key, "van-1", "nothing"), ".")
	parts[1] = strings.Split(sign(t, key, "van-1", "bell"), ".")[1]
	time.Sleep(time.Until(later))
	for _, row := range []struct{ name, topic, payload, reason string }{
		{"forged", topic, sign(t, stranger, "van-1", "bell"), "not by the key"},
		{"claims of another", topic, strings.Join(parts, "."), "not by the key"},
		{"wrong audience", topic, sign(t, key, "van-2", "bell"), "another vehicle"},
		{"expired", topic, expired, "it has expired"},
		{"replayed", topic, good, "was used before: bell is done"},
		{"replayed elsewhere", "RakTest/topic", good, "was used before: bell is done"},
		{"alg none", topic, none, "not by the key"},
		{"HS256 by the public key", topic, confused, "not by the key"},
		{"unsigned", topic, "bell", "only signed commands"},
		{"unsigned JSON", topic, `{"command":"bell"}`, "only signed commands"},
		{"unsigned, on a topic that stands for it", "RakTest/topic", "World!", "only signed commands"},
	} {
		before := len(said.all())
		pub(t, m, row.topic, row.payload)
		said.awaitAfter(before, row.name+" is refused", func(r answer) bool { return r.State == "refused" && strings.Contains(r.Reason, row.reason) })
		time.Sleep(time.Second) // further refusals would be told together
	}
	if n := said.count(); n["accepted"] != 1 || n["done"] != 1 {
		t.Errorf("answers %v", n)
	}
	awaitFile(t, ran, "x")
	if out, told, status := order(t, m, "--key", key, "bell"); status != 0 {
		t.Errorf("telemetryd command --key: status %d: %s%s", status, out, told)
	}
	if _, told, status := order(t, m, "--key", stranger, "bell"); status != 1 || !strings.Contains(told, "refused: its signature is not by the key") {
		t.Errorf("with another key: status %d: %s", status, told)
	}
	awaitFile(t, ran, "xx")
}

// What a message can do to a vehicle that takes unsigned commands: nothing but what the owner
// listed, and nothing on the car's bus.
func TestSecurity(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	dir := t.TempDir()
	ran, recordings := filepath.Join(dir, "ran"), filepath.Join(dir, "recordings")
	// A message that was there before the vehicle.
	pub(t, m, "vehicles/van-1/command", "bell", "-r")
	pub(t, m, "RakTest/topic", "World!", "-r")
	said := listen(t, m, "van-1")
	v := startVehicle(t)
	d := ordered(t, m, v, "van-1", fmt.Sprintf(`
record: %s
commands:
  topics: {RakTest/topic: {run: bell}, jetson/control: {}}
  allow:
    status: {}
    bell: {exec: [sh, -c, 'printf x >> %s']}
    say: {exec: [echo, "{text}"], args: {text: {pattern: '.*'}}}
`, recordings, ran))
	said.await("refusals of what was retained", 20*time.Second, func(ms []message) bool {
		return len(ms) >= 2 && strings.Contains(ms[0].Payload, "retained") && strings.Contains(ms[1].Payload, "retained")
	})
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	const topic = "vehicles/van-1/command"
	before := residentKB(t, d)
	if b, err := exec.Command("mosquitto_pub", "-p", fmt.Sprint(m.port), "-q", "1", "-t", topic, "-f", large).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	said.awaitAfter(2, "a refusal of 20 MB", func(r answer) bool { return strings.Contains(r.Reason, "allowed: 8192") })
	if grown := residentKB(t, d) - before; grown > 10<<10 {
		t.Errorf("a message of 20 MB takes %d kB of memory", grown)
	}
	for _, row := range []struct{ name, topic, payload, want string }{
		{"oversized", topic, strings.Repeat("x", 8193), "allowed: 8192"},
		{"path in the name", topic, "../../bin/sh", "neither a command's name"},
		{"path in JSON", topic, `{"command":"../../bin/sh"}`, "no command's name"},
		{"path in the topic", topic + "/..", "", "no command's name"},
		{"shell in the name", topic, "bell;reboot", "neither a command's name"},
		{"unlisted built-in", topic, "clear_dtc", "not among the commands"},
		{"raw request", topic, "04", "not among the commands"},
		{"raw bytes to the adapter", topic, "ATZ\r", "neither a command's name"},
		{"an option", topic, `{"command":"say","args":{"text":"--help"}}`, "may not begin with -"},
		{"a new line", topic, `{"command":"say","args":{"text":"a\nb"}}`, "control characters"},
		{"no argument that is declared", topic, `{"command":"bell","args":{"x":"1"}}`, `takes no argument "x"`},
	} {
		before := len(said.all())
		pub(t, m, row.topic, row.payload)
		said.awaitAfter(before, row.name+" is refused", func(r answer) bool { return r.State == "refused" && strings.Contains(r.Reason, row.want) })
		time.Sleep(1100 * time.Millisecond) // further refusals would be told together
	}
	shell := "$(touch " + ran + ") `touch " + ran + "`; touch " + ran + " && cat /etc/passwd | > " + ran + " * ~ $HOME"
	payload, err := json.Marshal(map[string]any{"id": "shell", "command": "say", "args": map[string]string{"text": shell}})
	if err != nil {
		t.Fatal(err)
	}
	pub(t, m, topic, string(payload))
	r := said.awaitAfter(0, "an answer to shell characters", func(r answer) bool { return r.ID == "shell" && r.State != "accepted" })
	var output struct {
		Output string `json:"output"`
	}
	if err := json.Unmarshal(r.Output, &output); err != nil || r.State != "done" || output.Output != shell+"\n" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("something ran that was refused")
	}
	flood(t, m, d, said, ran)
	checkRequests(t, recordings)
}

// flood sends 1,000 commands a second, listed and unlisted.
func flood(t *testing.T, m *mosquitto, d *process, said answers, ran string) {
	t.Helper()
	const seconds, each = 10, 1000
	live := subscribeAs(t, m, "vehicles/van-1/telemetry", "flood")
	live.await("telemetry", 30*time.Second, func(ms []message) bool { return len(ms) > 0 })
	answersBefore, memoryBefore, began := len(said.all()), residentKB(t, d), time.Now()
	cmd := exec.Command("mosquitto_pub", "-p", fmt.Sprint(m.port), "-t", "vehicles/van-1/command", "-q", "1", "-l")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for n := range seconds * 10 {
		if _, err := io.WriteString(in, strings.Repeat("bell\nreboot\n", each/20)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(began.Add(time.Duration(n+1) * 100 * time.Millisecond)))
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	told := func() (accepted, refusals, counted int) {
		for _, r := range said.all()[answersBefore:] {
			var many struct{ Refused map[string]int }
			switch {
			case r.State == "accepted":
				accepted++
			case r.State == "refused" && json.Unmarshal(r.Output, &many) == nil && len(many.Refused) > 0:
				refusals++
				for _, n := range many.Refused {
					counted += n
				}
			case r.State == "refused":
				refusals++
				counted++
			}
		}
		return accepted, refusals, counted
	}
	said.await("an account of each message", 40*time.Second, func([]message) bool {
		accepted, _, counted := told()
		return accepted+counted >= seconds*each
	})
	took := time.Since(began)
	accepted, refusals, counted := told()
	t.Logf("%d messages in %v: %d accepted, %d refused by %d answers", seconds*each, took.Round(time.Second), accepted, counted, refusals)
	if accepted+counted != seconds*each {
		t.Errorf("%d accepted and %d refused of %d", accepted, counted, seconds*each)
	}
	if most := 20 + 5*int(took.Seconds()+1); accepted < 20 || accepted > most {
		t.Errorf("%d accepted; allowed: up to %d", accepted, most)
	}
	if most := 10 + 2*int(took.Seconds()+1); refusals > most {
		t.Errorf("%d refusals were answered; allowed: up to %d", refusals, most)
	}
	grown := residentKB(t, d) - memoryBefore
	t.Logf("memory grew by %d kB", grown)
	if grown > 32<<10 {
		t.Errorf("memory grew by %d kB", grown)
	}
	fresh := 0
	for _, b := range live.messages() {
		if b.Arrived.After(began) && b.Arrived.Before(began.Add(seconds*time.Second)) {
			fresh++
		}
	}
	if fresh < seconds { // one each half second is due
		t.Errorf("%d batches while commands were flooding", fresh)
	}
	awaitFile(t, ran, strings.Repeat("x", accepted))
	if strings.Contains(d.log.String(), "connection to") {
		t.Errorf("the connection was lost:\n%s", d.log)
	}
}

// residentKB is the memory of a process.
func residentKB(t *testing.T, p *process) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(b)
	if found == nil {
		t.Fatalf("%s", b)
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// checkRequests proves by the recording of the port, which has every byte that was sent, that
// the adapter was asked for nothing but to read.
func checkRequests(t *testing.T, recordings string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(recordings, "obd-*.rec"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	reads := regexp.MustCompile(`^(AT|ST|01|02|03|07|09|0A)`)
	requests, resets := 0, 0
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			fields := strings.SplitN(strings.TrimSpace(line), " ", 3)
			if len(fields) != 3 || fields[1] != ">" {
				continue
			}
			sent, err := strconv.Unquote(fields[2])
			if err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			for request := range strings.SplitSeq(strings.TrimRight(sent, "\r"), "\r") {
				switch request = strings.TrimSpace(request); {
				case request == "":
				case request == "ATZ":
					resets++
				case !reads.MatchString(request):
					t.Errorf("sent to the adapter: %q", request)
				default:
					requests++
				}
			}
		}
	}
	if requests < 100 || resets > 2 {
		t.Errorf("%d requests, %d resets", requests, resets)
	}
}
