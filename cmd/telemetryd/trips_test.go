package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"telemetryd/ledger"
)

// tripIDs are the trips of a vehicle's messages: by batches, starts and ends, each in the
// order of their arrival.
type tripIDs struct{ batches, starts, ends []string }

// readTrips collects them, and checks that each trip_start comes before the first batch of
// its trip and each trip_end behind the last one, in the order of the stream.
func readTrips(t *testing.T, ms []message) (ids tripIDs) {
	t.Helper()
	first, last := map[string][2]uint64{}, map[string][2]uint64{} // by trip: the stream's place, seq
	var streams []string
	ms = slices.Clone(ms)
	for _, m := range ms {
		if m.Seq > 0 && !slices.Contains(streams, m.StreamID) {
			streams = append(streams, m.StreamID)
		}
	}
	slices.Sort(streams) // they are made in order
	seen := map[string]bool{}
	place := func(m message) [2]uint64 {
		return [2]uint64{uint64(slices.Index(streams, m.StreamID)), m.Seq}
	}
	compare := func(a, b [2]uint64) int { return slices.Compare(a[:], b[:]) }
	slices.SortStableFunc(ms, func(a, b message) int { return compare(place(a), place(b)) })
	ms = slices.CompactFunc(ms, func(a, b message) bool { return a.Seq > 0 && place(a) == place(b) }) // copies
	for _, m := range ms {
		p := place(m)
		trip := m.TripID
		if m.Seq == 0 || trip == "" {
			continue
		}
		switch {
		case m.Samples != nil:
			if !seen[trip] {
				seen[trip] = true
				first[trip] = p
				ids.batches = append(ids.batches, trip)
			}
			last[trip] = p
		case m.Type == "trip_start":
			ids.starts = append(ids.starts, trip)
			if f, ok := first[trip]; ok && compare(f, p) < 0 {
				t.Errorf("a batch of %s before its trip_start", trip)
			}
		case m.Type == "trip_end":
			ids.ends = append(ids.ends, trip)
			first[trip+" end"] = p
		}
	}
	for _, trip := range ids.ends {
		if compare(last[trip], first[trip+" end"]) > 0 {
			t.Errorf("a batch of %s behind its trip_end", trip)
		}
	}
	return ids
}

// A trip from the broker's side: it begins, the daemon is killed in its middle and goes on
// with it, it ends when the key is out, and the next one begins.
func TestTrips(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	v := startVehicle(t, "--speedup", "15", "--obd-baud", "0", "--gps-baud", "38400", "--gps-rate", "5")
	state := t.TempDir()
	config := filepath.Join(t.TempDir(), "van.yaml")
	if err := os.WriteFile(config, []byte("trips: {end_after: 2500ms, fuel: petrol, tank_l: 50}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, m, v, state, "--config", config, "--batch-form", "columns")
	s.await("batches of a trip", 30*time.Second, func(ms []message) bool { return strings.Count(joined(onTopic(ms, "telemetry")), `"trip_id"`) > 6 })
	d.end(syscall.SIGKILL)
	d = startDaemon(t, m, v, state, "--config", config)
	ms := s.await("the end of the trip and the start of the next", 150*time.Second, func(ms []message) bool {
		ids := readTrips(t, ms)
		return len(ids.ends) > 0 && len(ids.starts) > 1 && len(ids.batches) > 1
	})
	if took := d.end(syscall.SIGTERM); took > 2*time.Second || d.err != nil {
		t.Errorf("SIGTERM: %v after %v", d.err, took)
	}
	ids := readTrips(t, ms)
	if ids.starts[0] != ids.ends[0] || !slices.Equal(ids.starts, ids.batches) || !slices.IsSorted(ids.starts) {
		t.Errorf("%+v", ids)
	}
	streams := map[string]bool{}
	for _, x := range ms {
		if x.TripID != ids.starts[0] {
			continue
		}
		if x.Samples != nil {
			streams[x.StreamID] = true
		}
		switch x.Type {
		case "trip_start":
			if x.Data["by"] != "engine" || x.Position == nil {
				t.Errorf("%s", x.Payload)
			}
		case "trip_end":
			t.Log(x.Payload)
			for _, name := range []string{"duration_s", "moving_s", "distance_km", "max_speed_kmh", "fuel_l"} {
				if n, _ := x.Data[name].(float64); n <= 0 {
					t.Errorf("%s is %v: %s", name, x.Data[name], x.Payload)
				}
			}
			if want, got := servedWay(t, v.truth, ms, x.TripID), x.Data["distance_km"].(float64); math.Abs(got-want) > 0.08*want {
				t.Errorf("distance_km %v, by the speeds that the car told %.3f", got, want)
			}
			if x.Position == nil || x.Data["start_position"] == nil || x.Data["end_position"] == nil {
				t.Errorf("without positions: %s", x.Payload)
			}
		}
	}
	if len(streams) != 2 {
		t.Errorf("the first trip has batches in %d streams, want 2: before the kill and after it", len(streams))
	}
}

// servedWay is the way of a trip in km, by the speeds that the car told between its events.
func servedWay(t *testing.T, truthFile string, ms []message, trip string) (km float64) {
	t.Helper()
	var began, ended time.Time
	for _, m := range ms {
		at, err := time.Parse(time.RFC3339Nano, m.T)
		if m.TripID != trip || err != nil {
			continue
		}
		switch m.Type { // of copies the last one has the better time
		case "trip_start":
			began = at
		case "trip_end":
			ended = at
		}
	}
	values := readTruth(t, truthFile)["vehicle_speed_kmh"]
	for i := 1; i < len(values); i++ {
		a, b := values[i-1], values[i]
		x, err := strconv.ParseFloat(a.value, 64)
		y, bad := strconv.ParseFloat(b.value, 64)
		if errors.Join(err, bad) != nil {
			t.Fatal(err, bad)
		}
		if !a.t.Before(began) && !b.t.After(ended) {
			km += (x + y) / 2 * b.t.Sub(a.t).Hours()
		}
	}
	return km
}

// Consumers read batches of a trip like all others.
func TestLedgerReadsTrips(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`"samples":[{"t":"2026-11-23T10:00:00.000Z","vehicle_speed_kmh":52}]`,
		`"columns":{"t":[1795428000000],"vehicle_speed_kmh":[52]}`,
	} {
		payload := `{"schema":1,"vehicle_id":"van-1","stream_id":"01JD","boot_id":"b","seq":2,"clock":"gps","trip_id":"01JT",` + body + `}`
		m, err := ledger.Parse([]byte(payload))
		if err != nil || len(m.Samples) != 1 {
			t.Fatalf("%+v, %v", m, err)
		}
		var out bytes.Buffer
		follower := &tail{out: &out, base: "vehicles/van-1/", ledger: &ledger.Ledger{}}
		follower.message("vehicles/van-1/telemetry", []byte(payload), false)
		var sample map[string]any
		if err := json.Unmarshal(out.Bytes(), &sample); err != nil || sample["vehicle_speed_kmh"] != 52.0 || len(sample) != 2 {
			t.Errorf("tail printed %s, %v", out.String(), err)
		}
		if r := follower.ledger.Report(); r.Received != 1 || follower.broken != 0 {
			t.Errorf("%+v, %d broken", r, follower.broken)
		}
	}
}
