package recorder

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	meaning "telemetryd/internal/drive"
	"telemetryd/internal/telemetry"
)

// Two trips and the rest between them, as they leave: trip_start, the batches of the trip,
// trip_end, then batches of none. A batch never spans two.
func TestTripsInTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{began: time.Now()}
		n := 0
		vehicle := meaning.New(meaning.Config{Trips: meaning.Trips{EndAfter: time.Minute, NewID: func() string { n++; return fmt.Sprint("trip-", n) }}})
		r := New(Config{VehicleID: "van-1", Clock: ofTest(s), Store: s, Meaning: vehicle, Interval: 5 * time.Second, Health: s, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.Run(ctx) })
		for second := range 400 {
			turns := second >= 13 && second < 100 || second >= 200 && second < 300
			x := telemetry.Reading{Arrived: time.Since(s.began)}
			x.Add("vehicle_speed_kmh", 0)
			x.Add("engine_speed_rpm", map[bool]float64{true: 800}[turns])
			r.Deliver(x)
			if second == 50 {
				r.Event(telemetry.Event{Type: "bell", Severity: telemetry.Info, At: time.Since(s.began)})
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		cancel()
		running.Wait()

		var order []string
		samples := map[string]int{}
		for _, record := range s.got {
			_, payload, _ := strings.Cut(record, " ")
			var m struct {
				Type    string
				TripID  string `json:"trip_id"`
				Samples []map[string]any
			}
			if err := json.Unmarshal([]byte(payload), &m); err != nil {
				t.Fatalf("%v: %s", err, payload)
			}
			what := m.Type + "/" + m.TripID
			samples[m.TripID] += len(m.Samples)
			for _, sample := range m.Samples {
				// The trip goes on until it is known to be over: a minute behind the engine's end.
				if sample["engine_speed_rpm"] != 0.0 && m.TripID == "" {
					t.Errorf("a sample of a trip in a batch of none: %s", payload)
				}
			}
			if len(order) == 0 || order[len(order)-1] != what {
				order = append(order, what)
			}
		}
		want := "/ trip_start/trip-1 /trip-1 bell/trip-1 /trip-1 trip_end/trip-1 / trip_start/trip-2 /trip-2 trip_end/trip-2 /"
		if got := strings.Join(order, " "); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		// From 13 to 159 and from 200 to 359; the rest belongs to none.
		if samples["trip-1"] < 146 || samples["trip-1"] > 148 || samples["trip-2"] < 159 || samples["trip-2"] > 161 || samples["trip-1"]+samples["trip-2"]+samples[""] != 400 {
			t.Errorf("samples: %v", samples)
		}
	})
}
