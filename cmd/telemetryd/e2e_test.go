package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func startDaemon(t testing.TB, m *mosquitto, v vehicle, state string, args ...string) *process {
	t.Helper()
	return startIn(t, []string{"TEST_WALL_CLOCK=" + v.wallClock, "TEST_BOOT=" + v.boot}, nil, "telemetryd", append([]string{
		"--vehicle-id", "van-1", "--broker", "mqtt://" + m.address(), "--obd", v.obd, "--gps", v.gps,
		"--state-dir", state, "--batch-interval", "500ms"}, args...)...)
}

// truths is the truth log by signal name, in order of time.
type truths map[string][]truthValue

type truthValue struct {
	t     time.Time // when it was served; a fix: its own time
	fix   bool
	value string
}

func readTruth(t *testing.T, file string) truths {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := truths{}
	for line := range bytes.Lines(content) {
		if !bytes.HasSuffix(line, []byte{'\n'}) {
			continue // the simulator is writing it
		}
		var l struct {
			T       time.Time                  `json:"t"`
			FixTime string                     `json:"fix_time"`
			Values  map[string]json.RawMessage `json:"values"`
		}
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("truth log: %v: %s", err, line)
		}
		v := truthValue{t: l.T}
		if l.FixTime != "" {
			if v.t, err = time.Parse(time.RFC3339Nano, l.FixTime); err != nil {
				t.Fatal(err)
			}
			v.fix = true
		}
		for name, value := range l.Values {
			v.value = string(value)
			all[name] = append(all[name], v)
		}
	}
	for _, values := range all {
		slices.SortStableFunc(values, func(a, b truthValue) int { return a.t.Compare(b.t) })
	}
	return all
}

// served reports whether the car served this value within so much of its time; the
// values of a fix at exactly its time.
func (all truths) served(name, value string, at time.Time, within time.Duration) bool {
	values := all[name]
	first, _ := slices.BinarySearchFunc(values, at.Add(-within), func(v truthValue, t time.Time) int { return v.t.Compare(t) })
	for _, v := range values[first:] {
		off := at.Sub(v.t).Abs()
		if off > within {
			break
		}
		if v.value == value && (off == 0 || !v.fix) {
			return true
		}
	}
	return false
}

// checkSamples proves every published value by the truth log.
func checkSamples(t *testing.T, ms []message, truthFile string) (values int) {
	t.Helper()
	all := readTruth(t, truthFile)
	for _, m := range ms {
		seen := map[string]bool{}
		for _, sample := range m.Samples {
			var text string
			if err := json.Unmarshal(sample["t"], &text); err != nil {
				t.Fatalf("sample without t: %v", sample)
			}
			at, err := time.Parse(time.RFC3339Nano, text)
			if err != nil || seen[text] || len(sample) < 2 {
				t.Errorf("seq %d: t=%s (twice: %v), %d fields, %v", m.Seq, text, seen[text], len(sample), err)
			}
			seen[text] = true
			for name, value := range sample {
				if name == "t" || name == "uptime_ms" {
					continue
				}
				if values++; !all.served(name, string(value), at, 200*time.Millisecond) {
					t.Errorf("%s seq %d: %s=%s at %s was never served", m.StreamID, m.Seq, name, value, text)
				}
			}
		}
	}
	return values
}

// What leaves is what the car said, in the form of the contract.
func TestPublishedIsServed(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	v := startVehicle(t, "--gps-rate", "5", "--gps-baud", "38400")
	state := t.TempDir()
	d := startDaemon(t, m, v, state)
	ms := s.await("20 live batches with OBD and GPS", 60*time.Second, func(ms []message) bool {
		var all strings.Builder
		for _, m := range ms {
			all.WriteString(m.Payload)
		}
		return len(onTopic(ms, "telemetry")) >= 20 && strings.Contains(all.String(), "engine_speed_rpm") && strings.Contains(all.String(), "latitude")
	})
	if n := checkSamples(t, ms, v.truth); n < 200 {
		t.Errorf("only %d values", n)
	}
	if onTopic(ms, "backfill") != nil {
		t.Error("backlog without any outage")
	}
	for _, b := range onTopic(ms, "telemetry") {
		head := `{"schema":1,"vehicle_id":"van-1","stream_id":"`
		if !strings.HasPrefix(b.Payload, head) || len(b.Samples) == 0 {
			t.Errorf("batch %s", b.Payload)
		}
	}
	if e := onTopic(ms, "events"); len(e) == 0 || e[0].Type != "stream_start" || e[0].Seq != 1 {
		t.Errorf("first event %+v", e)
	}
	if st := onTopic(ms, "status"); len(st) == 0 || st[0].State != "online" {
		t.Errorf("status %+v", st)
	}

	if took := d.end(syscall.SIGTERM); took > 2*time.Second || d.err != nil {
		t.Errorf("SIGTERM: %v after %v", d.err, took)
	}
	ms = s.await("offline status", 10*time.Second, func(ms []message) bool {
		st := onTopic(ms, "status")
		return st[len(st)-1].State == "offline"
	})
	st := onTopic(ms, "status")
	checkLedger(t, ms, st[len(st)-1].LastSeq)
}

// timeless is a message without what a better clock may change: its times, what they are
// worth, and the order of samples that follows from them; two that come to one millisecond
// are one sample then.
func timeless(payload []byte) string {
	var m map[string]any
	if err := json.Unmarshal(payload, &m); err != nil {
		return err.Error() // it was parsed before
	}
	var values []string
	if samples, ok := m["samples"].([]any); ok {
		for _, sample := range samples {
			fields, _ := sample.(map[string]any)
			for name, value := range fields {
				if name != "t" && name != "uptime_ms" {
					values = append(values, fmt.Sprint(name, "=", value))
				}
			}
		}
		delete(m, "samples")
	}
	for _, name := range []string{"t", "uptime_ms", "clock"} {
		delete(m, name)
	}
	slices.Sort(values)
	return fmt.Sprint(m, values) // maps are printed in order
}

