package telemetry

import (
	"strings"
	"testing"
	"time"
)

var latestZero = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func read(at time.Duration, fields ...any) Reading {
	r := Reading{Arrived: at}
	for i := 0; i < len(fields); i += 2 {
		name := fields[i].(string)
		switch x := fields[i+1].(type) {
		case float64:
			r.Fields = append(r.Fields, Field{name, Number(x, 7)})
		case string:
			r.Fields = append(r.Fields, Field{name, Text(x)})
		}
	}
	return r
}

func TestLatestAges(t *testing.T) {
	const minute, hour = time.Minute, time.Hour
	for _, c := range []struct {
		what     string
		readings []Reading
		now      time.Duration
		want     string // without its braces and t
	}{
		{"the newest of each", []Reading{read(0, "vehicle_speed_kmh", 50.), read(1, "vehicle_speed_kmh", 52., "engine_speed_rpm", 900.)}, 2,
			`"vehicle_speed_kmh":52,"engine_speed_rpm":900`},
		{"a minute old", []Reading{read(0, "engine_speed_rpm", 900.)}, minute, `"engine_speed_rpm":900`},
		{"older than a minute", []Reading{read(0, "engine_speed_rpm", 900., "odometer_km", 1.)}, minute + 1, `"odometer_km":1`},
		{"one that is read every five minutes", []Reading{read(0, "own", 1.), read(5*minute, "own", 2.)}, 20 * minute, `"own":2`},
		{"four of its intervals old", []Reading{read(0, "own", 1.), read(5*minute, "own", 2.), read(19*minute, "odometer_km", 1.)}, 20*minute + 1, `"odometer_km":1`},
		{"never longer than two hours", []Reading{read(0, "own", 1.), read(5*hour, "own", 2., "odometer_km", 1.)}, 7*hour + 1, `"odometer_km":1`},
		{"a parked car for a week", []Reading{read(0, "odometer_km", 1., "fuel_level_pct", 50., "engine_speed_rpm", 0.), read(168*hour, "gps_speed_kmh", 2.)}, 168 * hour,
			`"fuel_level_pct":50,"odometer_km":1,"gps_speed_kmh":2`},
		{"it was used since", []Reading{read(0, "odometer_km", 1.), read(5*minute, "gps_speed_kmh", 50.)}, 5 * minute, `"gps_speed_kmh":50`},
		{"and then the rest is old, too", []Reading{read(0, "odometer_km", 1.), read(5*minute, "gps_speed_kmh", 50.)}, 8 * minute, ``},
		{"hidden", []Reading{read(0, "latitude", 48., "longitude", 11., "altitude_m", 500., "heading_deg", 90., "gps_speed_kmh", 50., "fix", "3d"), read(1, "satellites", 9., "fix", "3d")}, 2,
			`"satellites":9,"fix":"3d"`},
	} {
		var l Latest
		for _, r := range c.readings {
			l.Note(r)
		}
		got := string(l.Message([]byte{}, c.now, latestZero))
		_, got, _ = strings.Cut(got, `Z"`)
		if got = strings.Trim(got, ",}"); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}

// Nothing is said before there is something, nor twice; but that it is still so, once a
// minute, and that all has become old.
func TestLatestSaysWhatChanged(t *testing.T) {
	var l Latest
	if m := l.Message(nil, 0, latestZero); m != nil {
		t.Errorf("at first: %s", m)
	}
	l.Note(read(time.Second, "odometer_km", 1., "engine_speed_rpm", 900.))
	first := l.Message(nil, time.Second, latestZero)
	if want := `{"t":"2026-11-23T10:00:01.000Z","engine_speed_rpm":900,"odometer_km":1}`; string(first) != want {
		t.Errorf("%s, want %s", first, want)
	}
	l.Note(read(10*time.Second, "engine_speed_rpm", 900.))
	if m := l.Message(first, 10*time.Second, latestZero); m != nil {
		t.Errorf("nothing has changed: %s", m)
	}
	l.Note(read(61*time.Second, "engine_speed_rpm", 900.))
	if m := l.Message(first, 61*time.Second, latestZero); m == nil {
		t.Error("after a minute nothing is said")
	}
	var rpm Latest
	rpm.Note(read(time.Second, "engine_speed_rpm", 900.))
	if m := rpm.Message(first, time.Hour, latestZero); string(m) != `{"t":"2026-11-23T11:00:00.000Z"}` {
		t.Errorf("all is old: %s", m)
	}
}

func TestLatestPosition(t *testing.T) {
	l := Latest{Coarse: 10}
	if m := l.Position(nil, latestZero); m != nil {
		t.Errorf("before the first fix: %s", m)
	}
	fix := read(time.Second, "latitude", 48.137154, "longitude", 11.576124, "altitude_m", 519.2, "gps_speed_kmh", 51.6, "heading_deg", 271.3, "satellites", 9., "hdop", 0.9, "fix", "3d")
	fix.FixTime = latestZero.Add(900 * time.Millisecond)
	l.Note(fix)
	first := l.Position(nil, latestZero)
	if want := `{"t":"2026-11-23T10:00:00.900Z","latitude":48.137154,"longitude":11.576124,"altitude_m":519.2,"heading_deg":271.3,"gps_speed_kmh":51.6,"fix":"3d","gps_accuracy":14.5}`; string(first) != want {
		t.Errorf("%s, want %s", first, want)
	}
	l.Note(read(2*time.Second, "engine_speed_rpm", 900.))
	if m := l.Position(first, latestZero); m != nil {
		t.Errorf("there is no newer fix: %s", m)
	}
	l.Note(read(3*time.Second, "satellites", 9., "hdop", 0.9, "fix", "3d"))
	hidden := l.Position(first, latestZero)
	if want := `{"t":"2026-11-23T10:00:03.000Z"}`; string(hidden) != want {
		t.Errorf("hidden: %s, want %s", hidden, want)
	}
}

func TestLatestSeen(t *testing.T) {
	var l Latest
	l.Note(read(0, "vehicle_speed_kmh", 1., "own", 2.))
	l.Note(Reading{Fields: []Field{{"odometer_km", Value{}}}})
	if got := strings.Join(l.Seen(), " "); got != "own vehicle_speed_kmh" {
		t.Error(got)
	}
}

// What a receiver says of a fix when it was delivered already belongs to it, and hides nothing.
func TestLatestLateRestOfFix(t *testing.T) {
	var l Latest
	fixed := latestZero.Add(time.Minute)
	of := func(r Reading) Reading { r.FixTime = fixed; return r }
	l.Note(of(read(1, "latitude", 48., "longitude", 11., "hdop", 1.)))
	l.Note(of(read(2, "fix", "3d")))
	l.Note(of(read(3, "altitude_m", 500.)))
	if got := string(l.Message(nil, 4, latestZero)); !strings.Contains(got, `"latitude":48,"longitude":11,"altitude_m":500`) {
		t.Error(got)
	}
	if got := string(l.Position(nil, latestZero)); !strings.Contains(got, `"latitude":48,"longitude":11,"altitude_m":500,"fix":"3d","gps_accuracy":5`) {
		t.Error(got)
	}
	fixed = fixed.Add(time.Second) // the next one is within a zone, and so is what comes late of it
	l.Note(of(read(5, "hdop", 1.)))
	l.Note(of(read(6, "fix", "3d")))
	if got := string(l.Message(nil, 7, latestZero)) + string(l.Position(nil, latestZero)); strings.Contains(got, "latitude") || strings.Contains(got, "altitude") {
		t.Error(got)
	}
}
