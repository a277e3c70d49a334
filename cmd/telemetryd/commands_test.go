package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// answers is a subscriber to the answers of one vehicle.
type answers struct{ *subscriber }

// answer is a response as it arrives.
type answer struct {
	ID      string          `json:"id"`
	Command string          `json:"command"`
	State   string          `json:"state"`
	Reason  string          `json:"reason"`
	Output  json.RawMessage `json:"output"`
	Became  *struct {
		State string `json:"state"`
	} `json:"became"`
}

func listen(t testing.TB, m *mosquitto, vehicleID string) answers {
	return answers{subscribe(t, m, "vehicles/"+vehicleID+"/response")}
}

func (a answers) all() (all []answer) {
	for _, m := range a.messages() {
		var r answer
		if err := json.Unmarshal([]byte(m.Payload), &r); err != nil {
			a.t.Errorf("%v: %s", err, m.Payload)
		}
		all = append(all, r)
	}
	return all
}

// awaitAfter waits for an answer behind the first n that is the one.
func (a answers) awaitAfter(n int, what string, is func(answer) bool) (found answer) {
	a.t.Helper()
	a.await(what, 20*time.Second, func([]message) bool {
		for _, r := range a.all()[n:] {
			if is(r) {
				found = r
				return true
			}
		}
		return false
	})
	return found
}

// pub publishes with mosquitto_pub.
func pub(t testing.TB, m *mosquitto, topic, payload string, more ...string) {
	t.Helper()
	args := append([]string{"-p", fmt.Sprint(m.port), "-t", topic, "-m", payload}, more...)
	if b, err := exec.Command("mosquitto_pub", args...).CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub %v: %v: %s", args, err, b)
	}
}

// ordered is a vehicle's Pi that knows the time and has no car, with commands.
func ordered(t testing.TB, m *mosquitto, v vehicle, vehicleID, commands string) *process {
	t.Helper()
	config := filepath.Join(t.TempDir(), "van.yaml")
	if err := os.WriteFile(config, []byte(commands), 0o600); err != nil {
		t.Fatal(err)
	}
	clock := filepath.Join(t.TempDir(), "wall-clock")
	if err := os.WriteFile(clock, []byte("0s synced"), 0o600); err != nil {
		t.Fatal(err)
	}
	v.wallClock = clock
	d := startDaemon(t, m, v, t.TempDir(), "--config", config, "--vehicle-id", vehicleID)
	for limit := time.Now().Add(20 * time.Second); !strings.Contains(m.log.String(), "telemetryd-"+vehicleID); time.Sleep(20 * time.Millisecond) { // another process
		if time.Now().After(limit) {
			t.Fatalf("it has not connected:\n%s", d.log)
		}
	}
	return d
}

var carless = vehicle{obd: "off", gps: "off"}

// awaitFile waits until a program wrote this file.
func awaitFile(t testing.TB, name, content string) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // another process
		b, err := os.ReadFile(name)
		if err == nil && string(b) == content {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%s: %q, %v; want %q", name, b, err, content)
		}
	}
}

// The dialogue that this project began with, to the letter: a Pi or Jetson subscribes to
// topics of its own, and reacts.
func TestSeedDialogue(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	said := listen(t, m, "van-1")
	dir := t.TempDir()
	ordered(t, m, carless, "van-1", fmt.Sprintf(`
commands:
  topics:
    jetson/control: {}
    RakTest/test: {}
    RakTest/topic: {run: bell}
  allow:
    led_on: {exec: [sh, -c, 'printf on >> %[1]s/led']}
    led_off: {exec: [sh, -c, 'printf off >> %[1]s/led']}
    tilt_up: {exec: [sh, -c, 'printf up >> %[1]s/tilt']}
    tilt_down: {exec: [sh, -c, 'printf down >> %[1]s/tilt']}
    Hello: {exec: [sh, -c, 'printf hello >> %[1]s/test']}
    bell: {exec: [sh, -c, 'printf bell >> %[1]s/topic']}
`, dir))
	python := func(topic, payload string) {
		t.Helper()
		script := fmt.Sprintf("from paho.mqtt import publish\npublish.single(%q, %q, port=%d)\n", topic, payload, m.port)
		// Debian's, whichever python3 comes first in PATH: `make deps` installs its paho.
		if b, err := exec.Command("/usr/bin/python3", "-c", script).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
	}
	pub(t, m, "jetson/control", "led_on")
	awaitFile(t, filepath.Join(dir, "led"), "on")
	python("jetson/control", "led_on")
	awaitFile(t, filepath.Join(dir, "led"), "onon")
	pub(t, m, "jetson/control", "led_off")
	awaitFile(t, filepath.Join(dir, "led"), "ononoff")
	python("jetson/control", "tilt_up")
	awaitFile(t, filepath.Join(dir, "tilt"), "up")
	pub(t, m, "jetson/control", "tilt_down")
	awaitFile(t, filepath.Join(dir, "tilt"), "updown")
	pub(t, m, "RakTest/test", "Hello")
	awaitFile(t, filepath.Join(dir, "test"), "hello")
	pub(t, m, "RakTest/topic", "World!")
	awaitFile(t, filepath.Join(dir, "topic"), "bell")
	pub(t, m, "vehicles/van-1/command/bell", "")
	awaitFile(t, filepath.Join(dir, "topic"), "bellbell")

	pub(t, m, "jetson/control", "self_destruct")
	r := said.awaitAfter(0, "the refusal of an unlisted word", func(r answer) bool { return r.State == "refused" })
	if r.Command != "self_destruct" || !strings.Contains(r.Reason, "not among the commands that the owner allows") {
		t.Errorf("%+v", r)
	}
	said.await("an answer to each", 20*time.Second, func(ms []message) bool { return len(ms) >= 17 })
	if count := said.count(); count["accepted"] != 8 || count["done"] != 8 || count["refused"] != 1 || count["failed"] != 0 {
		t.Errorf("answers %v", count)
	}
}

