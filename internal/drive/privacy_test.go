package drive

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
	"telemetryd/sim"
)

// fix is one of a receiver.
func fix(at time.Duration, latitude, longitude float64) telemetry.Reading {
	r := telemetry.Reading{Arrived: at, FixTime: time.Unix(1795600800, 0).Add(at)}
	for _, f := range []struct {
		name  string
		value float64
	}{{"latitude", latitude}, {"longitude", longitude}, {"altitude_m", 519}, {"gps_speed_kmh", 50}, {"heading_deg", 90}, {"satellites", 9}, {"hdop", 0.9}} {
		if !r.Add(f.name, f.value) {
			panic(f.name) // a mistake in the test
		}
	}
	r.AddText("fix", "3d")
	return r
}

func names(r telemetry.Reading) string {
	var all []string
	for _, f := range r.Fields {
		all = append(all, f.Name)
	}
	return strings.Join(all, " ")
}

const allOfFix = "latitude longitude altitude_m gps_speed_kmh heading_deg satellites hdop fix"

// What is told of a fix, and of an event at it.
func TestPrivacyOfFix(t *testing.T) {
	home := []Zone{{Name: "home", Latitude: 48.1371, Longitude: 11.5761, Radius: 200}}
	for _, c := range []struct {
		what, fields, position string
		privacy                Privacy
	}{
		{"exact", allOfFix, "48.1371542 11.5761245", Privacy{}},
		{"rounded", "latitude longitude gps_speed_kmh satellites hdop fix", "48.14 11.58", Privacy{Positions: Rounded, Decimals: 2}},
		{"rounded to whole degrees", "latitude longitude gps_speed_kmh satellites hdop fix", "48 12", Privacy{Positions: Rounded}},
		{"off", "gps_speed_kmh satellites hdop fix", "", Privacy{Positions: NoPositions}},
		{"in a zone", "satellites hdop fix", "", Privacy{Zones: home}},
		{"in a zone, rounded", "satellites hdop fix", "", Privacy{Positions: Rounded, Decimals: 2, Zones: home}},
		{"far from all zones", allOfFix, "48.1371542 11.5761245", Privacy{Zones: []Zone{{Name: "away", Latitude: 48.2, Longitude: 11.5, Radius: 200}}}},
	} {
		d := New(Config{Privacy: c.privacy})
		raw := fix(time.Second, 48.1371542, 11.5761245)
		kept, _ := d.Observe(raw)
		if names(kept) != c.fields {
			t.Errorf("%s: %s, want %s", c.what, names(kept), c.fields)
		}
		if names(raw) != allOfFix {
			t.Errorf("%s: what was measured is gone", c.what)
		}
		got := ""
		if p := d.Placed(telemetry.Event{At: 3 * time.Second}).Position; p != nil {
			got = fmt.Sprint(p.Latitude, " ", p.Longitude)
		}
		if got != c.position {
			t.Errorf("%s: an event at %q, want %q", c.what, got, c.position)
		}
		if latitude, ok := d.situation.values["latitude"].Float(); !ok || latitude != 48.1371542 {
			t.Errorf("%s: findings are made from %v", c.what, latitude)
		}
		if car, _ := d.Observe(telemetry.Reading{Arrived: 2 * time.Second, Fields: []telemetry.Field{{Name: "vehicle_speed_kmh", Value: telemetry.Number(50, 0)}}}); names(car) != "vehicle_speed_kmh" {
			t.Errorf("%s: the car's reading is %s", c.what, names(car))
		}
	}
}

// metres north and east of a place.
func away(latitude, longitude, north, east float64) (float64, float64) {
	return latitude + north/metresPerDegree, longitude + east/metresPerDegree/math.Cos(latitude*math.Pi/180)
}

// However the secret moves a circle: nothing within the radius is told, all is told beyond
// twice the radius and the margin, and the border is not centred at the place.
func TestZoneCoversItsPlace(t *testing.T) {
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	centred := 0
	for range 300 {
		z := Zone{"home", random.Float64()*160 - 80, random.Float64()*360 - 180, 50 + random.Float64()*1000}
		secret := fmt.Appendf(nil, "%d", random.Uint64())
		latitude, longitude, _ := z.circle(secret)
		far := metres(place{latitude: z.Latitude, longitude: z.Longitude}, place{latitude: latitude, longitude: longitude})
		if far > z.Radius/2*1.001 {
			t.Fatalf("%+v is moved by %v m", z, far)
		}
		if far < z.Radius/20 {
			centred++
		}
		for range 50 {
			angle, r := random.Float64()*2*math.Pi, z.Radius*random.Float64()*3
			lat, lon := away(z.Latitude, z.Longitude, r*math.Cos(angle), r*math.Sin(angle))
			c := newCurtain(Privacy{Zones: []Zone{z}, Secret: secret})
			c.see(fix(0, lat, math.Remainder(lon, 360)))
			if r < 0.999*z.Radius && !c.hidden {
				t.Fatalf("%v m from the middle of %+v is told", r, z)
			}
			if r > 2.001*z.Radius && c.hidden {
				t.Fatalf("%v m from the middle of %+v is hidden", r, z)
			}
		}
	}
	if centred > 30 { // one in a hundred is expected
		t.Errorf("%d of 300 circles are still centred", centred)
	}
	z := Zone{"home", 48, 11, 200}
	a, _, _ := z.circle([]byte("one"))
	b, _, _ := z.circle([]byte("two"))
	again, _, _ := z.circle([]byte("one"))
	if a == b || a != again {
		t.Errorf("the secret does not decide: %v %v %v", a, b, again)
	}
}

