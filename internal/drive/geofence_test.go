package drive

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paulmach/orb"

	"telemetryd/internal/telemetry"
)

// handDriven is a vehicle that is moved by hand, east and north of the middle of a fence of
// 200 m by 200 m; a bay of 16 m lies in its middle, where the limit is 10 km/h.
type handDriven struct {
	*testing.T
	*Drive
	at     time.Duration
	plane  plane
	events []string
	kept   [][]string
}

func newHandDriven(t *testing.T, inside ...string) *handDriven {
	t.Helper()
	r := &handDriven{T: t, at: time.Minute, plane: planeAt(orb.Point{11.5, 48.1})}
	ring := func(half float64) (ring []orb.Point) {
		for _, c := range [][2]float64{{-1, -1}, {1, -1}, {1, 1}, {-1, 1}, {-1, -1}} {
			ring = append(ring, r.place(c[0]*half, c[1]*half))
		}
		return ring
	}
	fences, err := parseFences(fmt.Appendf(nil, `{"type":"FeatureCollection","features":[
{"type":"Feature","id":"d1","properties":{"name":"Depot","speed_limit_kmh":30},"geometry":{"type":"Polygon","coordinates":%s}},
{"type":"Feature","properties":{"name":"Bay","speed_limit_kmh":10},"geometry":{"type":"Polygon","coordinates":%s}}]}`, degreesOf(ring(100)), degreesOf(ring(8))), mostFences)
	if err != nil {
		t.Fatal(err)
	}
	r.Drive = New(Config{Fences: fences, Inside: inside, KeepInside: func(inside []string) { r.kept = append(r.kept, inside) }})
	return r
}

func degreesOf(ring []orb.Point) string {
	var corners []string
	for _, p := range ring {
		corners = append(corners, fmt.Sprintf("[%v,%v]", p[0], p[1]))
	}
	return "[[" + strings.Join(corners, ",") + "]]"
}

func (r *handDriven) place(east, north float64) orb.Point {
	return orb.Point{r.plane.origin[0] + east/r.plane.east, r.plane.origin[1] + north/r.plane.north}
}

// fix is a fix a second after the one before; kmh and hdop as fixAt takes them.
func (r *handDriven) fix(east, north, kmh, hdop float64) {
	r.at += time.Second
	r.observe(fixAt(r.at, r.place(east, north), kmh, hdop))
}

func (r *handDriven) observe(reading telemetry.Reading) {
	_, events := r.Observe(reading)
	for _, e := range events {
		c, ok := e.Data.(Crossing)
		if !ok { // the limit of a fence may be broken, too
			continue
		}
		text := fmt.Sprintf("%s %s at %v", e.Type, c.Name, e.At-time.Minute)
		if c.FirstSeen {
			text += ", first seen"
		}
		if c.DurationS != nil {
			text += fmt.Sprintf(", after %v s", *c.DurationS)
		}
		r.events = append(r.events, text)
	}
}

// drive moves to the east, from and to so many metres, with 10 m each second.
func (r *handDriven) drive(from, to, north float64) {
	step := 10.0
	if to < from {
		step = -10
	}
	for east := from; (to-east)*step >= 0; east += step {
		r.fix(east, north, 36, 0.9)
	}
}

func (r *handDriven) want(events ...string) {
	r.Helper()
	if !slices.Equal(r.events, events) {
		r.Errorf("told %q\nwant %q", r.events, events)
	}
}

