package bench

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const (
	emergencies    = 20
	emergencyEvery = 2 * time.Second
	// emergencyLimit is within how long one has to be at the broker, at the median.
	emergencyLimit  = time.Second
	behind          = 100_000_000 // bytes of backlog
	emergencyWaited = 30 * time.Second
)

// caller is one vehicle that calls for help behind a link of its own.
type caller struct {
	behindLink

	mu       sync.Mutex
	arrived  map[string]time.Time // emergencies, by their note
	backfill int                  // messages
}

// TestEmergency is how long an emergency takes from the start of `telemetryd emit` to a
// subscriber at the broker, while a backlog of 100 MB fills the link: whole processes, all
// links at once, each with its own buffer.
func TestEmergency(t *testing.T) {
	port := freePort(t)
	ways, addresses := links(t, port)
	var callers []*caller
	for _, way := range ways {
		callers = append(callers, &caller{behindLink: way})
	}
	broker(t, port, addresses...)
	byID := map[string]*caller{}
	for _, c := range callers {
		c.arrived = map[string]time.Time{}
		byID[c.id] = c
	}
	subscribe(t, port, func(m mqtt.Message) {
		part := strings.Split(m.Topic(), "/")
		byID[part[0]].take(m, part[2])
	})
	full := t.TempDir()
	records := backlog(t, full, behind, liveSize)
	program := daemon(t)
	var table strings.Builder
	fmt.Fprintf(&table, "emergencies, %d behind a backlog of %d MB, from the start of telemetryd emit to the subscriber\n", emergencies, behind/1_000_000)
	fmt.Fprintln(&table, "| link, queue | median | worst | backlog meanwhile, kB/s |\n| --- | --- | --- | --- |")
	rows := make([]string, len(callers))
	var all sync.WaitGroup
	for i, c := range callers {
		dir := t.TempDir()
		copyDir(t, dir, full)
		all.Go(func() { rows[i] = c.call(t, program, dir, records) })
	}
	all.Wait()
	t.Log(table.String() + strings.Join(rows, ""))
}

func (c *caller) take(m mqtt.Message, kind string) {
	at := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if kind == "backfill" {
		c.backfill++
		return
	}
	var e struct {
		Type string
		Data struct{ Note string }
	}
	if kind != "events" || json.Unmarshal(m.Payload(), &e) != nil || e.Type != "emergency" {
		return
	}
	if _, twice := c.arrived[e.Data.Note]; !twice {
		c.arrived[e.Data.Note] = at
	}
}

// drained is how many messages of the backlog have arrived.
func (c *caller) drained() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.backfill
}

// call emits while the backlog leaves, and returns the row of the table.
func (c *caller) call(t *testing.T, program, dir string, records int) string {
	start(t, program, "--vehicle-id", "van-1", "--topic-prefix", c.id, "--client-id", c.id, "--broker", c.broker, "--obd", "off", "--gps", "off",
		"--http", "off", "--state-dir", dir, "--buffer-size", "1GB")
	for end := time.Now().Add(emergencyWaited); c.drained() < 200; {
		if time.Now().After(end) {
			t.Errorf("%s: the backlog does not leave", c.link)
			return ""
		}
		sleep(t.Context(), 50*time.Millisecond)
	}
	from, began := c.drained(), time.Now()
	var took []time.Duration
	for i := range emergencies {
		note, at := fmt.Sprint(i), time.Now()
		if out, err := exec.CommandContext(t.Context(), program, "emit", "emergency", "--note", note, "--state-dir", dir).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", c.link, err, out)
			return ""
		}
		for {
			c.mu.Lock()
			arrived, ok := c.arrived[note]
			c.mu.Unlock()
			if ok {
				took = append(took, arrived.Sub(at))
				break
			}
			if time.Since(at) > emergencyWaited {
				t.Errorf("%s: emergency %d has not arrived within %v", c.link, i, emergencyWaited)
				return ""
			}
			sleep(t.Context(), 10*time.Millisecond)
		}
		sleep(t.Context(), time.Until(at.Add(emergencyEvery)))
	}
	rate := float64((c.drained()-from)*liveSize) / time.Since(began).Seconds()
	if n := c.drained(); n >= records {
		t.Errorf("%s: the backlog was through before the last emergency", c.link)
	}
	slices.Sort(took)
	median := took[len(took)/2]
	if median > emergencyLimit {
		t.Errorf("%s: the median is %v, wanted: %v", c.link, median, emergencyLimit)
	}
	return fmt.Sprintf("| %s | %d ms | %d ms | %.0f |\n", c.link, median.Milliseconds(), took[len(took)-1].Milliseconds(), rate/1000)
}
