package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
)

// setWallClock sets the system clock of the vehicle's daemons.
func (v *vehicle) setWallClock(t *testing.T, setting string) {
	t.Helper()
	if v.wallClock == "" {
		v.wallClock = filepath.Join(t.TempDir(), "wall-clock")
	}
	if err := os.WriteFile(v.wallClock+".new", []byte(setting), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(v.wallClock+".new", v.wallClock); err != nil {
		t.Fatal(err)
	}
}

// in1970 is a system clock that begins in 1970.
func in1970() string { return strconv.Itoa(-int(time.Now().Unix())) + "s unsynced" }

// goodTime is how far a sample may be from the truth once the receiver told the time.
const goodTime = 600 * time.Millisecond

// checkTimes proves every sample by the truth log: as it stands or, where its time was
// guessed, by the correction of its boot. It returns how many were of either kind.
func checkTimes(t *testing.T, ms []message, truthFile string) (known, guessed int) {
	t.Helper()
	all := readTruth(t, truthFile)
	zeros := map[string]time.Time{}
	for _, c := range corrections(ms) {
		id, _ := c.Data["boot_id"].(string)
		zeros[id] = zeroOf(t, c)
	}
	for _, m := range ms {
		zero := zeros[m.BootID]
		for _, sample := range m.Samples {
			var text string
			if err := json.Unmarshal(sample["t"], &text); err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(time.RFC3339Nano, text)
			if err != nil {
				t.Fatal(err)
			}
			if ms, ok := sample["uptime_ms"]; ok {
				n, err := strconv.ParseInt(string(ms), 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				at = zero.Add(time.Duration(n) * time.Millisecond)
				guessed++
			} else {
				known++
			}
			for name, value := range sample {
				if name != "t" && name != "uptime_ms" && !all.served(name, string(value), at, goodTime) {
					t.Errorf("seq %d: %s=%s at %v was not served then", m.Seq, name, value, at)
				}
			}
		}
	}
	return known, guessed
}

// corrections are the events that tell what was guessed.
func corrections(ms []message) (list []message) {
	for _, e := range onTopic(ms, "events") {
		if e.Type == "clock_correction" {
			list = append(list, e)
		}
	}
	return list
}

func zeroOf(t *testing.T, correction message) time.Time {
	t.Helper()
	text, _ := correction.Data["uptime_zero"].(string)
	zero, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatalf("uptime_zero of %s: %v", correction.Payload, err)
	}
	return zero
}

// The system's clock says 1970 and there is no fix at first: what leaves after the fix
// is right, what left before is covered by one correction. The same with the daemon
// killed between, and with the broker away until after the fix.
func TestStartIn1970(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name         string
		kill, broker bool
	}{{"", false, true}, {"killed", true, true}, {"no broker", false, false}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMosquitto(t)
			s := subscribe(t, m, "vehicles/van-1/#")
			v := startVehicle(t, "--no-fix-for", "15s")
			v.setWallClock(t, in1970())
			state := t.TempDir()
			if !test.broker {
				time.Sleep(2 * time.Second) // the subscriber's session is saved
				m.end(syscall.SIGTERM)
			}
			d := startDaemon(t, m, v, state)
			if test.broker {
				s.await("samples of 1970", 30*time.Second, func(ms []message) bool {
					return strings.Contains(joined(ms), `"clock":"unsynced","samples":[{"t":"1970-01-01T`)
				})
			}
			clock := "gps"
			if test.kill {
				time.Sleep(time.Second)
				d.end(syscall.SIGKILL)
				clock = "system" // known from the first moment: that there were guesses is known from the state alone
				v.setWallClock(t, "0s synced")
				d = startDaemon(t, m, v, state)
			}
			if !test.broker {
				awaitState(t, state, `"clock":"gps"`)
				out, err := exec.Command("telemetryd", "buffer", "export", "--state-dir", state).Output()
				if n := strings.Count(string(out), `"samples"`); err != nil || n == 0 || strings.Contains(string(out), "unsynced") {
					t.Errorf("exported %d batches, %v; all should be corrected", n, err)
				}
				m.run()
			}
			s.await("the correction", 60*time.Second, func(ms []message) bool { return len(corrections(ms)) > 0 })
			ms := s.await("batches behind it", 30*time.Second, func(ms []message) bool {
				n := len(onTopic(ms, "telemetry"))
				return n > 5 && strings.Contains(onTopic(ms, "telemetry")[n-5].Payload, `"clock":"`+clock+`"`)
			})
			all := corrections(ms)
			if len(all) != 1 {
				t.Fatalf("%d corrections", len(all))
			}
			known, guessed := checkTimes(t, ms, v.truth)
			t.Logf("%d samples of known time, %d of guessed", known, guessed)
			if known == 0 || test.broker != (guessed > 0) {
				t.Errorf("%d samples of known time, %d of guessed", known, guessed)
			}
			d.end(syscall.SIGTERM)
		})
	}
}