// checkLedger proves that every stream is whole: no seq is missing from 1 to its last,
// which its successor names, and for the newest stream last.
func checkLedger(t *testing.T, ms []message, last uint64) (streams int) {
	t.Helper()
	got := map[string]map[uint64]string{}
	next := map[string]message{} // by previous stream
	var first string
	for _, m := range ms {
		if m.Seq == 0 {
			continue // a status
		}
		if got[m.StreamID] == nil {
			got[m.StreamID] = map[uint64]string{}
		}
		// Copies of one seq differ in nothing but time quality.
		payload := timeless([]byte(m.Payload))
		if before, twice := got[m.StreamID][m.Seq]; twice && before != payload {
			t.Errorf("%s seq %d came in two versions:\n%s\n%s", m.StreamID, m.Seq, before, payload)
		}
		got[m.StreamID][m.Seq] = payload
		if m.Type != "stream_start" {
			continue
		}
		if m.Seq != 1 {
			t.Errorf("stream_start has seq %d", m.Seq)
		}
		if previous, ok := m.Data["previous_stream_id"].(string); ok {
			next[previous] = m
		} else {
			first = m.StreamID
		}
	}
	for id := first; id != ""; streams++ {
		end, successor := last, ""
		if n, ok := next[id]; ok {
			end, successor = uint64(n.Data["previous_last_seq"].(float64)), n.StreamID
		}
		for seq := uint64(1); seq <= end; seq++ {
			if got[id][seq] == "" {
				t.Errorf("stream %s: seq %d of %d is missing", id, seq, end)
			}
		}
		if n := uint64(len(got[id])); n != end {
			t.Errorf("stream %s: %d messages, last seq %d", id, n, end)
		}
		id = successor
	}
	if streams != len(got) {
		t.Errorf("%d streams, %d of them in the chain", len(got), streams)
	}
	return streams
}

// The broker is away for 30 s and killed once, the daemon is killed three times at
// random moments: nothing that was synced is lost, and live data does not wait for
// the backlog.
func TestOutage(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	soon := func(least time.Duration) { time.Sleep(least + time.Duration(random.IntN(1500))*time.Millisecond) }

	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	v := startVehicle(t)
	state := t.TempDir()
	d := startDaemon(t, m, v, state)
	s.await("live batches", 60*time.Second, func(ms []message) bool { return len(onTopic(ms, "telemetry")) > 4 })

	soon(0)
	d.end(syscall.SIGKILL) // first: in full flow
	d = startDaemon(t, m, v, state)
	soon(3 * time.Second)

	m.end(syscall.SIGTERM)
	gone := time.Now()
	soon(12 * time.Second)
	d.end(syscall.SIGKILL) // second: without a broker
	d = startDaemon(t, m, v, state)
	time.Sleep(time.Until(gone.Add(30 * time.Second)))
	before := len(s.messages())
	m.run()
	ms := s.await("backlog and live batches after the outage", 90*time.Second, func(ms []message) bool {
		return len(onTopic(ms[before:], "backfill")) > 10 && len(onTopic(ms[before:], "telemetry")) > 10
	})
	firstLive, lastBacklog := -1, -1
	for i, x := range ms[before:] {
		if strings.HasSuffix(x.Topic, "/telemetry") && firstLive < 0 {
			firstLive = i
		}
		if strings.HasSuffix(x.Topic, "/backfill") {
			lastBacklog = i
		}
	}
	if firstLive > lastBacklog {
		t.Errorf("the first live batch came as message %d, after the last of the backlog, %d", firstLive, lastBacklog)
	}

	m.end(syscall.SIGKILL)
	soon(0)
	m.run()
	soon(4 * time.Second)
	d.end(syscall.SIGKILL) // third
	d = startDaemon(t, m, v, state)
	last := len(onTopic(s.messages(), "telemetry"))
	s.await("live batches at the end", 90*time.Second, func(ms []message) bool { return len(onTopic(ms, "telemetry")) > last+5 })

	if took := d.end(syscall.SIGTERM); took > 2*time.Second || d.err != nil {
		t.Errorf("SIGTERM: %v after %v", d.err, took)
	}
	ms = s.await("offline status", 10*time.Second, func(ms []message) bool {
		st := onTopic(ms, "status")
		return st[len(st)-1].State == "offline" && len(ms) > 0
	})
	st := onTopic(ms, "status")
	if n := checkLedger(t, ms, st[len(st)-1].LastSeq); n != 4 {
		t.Errorf("%d streams, want 4", n)
	}
	t.Logf("%d values proven by the truth log", checkSamples(t, ms, v.truth))
}

// What is missing is waited for, and said once.
func TestMissingPeers(t *testing.T) {
	t.Parallel()
	v := vehicle{obd: "serial:///dev/ttyNOADAPTER", gps: fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t))}
	m := &mosquitto{t: t, port: freePort(t)}
	d := startDaemon(t, m, v, t.TempDir())
	select {
	case <-d.done:
		t.Fatalf("the daemon ended: %v", d.err)
	case <-time.After(8 * time.Second): // several attempts of each
	}
	for _, code := range []string{"adapter_missing", "gps_missing", "broker_missing"} {
		if n := strings.Count(d.log.String(), "code="+code); n != 1 {
			t.Errorf("%s is said %d times:\n%s", code, n, d.log)
		}
	}
	if took := d.end(syscall.SIGTERM); took > 2*time.Second || d.err != nil {
		t.Errorf("SIGTERM: %v after %v", d.err, took)
	}
}
