package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// receiver is `telemetryd sim` with a GPS receiver alone, on a pseudo-terminal behind
// a link. Ended it is pulled out; started anew it comes back as another device.
type receiver struct {
	t     testing.TB
	rate  int // fixes per second
	baud  int
	link  string
	truth []string // logs, one for each time it was plugged in
	*process
}

// newReceiver plugs one in, at a link that users other than root can reach: gpsd gives
// up root.
func newReceiver(t testing.TB, rate, baud int) *receiver {
	t.Helper()
	dir, err := os.MkdirTemp("", "telemetryd-gpsd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := &receiver{t: t, rate: rate, baud: baud, link: filepath.Join(dir, "receiver")}
	r.plug()
	return r
}

func (r *receiver) plug() {
	r.t.Helper()
	truth := filepath.Join(r.t.TempDir(), "truth.jsonl")
	r.truth = append(r.truth, truth)
	r.process = start(r.t, nil, "telemetryd", "sim", "--obd", "off", "--gps", "pty:"+r.link, "--gps-rate", strconv.Itoa(r.rate), "--gps-baud", strconv.Itoa(r.baud), "--truth", truth)
	for range 200 {
		if os.Chmod(r.link, 0o666) == nil { // as udev gives ttys to the group dialout
			return
		}
		time.Sleep(50 * time.Millisecond) // waiting for another process
	}
	r.t.Fatal("no receiver")
}

func (r *receiver) unplug() {
	r.t.Helper()
	r.end(syscall.SIGTERM)
	if _, err := os.Lstat(r.link); err == nil {
		r.t.Fatal("the receiver's link is still there")
	}
}

// gpsd is the distribution's gpsd on a port of its own.
type gpsd struct {
	t    testing.TB
	port int
	link string
	*process
}

func newGPSD(t testing.TB, link string) *gpsd {
	t.Helper()
	g := &gpsd{t: t, port: freePort(t), link: link}
	g.run()
	return g
}

func (g *gpsd) address() string { return fmt.Sprintf("127.0.0.1:%d", g.port) }

// run starts it: in the foreground, device open without clients, never changing it.
func (g *gpsd) run() {
	g.t.Helper()
	g.process = start(g.t, nil, "gpsd", "-N", "-n", "-b", "-S", strconv.Itoa(g.port), g.link)
	for range 200 {
		if c, err := net.Dial("tcp", g.address()); err == nil {
			c.Close()
			return
		}
		time.Sleep(50 * time.Millisecond) // waiting for another process
	}
	g.t.Fatal("gpsd does not accept connections")
}

// fixes are the positions published, by time.
func fixes(t *testing.T, ms []message) map[time.Time]map[string]json.RawMessage {
	t.Helper()
	all := map[time.Time]map[string]json.RawMessage{}
	for _, m := range ms {
		for _, sample := range m.Samples {
			if sample["latitude"] == nil {
				continue
			}
			at, err := time.Parse(`"`+time.RFC3339Nano+`"`, string(sample["t"]))
			if err != nil {
				t.Fatal(err)
			}
			all[at] = sample
		}
	}
	return all
}

// near is how far a value may be from the truth: what gpsd prints, and for what comes
// with SKY, which has no time, what changes within a second.
var near = map[string]float64{
	"latitude": 1e-6, "longitude": 1e-6, "altitude_m": 0.01, "gps_speed_kmh": 0.02, "heading_deg": 0.01, "satellites": 1, "hdop": 0.011,
}

// outage is how long nothing is published when the receiver, gpsd or its connection is
// away; reopening is how long behind it gpsd tells a part of the fixes only.
const (
	outage    = time.Second
	reopening = 1500 * time.Millisecond
)

// checkFixes compares what was published with what the receiver told: every fix, but for
// those in outages. It returns how many there were.
func checkFixes(t *testing.T, got map[time.Time]map[string]json.RawMessage, logs []string) (compared int) {
	t.Helper()
	for _, log := range logs {
		epochs := map[time.Time]map[string]json.RawMessage{}
		for name, values := range readTruth(t, log) {
			for _, v := range values {
				if epochs[v.t] == nil {
					epochs[v.t] = map[string]json.RawMessage{}
				}
				epochs[v.t][name] = json.RawMessage(v.value)
			}
		}
		var published, back, missing time.Time // the last published, since when, the first missing behind it
		for _, at := range slices.SortedFunc(maps.Keys(epochs), time.Time.Compare) {
			sample := got[at]
			switch {
			case sample == nil && missing.IsZero():
				missing = at
				continue
			case sample == nil:
				continue
			case published.IsZero() || at.Sub(published) > outage:
				back = at
			case !missing.IsZero() && missing.Sub(back) > reopening:
				t.Errorf("not published: %s and what follows until %s", missing.Format(time.StampMilli), at.Format(time.StampMilli))
			}
			published, missing = at, time.Time{}
			compared++
			checkFix(t, at, sample, epochs[at])
		}
	}
	for name := range near { // at first gpsd tells less, behind each opening
		n := 0
		for _, sample := range got {
			if sample[name] != nil {
				n++
			}
		}
		if n < compared*3/4 {
			t.Errorf("%d of %d fixes have %s", n, compared, name)
		}
	}
	if compared != len(got) {
		t.Errorf("%d fixes published, %d of them of times that the receiver told", len(got), compared)
	}
	return compared
}

func checkFix(t *testing.T, at time.Time, sample, truth map[string]json.RawMessage) {
	t.Helper()
	for name, value := range sample {
		if name == "t" {
			continue
		}
		limit, number := near[name]
		if !number {
			if string(value) != string(truth[name]) {
				t.Errorf("%s: %s is %s, told %s", at, name, value, truth[name])
			}
			continue
		}
		got, err := strconv.ParseFloat(string(value), 64)
		want, err2 := strconv.ParseFloat(string(truth[name]), 64)
		if err != nil || err2 != nil || math.Abs(got-want) > limit*1.0001 {
			t.Errorf("%s: %s is %s, told %s", at, name, value, truth[name])
		}
	}
}

// gpsd of the distribution, a receiver on a pseudo-terminal, and all that happens to
// them: fixes are those of the receiver, and come again each time. The same receiver
// read directly agrees, too.
func TestGPSD(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	r := newReceiver(t, 5, 38400)
	g := newGPSD(t, r.link)
	state := t.TempDir()
	d := startDaemon(t, m, vehicle{obd: "off", gps: "gpsd://" + g.address()}, state)

	flowing := func(what string, enough int, limit time.Duration) {
		t.Helper()
		began := time.Now()
		s.await("fixes after: "+what, limit, func(ms []message) bool {
			n := 0
			for at := range fixes(t, ms) {
				if at.After(began) {
					n++
				}
			}
			return n >= enough
		})
		t.Logf("%-34s %d fixes at the broker after %.1f s", what, enough, time.Since(began).Seconds())
	}
	flowing("start", 100, 60*time.Second)

	r.unplug()
	time.Sleep(2 * time.Second)
	r.plug()
	// gpsd itself needs up to 64 s to notice (see internal/gps/gpsd.go).
	flowing("receiver away for 2 s", 5, 90*time.Second)
	r.unplug()
	time.Sleep(15 * time.Second)
	if !strings.Contains(d.log.String(), "code=gps_lost") {
		t.Error("the loss of the receiver was not told")
	}
	r.plug()
	flowing("receiver away for 15 s", 5, 90*time.Second)
	g.end(syscall.SIGTERM)
	g.run()
	flowing("gpsd restarted", 5, 30*time.Second)
	g.end(syscall.SIGKILL)
	time.Sleep(5 * time.Second)
	g.run()
	flowing("gpsd killed, away for 5 s", 5, 40*time.Second)

	d.end(syscall.SIGTERM)
	g.end(syscall.SIGTERM)
	before := len(s.messages())
	t.Logf("by gpsd: %d fixes agree with the receiver", checkFixes(t, fixes(t, s.messages()), r.truth))

	d = startDaemon(t, m, vehicle{obd: "off", gps: "serial://" + r.link}, state)
	ms := s.await("fixes without gpsd", 60*time.Second, func(ms []message) bool { return len(fixes(t, ms[before:])) > 50 })
	t.Logf("directly: %d fixes agree with the receiver", checkFixes(t, fixes(t, ms[before:]), r.truth))
	d.end(syscall.SIGTERM)
}