func joined(ms []message) string {
	var b strings.Builder
	for _, m := range ms {
		b.WriteString(m.Payload)
	}
	return b.String()
}

func stateOf(t *testing.T, dir string) string {
	t.Helper()
	b, err := telemetry.LoadKept(filepath.Join(dir, "clock"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

// awaitState waits until the daemon has kept this of the time.
func awaitState(t *testing.T, state, text string) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !strings.Contains(stateOf(t, state), text); time.Sleep(100 * time.Millisecond) { // waiting for other processes
		if time.Now().After(deadline) {
			t.Fatalf("%s was not kept: %s", text, stateOf(t, state))
		}
	}
}

// A power cut: what the boot before guessed and left in the buffer leaves corrected, what
// it had sent is covered by one correction, and the same second is not lived twice.
func TestRebootIn1970(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	v := startVehicle(t, "--no-fix-for", "15s")
	v.setWallClock(t, in1970())
	state := t.TempDir()
	boot := func(id string) *process {
		v.boot = id + " " + (sinceBoot() - 5*time.Second).String()
		v.setWallClock(t, in1970())
		return startDaemon(t, m, v, state)
	}
	d := boot("first")
	s.await("samples of 1970", 30*time.Second, func(ms []message) bool { return strings.Contains(joined(ms), `"t":"1970-01-01T`) })
	time.Sleep(time.Second) // the subscriber's session is saved
	m.end(syscall.SIGTERM)
	sent := len(s.messages())
	awaitState(t, state, `"last_good":"20`) // half a minute behind the first fixes
	d.end(syscall.SIGKILL)

	receiver := v.gps
	v.gps = "off" // in a garage
	m.run()
	d = boot("second")
	ms := s.await("samples of the second boot, and the correction and buffer of the first", 60*time.Second, func(ms []message) bool {
		seen := map[string]int{}
		for _, message := range ms[sent:] {
			if message.Samples != nil {
				seen[message.BootID]++
			}
		}
		return len(corrections(ms)) > 0 && seen["first"] > 5 && seen["second"] > 5
	})
	lived := time.Now().UTC().Add(-time.Minute).Format(`"` + time.RFC3339)
	for _, message := range ms[sent:] {
		if message.BootID == "first" && strings.Contains(message.Payload, `"clock":"unsynced"`) {
			t.Errorf("left uncorrected: %s", message.Payload)
		}
		for _, sample := range message.Samples {
			if message.BootID == "second" && string(sample["t"]) < lived {
				t.Errorf("a sample of the second boot is of %s", sample["t"])
			}
		}
	}
	d.end(syscall.SIGTERM)
	v.gps = receiver
	d = startDaemon(t, m, v, state) // the same boot, and a fix
	ms = s.await("the correction of the second boot", 60*time.Second, func(ms []message) bool { return len(corrections(ms)) > 1 })
	d.end(syscall.SIGTERM)
	if n := len(corrections(ms)); n != 2 {
		t.Errorf("%d corrections", n)
	}
	known, guessed := checkTimes(t, ms, v.truth)
	t.Logf("%d samples of known time, %d of guessed", known, guessed)
	if known == 0 || guessed == 0 {
		t.Errorf("%d samples of known time, %d of guessed", known, guessed)
	}
}

// A receiver that missed a rollover of the week number is 1024 weeks late; positions and
// clock are not.
func TestWeekRollover(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	v := startVehicle(t, "--rollover")
	v.setWallClock(t, in1970())
	d := startDaemon(t, m, v, t.TempDir())
	ms := s.await("batches by the receiver's clock", 60*time.Second, func(ms []message) bool {
		n := len(onTopic(ms, "telemetry"))
		return n > 10 && strings.Contains(onTopic(ms, "telemetry")[n-5].Payload, `"clock":"gps"`) && len(corrections(ms)) > 0
	})
	d.end(syscall.SIGTERM)
	known, guessed := checkTimes(t, ms, v.truth)
	if known == 0 || len(fixes(t, ms)) == 0 {
		t.Errorf("%d samples of known time, %d of guessed, %d fixes", known, guessed, len(fixes(t, ms)))
	}
}

// The time that gpsd passes on is as good as the receiver's own.
func TestTimeThroughGPSD(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	dir, err := os.MkdirTemp("", "telemetryd-gpsd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // gpsd gives up root
		t.Fatal(err)
	}
	link := filepath.Join(dir, "receiver")
	v := startVehicle(t, "--gps", "pty:"+link, "--no-fix-for", "10s")
	v.setWallClock(t, in1970())
	if err := os.Chmod(link, 0o666); err != nil {
		t.Fatal(err)
	}
	v.gps = "gpsd://" + newGPSD(t, link).address()
	state := t.TempDir()
	d := startDaemon(t, m, v, state)
	ms := s.await("batches by the receiver's clock", 90*time.Second, func(ms []message) bool {
		n := len(onTopic(ms, "telemetry"))
		return n > 10 && strings.Contains(onTopic(ms, "telemetry")[n-10].Payload, `"clock":"gps"`) && len(corrections(ms)) > 0
	})
	d.end(syscall.SIGTERM)
	for _, m := range ms { // fixes carry their own time, and satellites of another second: see TestGPSD
		for i := range m.Samples {
			if m.Samples[i]["latitude"] != nil {
				m.Samples[i] = map[string]json.RawMessage{"t": m.Samples[i]["t"]}
			}
		}
	}
	known, guessed := checkTimes(t, ms, v.truth)
	all := corrections(ms)
	t.Logf("%d samples of known time, %d of guessed; the last correction: %s", known, guessed, all[len(all)-1].Payload)
	errorMS, _ := all[len(all)-1].Data["error_ms"].(float64)
	if last := all[len(all)-1]; known == 0 || guessed == 0 || !(errorMS >= 500 && errorMS < 510) {
		t.Errorf("%d samples of known time, %d of guessed; %s", known, guessed, last.Payload)
	}
}

// The system's clock is synchronised and jumps an hour back in mid drive: no sample
// moves.
func TestSystemClockJumps(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	v := startVehicle(t, "--no-fix-for", "1h")
	v.setWallClock(t, "0s synced")
	startDaemon(t, m, v, t.TempDir())
	s.await("batches", 30*time.Second, func(ms []message) bool { return len(onTopic(ms, "telemetry")) > 5 })
	v.setWallClock(t, "-1h synced")
	before := len(onTopic(s.messages(), "telemetry"))
	s.await("batches after the jump", 30*time.Second, func(ms []message) bool { return len(onTopic(ms, "telemetry")) > before+5 })
	v.setWallClock(t, "-1h unsynced")
	before = len(onTopic(s.messages(), "telemetry"))
	ms := s.await("batches of a clock that nobody keeps", 30*time.Second, func(ms []message) bool { return len(onTopic(ms, "telemetry")) > before+5 })
	if n := checkSamples(t, ms, v.truth); n < 50 || strings.Contains(joined(ms), "unsynced") {
		t.Errorf("%d values", n)
	}
}