// count is how many answers there are, by state.
func (a answers) count() map[string]int {
	n := map[string]int{}
	for _, r := range a.all() {
		n[r.State]++
	}
	return n
}

// order runs `telemetryd command`.
func order(t testing.TB, m *mosquitto, args ...string) (out, said string, status int) {
	t.Helper()
	return ask(t, m, "command", args...)
}

// telemetryd command tells by its exit status, and in words, what became of a command.
func TestCommand(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	if _, said, status := order(t, m, "--expires", "1s", "status"); status != 1 || !strings.Contains(said, "no answer within 1s: is the vehicle connected") {
		t.Errorf("nobody there: status %d: %s", status, said)
	}
	type ended struct {
		out, said string
		status    int
	}
	early := make(chan ended)
	go func() { // it is repeated until the vehicle is there
		out, said, status := order(t, m, "status")
		early <- ended{out, said, status}
	}()
	for limit := time.Now().Add(20 * time.Second); strings.Count(m.log.String(), "telemetryd-command-") < 2 && time.Now().Before(limit); {
		time.Sleep(20 * time.Millisecond) // another process
	}
	const section = `
commands:
  allow:
    status: {}
    say: {exec: [echo, "{text}"], args: {text: {pattern: '[a-z ]+'}}}
    broken: {exec: ["false"]}
    slow: {exec: [sleep, "60"], timeout: 1s}
`
	ordered(t, m, carless, "van-1", section)
	if e := <-early; e.status != 0 || !strings.Contains(e.out, `"vehicle_id":"van-1","state":"online"`) {
		t.Errorf("a vehicle that came later: %+v", e)
	}
	for _, c := range []struct {
		args      []string
		status    int
		out, said string
	}{
		{[]string{"say", "text=hello you"}, 0, `{"exit_code":0,"output":"hello you\n"}` + "\n", "accepted"},
		{[]string{"--expires", "0", "say", "text=x"}, 0, `{"exit_code":0,"output":"x\n"}` + "\n", "accepted"},
		{[]string{"broken"}, 1, `{"exit_code":1,"output":""}` + "\n", "failed: false ended with exit status 1"},
		{[]string{"slow"}, 1, `{"exit_code":-1,"output":""}` + "\n", "failed: sleep did not end within 1s and was killed"},
		{[]string{"say"}, 1, "", "refused: the argument text is missing"},
		{[]string{"say", "text=A"}, 1, "", "refused: the argument text does not match its pattern [a-z ]+"},
		{[]string{"status", "x=1"}, 1, "", "failed: argument \"x\"; this command takes none"},
		{[]string{"reboot"}, 1, "", "refused: reboot is not among"},
		{[]string{"../x"}, 2, "", `"../x" is no name for a command`},
		{[]string{"say", "x"}, 2, "", "allowed: name=value"},
		{[]string{"--expires", "48h", "say"}, 2, "", "allowed: 1s to 24h"},
		{nil, 2, "", "expected"},
	} {
		out, said, status := order(t, m, c.args...)
		if status != c.status || out != c.out || !strings.Contains(said, c.said) {
			t.Errorf("%q: status %d\n%s%s", c.args, status, out, said)
		}
	}
}

