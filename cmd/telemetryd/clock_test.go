package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// wallClockAt makes the system clock of daemons that start from now on, and sets it.
// The tests that use it do not run in parallel with each other: it is an environment.
func wallClockAt(t *testing.T, setting string) (set func(string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "wall-clock")
	set = func(s string) {
		if err := os.WriteFile(file+".new", []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	set(setting)
	t.Setenv("TEST_WALL_CLOCK", file)
	return set
}

// in1970 is a system clock that begins in 1970.
func in1970() string { return strconv.Itoa(-int(time.Now().Unix())) + "s unsynced" }

// goodTime is how far a sample may be from the truth once the receiver told the time.
const goodTime = 600 * time.Millisecond

// checkTimes proves every sample by the truth log: as it stands or, where its time was
// guessed, by the correction of its boot. It returns how many were of either kind.
func checkTimes(t *testing.T, ms []message, truthFile string, zero time.Time) (known, guessed int) {
	t.Helper()
	all := readTruth(t, truthFile)
	for _, m := range ms {
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
	for _, test := range []struct {
		name         string
		kill, broker bool
	}{{"", false, true}, {"killed", true, true}, {"no broker", false, false}} {
		t.Run(test.name, func(t *testing.T) {
			wallClockAt(t, in1970())
			m := newMosquitto(t)
			s := subscribe(t, m, "vehicles/van-1/#")
			v := startVehicle(t, "--no-fix-for", "15s")
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
			if test.kill {
				time.Sleep(time.Second)
				d.end(syscall.SIGKILL)
				d = startDaemon(t, m, v, state)
			}
			if !test.broker {
				for deadline := time.Now().Add(40 * time.Second); !strings.Contains(stateOf(t, state), `"clock":"gps"`); time.Sleep(100 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatal("the time was not found")
					}
				}
				m.run()
			}
			s.await("the correction", 60*time.Second, func(ms []message) bool { return len(corrections(ms)) > 0 })
			ms := s.await("batches behind it", 30*time.Second, func(ms []message) bool {
				n := len(onTopic(ms, "telemetry"))
				return n > 5 && strings.Contains(onTopic(ms, "telemetry")[n-5].Payload, `"clock":"gps"`)
			})
			all := corrections(ms)
			if len(all) != 1 {
				t.Fatalf("%d corrections", len(all))
			}
			known, guessed := checkTimes(t, ms, v.truth, zeroOf(t, all[0]))
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
	b, err := os.ReadFile(filepath.Join(dir, "clock"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

// The system's clock is synchronised and jumps an hour back in mid drive: no sample
// moves.
func TestSystemClockJumps(t *testing.T) {
	set := wallClockAt(t, "0s synced")
	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	v := startVehicle(t, "--no-fix-for", "1h")
	startDaemon(t, m, v, t.TempDir())
	s.await("batches", 30*time.Second, func(ms []message) bool { return len(onTopic(ms, "telemetry")) > 5 })
	set("-1h synced")
	before := len(onTopic(s.messages(), "telemetry"))
	s.await("batches after the jump", 30*time.Second, func(ms []message) bool { return len(onTopic(ms, "telemetry")) > before+5 })
	set("-1h unsynced")
	before = len(onTopic(s.messages(), "telemetry"))
	ms := s.await("batches of a clock that nobody keeps", 30*time.Second, func(ms []message) bool { return len(onTopic(ms, "telemetry")) > before+5 })
	if n := checkSamples(t, ms, v.truth); n < 50 || strings.Contains(joined(ms), "unsynced") {
		t.Errorf("%d values", n)
	}
}