func TestGeofenceCrossings(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(r *handDriven)
		want []string
	}{
		{"through it, past the bay", func(r *handDriven) {
			r.drive(-255, 255, 50)
		}, []string{"geofence_entered Depot at 17s", "geofence_left Depot at 37s, after 20 s"}},
		{"a fix that jumps in", func(r *handDriven) {
			r.drive(-400, -200, 0)
			r.fix(-80, 0, 36, 0.9)
			r.drive(-180, -150, 0)
		}, nil},
		{"fixes that jump in for nine seconds", func(r *handDriven) {
			r.drive(-600, -300, 0)
			for range 9 {
				r.fix(0, 0, 36, 0.9)
			}
			r.drive(-200, -150, 0)
		}, nil},
		{"a jump that stays", func(r *handDriven) {
			r.drive(-1400, -1000, 0)
			for range 20 {
				r.fix(0, 0, 0, 0.9)
			}
		}, []string{"geofence_entered Depot at 51s, first seen", "geofence_entered Bay at 51s, first seen"}},
		{"bad fixes", func(r *handDriven) {
			r.drive(-400, -110, 0)
			for range 30 {
				r.fix(-48, 0, 36, 5.1)
			}
		}, nil},
		{"noise at the border, slowly along it", func(r *handDriven) {
			for i := range 600 {
				r.fix(-100+float64(i%5-2)*4, float64(i%150)-75, 4, 0.9) // 8 m to each side
			}
		}, nil},
		{"two metres inside, along the border", func(r *handDriven) {
			for i := range 140 {
				r.fix(-98, float64(i)-70, 4, 0.9)
			}
		}, nil},
		{"four metres inside, along the border", func(r *handDriven) {
			for i := range 140 {
				r.fix(-96, float64(i)-70, 4, 0.9)
			}
		}, []string{"geofence_entered Depot at 1s, first seen"}},
		{"a corner is cut for two seconds", func(r *handDriven) {
			r.drive(-400, -110, 0)
			r.fix(-95, 0, 36, 0.9)
			r.fix(-85, 0, 36, 0.9)
			r.fix(-101, 0, 36, 0.9)
			r.drive(-110, -200, 0)
		}, nil},
		{"nine metres inside for three seconds", func(r *handDriven) {
			r.drive(-400, -110, 0)
			for range 3 {
				r.fix(-91, 0, 36, 0.9)
			}
			r.drive(-110, -200, 0)
		}, nil},
		{"a larger HDOP wants more", func(r *handDriven) {
			r.drive(-400, -110, 0)
			for range 3 {
				r.fix(-89, 0, 36, 1.2)
			}
			r.drive(-110, -200, 0)
		}, nil},
		{"parked just inside", func(r *handDriven) {
			r.drive(-255, -105, 50)
			for i := range 60 {
				r.fix(-95+float64(i%5-2)*4, 50, 0, 0.9) // 5 m inside, 8 m to and fro
			}
		}, []string{"geofence_entered Depot at 19s"}},
		{"parked on the border for a day, drifting", func(r *handDriven) {
			r.drive(-255, -105, 50)
			for i := range 86400 {
				r.fix(-100+float64(i/100%25-12), 50, 0, 0.9)
			}
		}, nil},
		{"parked in the bay", func(r *handDriven) {
			r.drive(-255, -5, 0)
			for range 20 {
				r.fix(0, 0, 0, 0.9)
			}
			if limit := r.situation.limit; limit != 10 {
				r.Errorf("the limit in the bay is %v", limit)
			}
			r.drive(10, 60, 0)
			if limit := r.situation.limit; limit != 30 {
				r.Errorf("the limit in the depot is %v", limit)
			}
		}, []string{"geofence_entered Depot at 17s", "geofence_entered Bay at 26s", "geofence_left Bay at 47s, after 21 s"}},
		{"carried away with wheels that stand", func(r *handDriven) {
			r.fix(0, 50, 0, 0.9)
			for range 15 {
				r.fix(0, 50, 0, 0.9)
			}
			for east := 0.0; east < 200; east += 10 {
				r.observe(wheelsAt(r.at, 0))
				r.fix(east, 50, 36, 0.9)
			}
		}, []string{"geofence_entered Depot at 1s, first seen", "geofence_left Depot at 28s, after 27 s"}},
		{"a tunnel inside", func(r *handDriven) {
			r.drive(-255, -50, 50)
			r.at += 10 * time.Minute
			r.drive(-40, 50, 50)
		}, []string{"geofence_entered Depot at 17s"}},
		{"a tunnel under the border", func(r *handDriven) {
			r.drive(-255, -205, 50)
			r.at += 15 * time.Second
			r.drive(-55, 0, 50)
		}, []string{"geofence_entered Depot at 22s"}},
		{"the receiver was off on the way in", func(r *handDriven) {
			r.drive(-255, -205, 50)
			r.at += 10 * time.Minute
			r.drive(-55, 0, 50)
		}, []string{"geofence_entered Depot at 10m7s, first seen"}},
		{"no speed is told", func(r *handDriven) {
			for east := -255.0; east < 0; east += 10 {
				r.fix(east, 50, -1, 0.9)
			}
		}, []string{"geofence_entered Depot at 17s"}},
		{"no HDOP is told: 20 m", func(r *handDriven) {
			for _, east := range []float64{-130, -120, -110, -81, -81, -81, -81, -81, -110, -120} {
				r.fix(east, 0, 36, 0)
			}
		}, nil},
		{"a fix every five minutes", func(r *handDriven) {
			for _, east := range []float64{-900, -500, -50, 50, 500, 900} {
				r.at += 299 * time.Second
				r.fix(east, 50, 36, 0.9)
			}
		}, []string{"geofence_entered Depot at 15m0s, first seen", "geofence_left Depot at 25m0s, first seen, after 600 s"}},
		{"ten fixes a second", func(r *handDriven) {
			for east := -255.0; east < 0; east++ {
				r.at -= 900 * time.Millisecond
				r.fix(east, 50, 36, 0.9)
			}
		}, []string{"geofence_entered Depot at 15.6s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newHandDriven(t)
			c.run(r)
			r.want(c.want...)
		})
	}
}

