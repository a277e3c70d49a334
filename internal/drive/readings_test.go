package drive

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
)

// sampled is a sample of event_readings.
type sampled struct {
	Offset int64    `json:"offset_ms"`
	T      string   `json:"t"`
	Speed  *float64 `json:"vehicle_speed_kmh"`
}

// brake drives, brakes and goes on, with a fix a second, and returns what is in the message
// of each event_readings.
func brake(t *testing.T, d *Drive, fields int) (events []telemetry.Event, sealed []telemetry.Record) {
	t.Helper()
	now := time.Hour
	take := func(found []telemetry.Event) {
		for _, e := range found {
			rec, err := d.Placed(e).Seal("van-1", "boot", time.Unix(1_800_000_000, 0), telemetry.GPS)
			if err != nil {
				t.Fatal(err)
			}
			events, sealed = append(events, e), append(sealed, rec)
		}
	}
	for i, kmh := range slices.Concat(held(60, 60), change(60, 20, 5, fifth), held(20, 100)) {
		now += fifth
		r := telemetry.Reading{Arrived: now}
		r.Add("vehicle_speed_kmh", kmh)
		for range fields {
			r.Add("engine_speed_rpm", 1234.25)
		}
		_, found := d.Observe(r)
		take(found)
		if i%5 == 0 {
			fix := telemetry.Reading{Arrived: now + 30*time.Millisecond, FixTime: time.Unix(1_800_000_000, 0).Add(now)}
			fix.Add("latitude", 48.1)
			fix.Add("longitude", 11.5)
			_, found := d.Observe(fix)
			take(found)
		}
	}
	return events, sealed
}

func TestReadingsFollowTheirEvent(t *testing.T) {
	d := New(Config{Driving: UsualDriving, Parked: ParkedConfig{Off: true}})
	d.situation.trip = "a-trip"
	events, _ := brake(t, d, 1)
	if len(events) != 2 || events[0].Type != "harsh_braking" || events[1].Type != "event_readings" {
		t.Fatalf("found %+v", events)
	}
	harsh, _ := events[0].Data.(harshData)
	around, ok := events[1].Data.(readingsData)
	if !ok || around.EventType != "harsh_braking" || around.EventID != harsh.EventID || around.LeftOut != 0 ||
		events[1].At != events[0].At || events[1].TripID != "a-trip" || events[1].Position != events[0].Position {
		t.Fatalf("%+v", events[1])
	}
	first, last, fixes := int64(0), int64(0), 0
	for _, raw := range around.Samples {
		var s sampled
		if err := json.Unmarshal(raw, &s); err != nil {
			t.Fatalf("%v: %s", err, raw)
		}
		first, last = min(first, s.Offset), max(last, s.Offset)
		if s.T != "" {
			fixes++
		} else if s.Speed == nil || s.Offset < 0 && *s.Speed != 60 {
			t.Errorf("before it begins the speed is 60: %s", raw)
		}
	}
	if first != -5000 || last != 4800 || fixes != 10 || len(around.Samples) != 50+10 {
		t.Errorf("%d samples from %d to %d ms, %d fixes", len(around.Samples), first, last, fixes)
	}
}

// A small broker gets fewer, from all of the time, and is told how many are missing.
func TestReadingsFitTheBroker(t *testing.T) {
	const limit = 4000
	d := New(Config{Driving: UsualDriving, Limit: limit})
	events, sealed := brake(t, d, 6)
	for i, e := range events {
		around, ok := e.Data.(readingsData)
		if !ok {
			continue
		}
		payload, err := sealed[i].Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if len(payload) > limit || len(payload) < limit/4 || around.LeftOut == 0 || around.LeftOut+len(around.Samples) != 60 {
			t.Errorf("%d bytes, %d samples, %d left out", len(payload), len(around.Samples), around.LeftOut)
		}
		var first, last sampled
		if json.Unmarshal(around.Samples[0], &first) != nil || json.Unmarshal(around.Samples[len(around.Samples)-1], &last) != nil ||
			first.Offset > -4000 || last.Offset < 4000 {
			t.Errorf("from %d to %d ms", first.Offset, last.Offset)
		}
		return
	}
	t.Errorf("found %+v", events)
}

func TestReadingsAreBounded(t *testing.T) {
	a := &around{limit: telemetry.MaxBatchBytes}
	for i := range 100_000 {
		a.keep(telemetry.Reading{Arrived: time.Duration(i) * time.Millisecond, Fields: make([]telemetry.Field, 20)})
	}
	if a.bytes > aroundBytes || len(a.ring)*weight(a.ring[0]) != a.bytes || cap(a.ring) > 4*len(a.ring) {
		t.Errorf("%d readings (of %d), %d bytes", len(a.ring), cap(a.ring), a.bytes)
	}
	a.keep(telemetry.Reading{Arrived: time.Hour, Fields: make([]telemetry.Field, 1)})
	if len(a.ring) != 1 {
		t.Errorf("%d readings, one is of the last half minute", len(a.ring))
	}
	s := new(situation)
	for range 100 {
		s.reportWithReadings(telemetry.Event{Type: "harsh_braking"}, "x")
	}
	if a.pass(s); len(a.wanted) > aroundMost {
		t.Errorf("%d events wait", len(a.wanted))
	}
}

func TestReadingsCanBeOff(t *testing.T) {
	driving := UsualDriving
	driving.Readings = false
	d := New(Config{Driving: driving})
	if events, _ := brake(t, d, 1); len(events) != 1 || events[0].Type != "harsh_braking" || len(d.around.ring) > 0 {
		t.Errorf("found %+v, kept %d readings", events, len(d.around.ring))
	}
}

// Events of others, as trouble codes, get trip and position as well.
func TestEventsOfOthersArePlaced(t *testing.T) {
	d := New(Config{})
	if e := d.Placed(telemetry.Event{Type: "dtc_appeared", At: time.Minute}); e.Position != nil || e.TripID != "" {
		t.Errorf("placed where nobody was: %+v", e)
	}
	fix := telemetry.Reading{Arrived: time.Minute}
	fix.Add("latitude", 48.1)
	fix.Add("longitude", 11.5)
	d.Observe(fix)
	d.situation.trip = "a-trip"
	e := d.Placed(telemetry.Event{Type: "dtc_appeared", At: time.Minute + 1500*time.Millisecond})
	if e.TripID != "a-trip" || e.Position == nil || *e.Position != (telemetry.Position{Latitude: 48.1, Longitude: 11.5, AgeMS: 1500}) {
		t.Errorf("%+v, %+v", e, e.Position)
	}
}

// What is read to be judged alone is not published by the way of an event either.
func TestReadingsWithoutUnkept(t *testing.T) {
	d := New(Config{Driving: UsualDriving, Parked: ParkedConfig{Off: true}, Unkept: map[string]bool{"engine_speed_rpm": true}})
	_, sealed := brake(t, d, 1)
	if len(sealed) != 2 {
		t.Fatalf("%d events", len(sealed))
	}
	message := string(sealed[1].Message("stream", 1))
	if !strings.Contains(message, "vehicle_speed_kmh") || strings.Contains(message, "engine_speed_rpm") {
		t.Error(message)
	}
}
