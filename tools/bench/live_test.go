package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"telemetryd/internal/modem"
	"telemetryd/internal/publish"
	"telemetryd/internal/spool"
	"telemetryd/internal/status"
)

const (
	liveEvery = 5 * time.Second // the default batch interval
	liveSize  = 2500
)

// mobile is the link of the measurement: 1 Mbit/s each way.
var mobile = modem.Link{Rate: 125_000, RoundTrip: 100 * time.Millisecond}

// vehicle is one publisher behind a link of its own.
type vehicle struct {
	behindLink

	mu       sync.Mutex
	appended map[string]time.Time // live batches, by stream and seq
	late     []time.Duration      // from append to arrival
	backfill int                  // bytes that arrived
	bloated  int                  // most bytes of backlog that arrived between the two
	under    map[string]int       // backfill at the append
}

// arrived notes a message.
func (v *vehicle) arrived(m mqtt.Message, kind string) {
	at := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if kind == "backfill" {
		v.backfill += len(m.Payload())
		return
	}
	var head struct {
		StreamID string `json:"stream_id"`
		Seq      uint64 `json:"seq"`
	}
	if json.Unmarshal(m.Payload(), &head) != nil {
		return
	}
	key := fmt.Sprint(head.StreamID, head.Seq)
	if began, ok := v.appended[key]; ok {
		delete(v.appended, key)
		v.late = append(v.late, at.Sub(began))
		v.bloated = max(v.bloated, v.backfill-v.under[key])
	}
}

// phase is what one length of time showed.
type phase struct {
	batches       int
	median, worst time.Duration
	missing       int
	front         int     // most bytes of backlog that arrived between append and arrival
	backfill      float64 // bytes a second
}

// drive publishes live batches from a state directory for a while.
func (v *vehicle) drive(t *testing.T, dir, stream string, length time.Duration) phase {
	b, err := publish.ParseBroker(v.broker)
	if err != nil {
		t.Error(err)
		return phase{}
	}
	s, err := spool.Open(dir, spool.Options{StreamID: stream, MaxBytes: 2 * gigabyte})
	if err != nil {
		t.Error(err)
		return phase{}
	}
	defer s.Close()
	c := clock("boot")
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		publish.Run(ctx, publish.Config{Brokers: []publish.Broker{b}, ClientID: v.id, TopicPrefix: v.id, VehicleID: "van-1", StreamID: stream,
			Version: "bench", WriteOnly: true, Store: s, Clock: c, Health: status.NewHealth(log), Log: log})
	})
	v.mu.Lock()
	v.appended, v.under, v.late, v.backfill, v.bloated = map[string]time.Time{}, map[string]int{}, nil, 0, 0
	v.mu.Unlock()
	for end := time.Now().Add(length); time.Now().Before(end) && sleep(ctx, liveEvery); {
		payload := batch(t, c, "boot", liveSize)
		v.mu.Lock() // it may arrive before Append returns
		r, err := s.Append(spool.Telemetry, payload)
		key := fmt.Sprint(stream, r.Seq)
		v.appended[key], v.under[key] = time.Now(), v.backfill
		v.mu.Unlock()
		if err != nil {
			t.Error(err)
			break
		}
	}
	sleep(ctx, liveEvery)
	v.mu.Lock()
	p := phase{batches: len(v.late), missing: len(v.appended), front: v.bloated, backfill: float64(v.backfill) / (length + liveEvery).Seconds()}
	slices.Sort(v.late)
	if len(v.late) > 0 {
		p.median, p.worst = v.late[len(v.late)/2], v.late[len(v.late)-1]
	}
	v.mu.Unlock()
	cancel()
	running.Wait()
	return p
}

// TestLive is what a live batch waits for with 1 GB of backlog on the same link, beside the
// same link without. All links are measured at once; each has its own buffer.
func TestLive(t *testing.T) {
	length, before := lasting(t, "LIVE_FOR", time.Minute), lasting(t, "LIVE_BEFORE", 30*time.Second)
	size := gigabyte
	if os.Getenv("LIVE_FOR") == "" {
		size /= 20 // more than a minute takes
	}
	port := freePort(t)
	ways, addresses := links(t, port)
	var vehicles []*vehicle
	for _, way := range ways {
		vehicles = append(vehicles, &vehicle{behindLink: way})
	}
	broker(t, port, addresses...)
	byID := map[string]*vehicle{}
	for _, v := range vehicles {
		byID[v.id] = v
	}
	subscribe(t, port, func(m mqtt.Message) {
		part := strings.Split(m.Topic(), "/")
		if kind := part[2]; kind == "telemetry" || kind == "backfill" {
			byID[part[0]].arrived(m, kind)
		}
	})
	full := t.TempDir()
	backlog(t, full, size, liveSize)
	type result struct{ without, with phase }
	results := make([]result, len(vehicles))
	var all sync.WaitGroup
	for i, v := range vehicles {
		dir := t.TempDir()
		copyDir(t, dir, full)
		all.Go(func() {
			results[i].without = v.drive(t, t.TempDir(), "without", before)
			results[i].with = v.drive(t, dir, "with", length)
		})
	}
	all.Wait()
	var table strings.Builder
	fmt.Fprintf(&table, "live latency, %v without and %v with a backlog of %d MB\n", before, length, size/1_000_000)
	fmt.Fprintln(&table, "| link, queue | batches | without: median | worst | with: median | worst | most backlog in front, kB | backlog, kB/s | packets dropped |")
	fmt.Fprintln(&table, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	ms := func(d time.Duration) int64 { return d.Milliseconds() }
	for i, v := range vehicles {
		a, b := results[i].without, results[i].with
		fmt.Fprintf(&table, "| %s | %d + %d | %d ms | %d ms | %d ms | %d ms | %d | %.0f | %d |\n", v.link, a.batches, b.batches,
			ms(a.median), ms(a.worst), ms(b.median), ms(b.worst), b.front/1000, b.backfill/1000, v.dropped())
		if a.missing+b.missing > 0 || a.batches == 0 || b.batches == 0 {
			t.Errorf("%s: %d + %d live batches did not arrive within %v, %d + %d did", v.link, a.missing, b.missing, liveEvery, a.batches, b.batches)
		}
		if more := b.median - a.median; more >= time.Second {
			t.Errorf("%s: the median is %v more with a backlog, wanted: less than 1 s", v.link, more)
		}
	}
	t.Log(table.String())
}