// What a crossing tells: the place and time of the first fix behind the border, and by what
// it was settled.
func TestCrossingData(t *testing.T) {
	r := newHandDriven(t)
	r.drive(-255, -95, 50)
	r.fix(-85, 50, 36, 0.9)
	r.at += time.Second
	_, events := r.Observe(fixAt(r.at, r.place(-75, 50), 36, 1.5))
	if len(events) != 2 || events[1].Type != "overspeed" { // the limit of the fence is broken, too
		t.Fatalf("%+v", events)
	}
	if d := events[1].Data.(overspeedData); d.Fence != "Depot" || d.Limit != 30 {
		t.Errorf("%+v", d)
	}
	e := r.Placed(events[0])
	want := Crossing{Name: "Depot", ID: "d1", SettledS: 2, DepthM: 25, ThresholdM: 15, HDOP: 1.5}
	if e.Type != "geofence_entered" || e.Severity != telemetry.Info || e.Data != want || e.At != r.at-2*time.Second {
		t.Errorf("%+v, want %+v", e, want)
	}
	if off := metres(placeAt(orb.Point{e.Position.Longitude, e.Position.Latitude}), placeAt(r.place(-95, 50))); off > 0.5 || e.Position.AgeMS != 0 {
		t.Errorf("its position %+v is %.1f m off", *e.Position, off)
	}
}

// The limit of a fence is that of where the vehicle is now: not of where it was last seen.
func TestLimitEndsWithFixes(t *testing.T) {
	r := newHandDriven(t)
	r.drive(-255, -50, 50)
	for _, c := range []struct {
		later time.Duration
		want  float64
	}{{0, 30}, {60 * time.Second, 30}, {61 * time.Second, 0}} {
		r.Pass(r.at + c.later)
		if got := r.situation.limit; got != c.want {
			t.Errorf("%v later the limit is %v, want %v", c.later, got, c.want)
		}
	}
	r.at += 2 * time.Minute
	r.drive(-40, -40, 50)
	if got := r.situation.limit; got != 30 {
		t.Errorf("back, the limit is %v", got)
	}
}

// Over a restart: who is still inside is told nothing, who has left is told, as first seen;
// and what is kept is kept behind the event.
func TestGeofencesOverRestart(t *testing.T) {
	r := newHandDriven(t, "d1", "a fence that is gone")
	r.drive(-20, 20, 50)
	r.want()
	r.drive(30, 300, 50)
	r.want("geofence_left Depot at 14s")
	if len(r.kept) != 1 || len(r.kept[0]) != 0 {
		t.Errorf("kept %q", r.kept)
	}

	r = newHandDriven(t, "d1")
	r.drive(300, 400, 50)
	r.want("geofence_left Depot at 1s, first seen")

	r = newHandDriven(t)
	r.drive(-20, 0, 50)
	r.want("geofence_entered Depot at 1s, first seen")
	if len(r.kept) != 0 {
		t.Errorf("kept %q before the event could be", r.kept)
	}
	r.Pass(r.at + time.Millisecond)
	r.Pass(r.at + time.Second)
	if len(r.kept) != 1 || !slices.Equal(r.kept[0], []string{"d1"}) {
		t.Errorf("kept %q", r.kept)
	}
}

// A crossing within a privacy zone has no place, though the vehicle is out of the zone when
// it is settled.
func TestCrossingWithinZoneHasNoPlace(t *testing.T) {
	r := newHandDriven(t)
	home := Zone{Name: "home", Latitude: r.place(95, -80)[1], Longitude: r.place(95, -80)[0], Radius: 20}
	r.Drive = New(Config{Fences: r.Fences, Privacy: Privacy{Zones: []Zone{home}, Secret: []byte("secret")}})
	crossings := 0
	// It leaves the depot within the zone, then goes along the border, too near for a
	// crossing to be sure at once.
	for at := time.Duration(0); at < 40*time.Second; at += time.Second {
		north, east := -85.0, 90.0
		if at > 12*time.Second {
			north, east = -105+20*(at-12*time.Second).Seconds(), 104
		}
		_, events := r.Observe(fixAt(time.Minute+at, r.place(east, min(north, 95)), 72, 0.9))
		for _, e := range events {
			if e.Type != "geofence_left" || e.Data.(Crossing).Name != "Depot" {
				continue
			}
			crossings++
			if e = r.Placed(e); e.Position != nil && metres(place{latitude: e.Position.Latitude, longitude: e.Position.Longitude}, place{latitude: home.Latitude, longitude: home.Longitude}) < home.Radius {
				t.Errorf("the place within the zone is told: %+v", e.Position)
			}
		}
	}
	if crossings != 1 {
		t.Errorf("%d crossings", crossings)
	}
}

// A crossing that was told last before a stop is not told again by the next run.
func TestLastCrossingIsKept(t *testing.T) {
	r := newHandDriven(t)
	for east := -255.0; len(r.events) == 0 && east < 0; east += 10 {
		r.fix(east, 50, 36, 0.9)
	}
	r.Close()
	if len(r.kept) != 1 || !slices.Equal(r.kept[0], []string{"d1"}) {
		t.Errorf("told %q, kept %q", r.events, r.kept)
	}
	r.Close()
	if len(r.kept) != 1 {
		t.Errorf("kept again: %q", r.kept)
	}
}