// Noise at the border is no way out, three fixes well outside are.
func TestZoneHysteresis(t *testing.T) {
	z := Zone{"home", 48, 11, 200}
	c := newCurtain(Privacy{Zones: []Zone{z}})
	latitude, longitude, radius := z.circle(nil)
	var got strings.Builder
	for _, far := range []float64{radius + 30, radius - 5, radius + 30, radius + 49, radius + 51, radius + 300, radius - 1,
		radius + 60, radius + 20, radius + 60, radius + 60, radius + 60, radius + 1, radius - 1} {
		lat, lon := away(latitude, longitude, far, 0)
		c.see(fix(0, lat, lon))
		got.WriteString(map[bool]string{true: "#", false: "."}[c.hidden])
	}
	if want := ".##########..#"; got.String() != want {
		t.Errorf("%s, want %s", got.String(), want)
	}
}

// A whole drive passes a zone again and again, with the noise of a receiver: nothing of what
// is kept or told by an event is within it, and all that is far is there.
func TestPrivacyOnDrive(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	drive := sim.NewDrive(seed)
	middle := drive.At(3 * time.Minute)
	z := Zone{"home", middle.Latitude, middle.Longitude, 150}
	d := New(Config{Privacy: Privacy{Zones: []Zone{z}, Secret: fmt.Appendf(nil, "%d", seed)}})
	shown, hidden := 0, 0
	for at := time.Duration(0); at < 40*time.Minute; at += time.Second {
		m := drive.At(at)
		lat, lon := away(m.Latitude, m.Longitude, random.NormFloat64()*4, random.NormFloat64()*4)
		kept, _ := d.Observe(fix(at, lat, lon))
		far := metres(place{latitude: lat, longitude: lon}, place{latitude: z.Latitude, longitude: z.Longitude})
		isShown := placeOf(kept).known
		event, err := json.Marshal(d.Placed(telemetry.Event{At: at, Data: map[string]int{}}))
		if err != nil {
			t.Fatal(err)
		}
		if told := strings.Contains(string(event), "latitude"); told != isShown {
			t.Fatalf("event %s, reading shown: %v", event, isShown)
		}
		if isShown && far < z.Radius {
			t.Errorf("%v: %v m from home is told", at, far)
		}
		if isShown {
			shown++
		} else {
			hidden++
			for _, name := range []string{"latitude", "longitude", "altitude_m", "heading_deg", "gps_speed_kmh"} {
				if slices.Contains(strings.Fields(names(kept)), name) {
					t.Errorf("%v: %s is told", at, name)
				}
			}
		}
	}
	if shown < 60 || hidden < 10 {
		t.Errorf("%d fixes shown, %d hidden: the drive does not try it", shown, hidden)
	}
}

func TestCoarse(t *testing.T) {
	for _, c := range []struct {
		privacy Privacy
		want    float64
	}{{Privacy{}, 0}, {Privacy{Positions: Rounded, Decimals: 2}, 786}, {Privacy{Positions: Rounded, Decimals: 4}, 8}} {
		if got := c.privacy.Coarse(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.privacy, got, c.want)
		}
	}
}

func TestFixEvery(t *testing.T) {
	d := New(Config{FixEvery: 10 * time.Second})
	n := 0
	for at := time.Duration(0); at < time.Minute; at += time.Second {
		kept, _ := d.Observe(fix(at+time.Duration(at.Milliseconds()%7)*time.Millisecond, 48, 11))
		if len(kept.Fields) > 0 {
			n++
		}
		if car, _ := d.Observe(telemetry.Reading{Arrived: at, Fields: []telemetry.Field{{Name: "vehicle_speed_kmh", Value: telemetry.Number(50, 0)}}}); len(car.Fields) != 1 {
			t.Fatal("a reading of the car is left out")
		}
	}
	if n != 6 {
		t.Errorf("%d fixes of a minute, want 6", n)
	}
}

// With positions off not even half of one is told, before there was a whole one either.
func TestNoPositionsTellsNoHalf(t *testing.T) {
	d := New(Config{Privacy: Privacy{Positions: NoPositions}})
	r := telemetry.Reading{Arrived: time.Second}
	r.Add("latitude", 48.1)
	r.Add("hdop", 0.9)
	if kept, _ := d.Observe(r); names(kept) != "hdop" {
		t.Error(names(kept))
	}
}
