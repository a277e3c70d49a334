package publish

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"telemetryd/internal/modem"
	"telemetryd/internal/spool"
	"telemetryd/internal/status"
	"telemetryd/internal/telemetry"
)

// watchedStore notes how much backlog is under way when a live batch is taken.
type watchedStore struct {
	*spool.Spool
	last uint64 // LSN of the backlog

	mu    sync.Mutex
	given uint64 // of the backlog, up to here
	acked uint64
	front []uint64 // records of backlog before each live batch
}

func (s *watchedStore) Next(c spool.Class, after uint64) (spool.Record, bool, error) {
	r, ok, err := s.Spool.Next(c, after)
	if ok && c == spool.Telemetry && r.LSN <= s.last {
		s.mu.Lock()
		s.given = max(s.given, r.LSN)
		s.mu.Unlock()
	}
	return r, ok, err
}

func (s *watchedStore) Get(lsn uint64) (spool.Record, bool, error) {
	s.mu.Lock()
	s.front = append(s.front, s.given-s.acked)
	s.mu.Unlock()
	return s.Spool.Get(lsn)
}

func (s *watchedStore) Ack(lsn uint64) {
	if lsn <= s.last {
		s.mu.Lock()
		s.acked++
		s.mu.Unlock()
	}
	s.Spool.Ack(lsn)
}

// On a link of 1 Mbit/s and 100 ms a live batch finds little backlog in front of it, and the
// link is in use all the same. make bench-live has the times.
func TestLittleInFrontOfLive(t *testing.T) {
	t.Parallel()
	const (
		rate, roundTrip = 125_000, 100 * time.Millisecond
		every, batches  = 400 * time.Millisecond, 20
		size            = 1000 // of a record, about
	)
	port := freePort(t)
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\nlistener %[1]d 127.0.0.1\n", []int{port})
	proxy, err := modem.NewProxy(fmt.Sprintf("127.0.0.1:%d", port), modem.Link{Rate: rate, RoundTrip: roundTrip, Queue: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	b, err := ParseBroker("mqtt://" + proxy.Address)
	if err != nil {
		t.Fatal(err)
	}
	s, clock := backlogOf(t, 3000)
	store := &watchedStore{Spool: s, last: 3000}
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		Run(ctx, Config{Brokers: []Broker{b}, ClientID: "front", TopicPrefix: "vehicles", VehicleID: "van-1", StreamID: "stream", Version: "test", WriteOnly: true,
			Store: store, Clock: clock, Health: status.NewHealth(log), Log: log})
	})
	tick := time.NewTicker(every)
	defer tick.Stop()
	for range batches {
		<-tick.C
		var batch telemetry.Batch
		batch.Add(telemetry.Reading{Arrived: clock.Uptime(), Fields: []telemetry.Field{{Name: "note", Value: telemetry.Text(strings.Repeat("x", 780))}}})
		zero, q := clock.Zero()
		payload, err := batch.Seal("van-1", "boot", zero, q).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(spool.Telemetry, payload); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	running.Wait()
	store.mu.Lock()
	defer store.mu.Unlock()
	if len(store.front) < batches-1 { // the last may just have been appended
		t.Errorf("%d of %d live batches were taken", len(store.front), batches)
	}
	// In the wanted time the link carries so much, and one record more may have been begun.
	limit := rate*(roundTrip+slowAck).Seconds()*1.25 + 2*size
	for i, n := range store.front {
		if float64(n*size) > limit {
			t.Errorf("live batch %d had %d bytes of backlog in front of it, wanted: at most %.0f", i, n*size, limit)
		}
	}
	if all := rate * (batches * every).Seconds(); float64(store.acked*size) < all/2 {
		t.Errorf("%d bytes of backlog were delivered in a time for %.0f", store.acked*size, all)
	}
	t.Logf("records of backlog in front of each live batch: %v; %d delivered", store.front, store.acked)
}