// A command that runs for longer than it could have waited is done when it is done: that its
// repetition has expired by then is no answer to the first.
func TestCommandOutlastsExpiry(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	ordered(t, m, carless, "van-1", "commands: {allow: {long: {exec: [sleep, \"7\"], timeout: 20s}}}\n")
	if out, said, status := order(t, m, "--expires", "3s", "long"); status != 0 || !strings.Contains(out, `"exit_code":0`) {
		t.Errorf("status %d\n%s%s", status, out, said)
	}
}

// An answer that the connection was lost for arrives on the next one, and whoever repeats the
// id learns what became of it, over a kill too.
func TestAnswerOutlastsConnection(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	said := listen(t, m, "van-1")
	dir := t.TempDir()
	config := filepath.Join(dir, "van.yaml")
	if err := os.WriteFile(config, []byte("commands: {allow: {slow: {exec: [sleep, \"3\"]}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func() *process { return startDaemon(t, m, carless, filepath.Join(dir, "state"), "--config", config) }
	d := run()
	const slow = `{"id":"once","command":"slow"}`
	is := func(state string) func(answer) bool {
		return func(r answer) bool { return r.ID == "once" && r.State == state }
	}
	for limit := time.Now().Add(20 * time.Second); len(said.all()) == 0 && time.Now().Before(limit); time.Sleep(500 * time.Millisecond) {
		pub(t, m, "vehicles/van-1/command", slow, "-q", "1") // until it is subscribed to; it runs once
	}
	said.awaitAfter(0, "accepted", is("accepted"))
	m.end(syscall.SIGTERM) // which keeps the subscriber's session
	time.Sleep(4 * time.Second)
	m.run()
	said.awaitAfter(0, "done, on the next connection", is("done"))

	d.end(syscall.SIGKILL)
	before := len(said.all())
	run()
	for limit := time.Now().Add(20 * time.Second); len(said.all()) == before && time.Now().Before(limit); time.Sleep(500 * time.Millisecond) {
		pub(t, m, "vehicles/van-1/command", slow, "-q", "1")
	}
	if r := said.awaitAfter(before, "a refusal after the restart", is("refused")); r.Became == nil || r.Became.State != "done" && r.Became.State != "failed" {
		t.Errorf("%+v", r)
	}
	if n := said.count()["accepted"]; n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

// Without the section nothing is subscribed to.
func TestNoCommands(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	d := ordered(t, m, carless, "van-1", "batch_form: rows\n")
	if out, said, status := order(t, m, "--expires", "2s", "status"); status != 1 {
		t.Errorf("status %d: %s%s", status, out, said)
	}
	d.end(syscall.SIGTERM)
	if strings.Contains(d.log.String(), "command") {
		t.Errorf("%s", d.log)
	}
}

// A stop ends a program that runs, in time, and says so.
func TestStopWhileCommandRuns(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	said := listen(t, m, "van-1")
	d := ordered(t, m, carless, "van-1", "commands: {allow: {slow: {exec: [sleep, \"60\"], timeout: 2m}}}\n")
	for limit := time.Now().Add(20 * time.Second); len(said.all()) == 0 && time.Now().Before(limit); time.Sleep(500 * time.Millisecond) {
		pub(t, m, "vehicles/van-1/command", `{"id":"long","command":"slow"}`)
	}
	if took := d.end(syscall.SIGTERM); took > 2*time.Second || d.err != nil {
		t.Errorf("SIGTERM: %v after %v", d.err, took)
	}
	r := said.awaitAfter(0, "what became of it", func(r answer) bool { return r.State == "failed" })
	if r.ID != "long" || !strings.Contains(r.Reason, "the daemon stops") {
		t.Errorf("%+v", r)
	}
}

// The settings that docs/commands.md shows are right.
func TestCommandsDoc(t *testing.T) {
	doc, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(doc), "```yaml\n")
	block, _, ok := strings.Cut(block, "```")
	if !ok {
		t.Fatal("no settings in docs/commands.md")
	}
	dir := t.TempDir()
	_, public := openssl(t, dir, "command")
	file := filepath.Join(dir, "van.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(block, "/etc/telemetryd/command.pub", public, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	var s settings
	values, err := readFile(file, s.targets())
	if err != nil {
		t.Fatal(err)
	}
	if err := decode(file, "commands", values["commands"].node, &s.sections.commands); err != nil {
		t.Fatal(err)
	}
	o, err := s.sections.commands.judge("vehicles/van-12", file)
	if err != nil || len(o.allow) != 6 || o.topics["RakTest/topic"] != "bell" || o.publicKey == nil || !o.allow["dim"].Takes() {
		t.Errorf("%+v, %v", o, err)
	}
}
