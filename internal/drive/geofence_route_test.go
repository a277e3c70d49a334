package drive

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paulmach/orb"

	"telemetryd/internal/telemetry"
	"telemetryd/sim"
)

// wayOf is the way of the virtual vehicle between two times, moved to the right by so many
// metres.
func wayOf(d *sim.Drive, from, to time.Duration, right float64) (way []orb.Point) {
	last := math.Inf(-1)
	for t := from; t <= to; t += time.Second {
		m := d.At(t)
		if m.DrivenM-last < 10 {
			continue
		}
		last = m.DrivenM
		p := orb.Point{m.Longitude, m.Latitude}
		sin, cos := math.Sincos(m.HeadingDeg * math.Pi / 180)
		plane := planeAt(p)
		way = append(way, orb.Point{p[0] + right*cos/plane.east, p[1] - right*sin/plane.north})
	}
	return way
}

// beside is a fence along the way, whose border is so many metres to the right of it.
func beside(d *sim.Drive, from, to time.Duration, right float64) string {
	ring := wayOf(d, from, to, right)
	far := wayOf(d, from, to, right+80)
	for i := range far {
		ring = append(ring, far[len(far)-1-i])
	}
	ring = append(ring, ring[0])
	text := strings.ReplaceAll(fmt.Sprint(ring), " ", ",")
	return fmt.Sprintf(`{"type":"Feature","properties":{"name":"20 m beside, %v"},"geometry":{"type":"Polygon","coordinates":[%s]}}`, from, text)
}

// box is the ring of a box.
func box(west, south, east, north float64) string {
	return fmt.Sprintf("[[%[1]v,%[2]v],[%[3]v,%[2]v],[%[3]v,%[4]v],[%[1]v,%[4]v],[%[1]v,%[2]v]]", west, south, east, north)
}

// routeFences are fences on the loop of the virtual vehicle, and two that it misses by 20 m:
// on the Mittlerer Ring, and on Leopoldstrasse with its red lights.
func routeFences(t *testing.T, d *sim.Drive) *Fences {
	t.Helper()
	polygon := func(rings ...string) string { return "[" + strings.Join(rings, ",") + "]" }
	file := oneFeature(`{"name":"Mittlerer Ring","speed_limit_kmh":60}`, "Polygon", polygon(box(11.61, 48.1445, 11.625, 48.1495)),
		`{"type":"Feature","properties":{"name":"with a hole"},"geometry":{"type":"Polygon","coordinates":`+
			polygon(box(11.589, 48.138, 11.6015, 48.145), box(11.5935, 48.1385, 11.5975, 48.1445))+`}}`,
		`{"type":"Feature","id":"north","properties":{"name":"two places"},"geometry":{"type":"MultiPolygon","coordinates":[`+
			polygon(box(11.59, 48.156, 11.606, 48.159))+","+polygon(box(11.58, 48.152, 11.586, 48.155))+`]}}`,
		`{"type":"Feature","properties":{"name":"circle","radius_m":150,"speed_limit_kmh":50},"geometry":{"type":"Point","coordinates":[11.616,48.15]}}`,
		`{"type":"Feature","properties":{"name":"home","radius_m":100},"geometry":{"type":"Point","coordinates":[11.582,48.1351]}}`,
		`{"type":"Feature","properties":{"name":"city"},"geometry":{"type":"Polygon","coordinates":`+polygon(box(11.4, 48, 11.7, 48.3))+`}}`,
		beside(d, 345*time.Second, 380*time.Second, 20), beside(d, 610*time.Second, 735*time.Second, 20))
	f, err := parseFences([]byte(file), mostFences)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// noise is what a receiver is off, metres on each axis: anew with each fix, or wandering as
// reflections make it.
type noise struct {
	white, wander float64
	random        *rand.Rand
	off           orb.Point
}

func (n *noise) next() (east, north float64) {
	const kept = 0.967 // in a second: it takes half a minute
	for i := range n.off {
		n.off[i] = kept*n.off[i] + math.Sqrt(1-kept*kept)*n.wander*n.random.NormFloat64()
	}
	return n.off[0] + n.white*n.random.NormFloat64(), n.off[1] + n.white*n.random.NormFloat64()
}

// wheelsAt and fixAt are what the car and its receiver tell.
func wheelsAt(at time.Duration, kmh float64) telemetry.Reading {
	r := telemetry.Reading{Arrived: at}
	r.Add("vehicle_speed_kmh", math.Floor(kmh))
	return r
}

func fixAt(at time.Duration, p orb.Point, kmh, hdop float64) telemetry.Reading {
	r := telemetry.Reading{Arrived: at}
	r.Add("latitude", p[1])
	r.Add("longitude", p[0])
	if kmh >= 0 {
		r.Add("gps_speed_kmh", kmh)
	}
	if hdop > 0 {
		r.Add("hdop", hdop)
	}
	return r
}

// crossed is a true crossing: when the vehicle was at the border, and before and behind when
// it was clear of it.
type crossed struct {
	entered           bool
	before, at, clear time.Duration
}

// moment is where the vehicle truly was; a truth is one each truthStep.
type moment struct {
	place orb.Point
	kmh   float64
}

const (
	truthStep  = 200 * time.Millisecond
	tellWithin = 5 * time.Second // of being clear of the border
)

func truthOf(d *sim.Drive, end time.Duration) (truth []moment) {
	for t := time.Duration(0); t < end; t += truthStep {
		m := d.At(t)
		truth = append(truth, moment{orb.Point{m.Longitude, m.Latitude}, m.SpeedKMH})
	}
	return truth
}

// crossings are those of one fence; clear is how far from the border is clear of it, metres.
// What is under way at the end, or may not have been told by then, is not among them; it
// begins at end.
func crossings(truth []moment, f *fence, clear float64) (all []crossed, end time.Duration) {
	inside := f.contains(truth[0].place)
	end = time.Duration(len(truth)) * truthStep
	var away time.Duration // last time that it was clear
	for i, m := range truth {
		t := time.Duration(i) * truthStep
		if f.contains(m.place) != inside {
			inside = !inside
			all = append(all, crossed{entered: inside, before: away, at: t, clear: end})
		}
		if f.border(m.place) > clear {
			if away = t; len(all) > 0 && all[len(all)-1].clear == end {
				all[len(all)-1].clear = t
			}
		}
	}
	if n := len(all); n > 0 && all[n-1].clear > end-tellWithin {
		return all[:n-1], all[n-1].before
	}
	return all, end
}

// toldEvent is an event, and when it was told.
type toldEvent struct {
	telemetry.Event
	when time.Duration
}

// Every true crossing of three laps is found once, near the border, within 5 s of being
// clear of it; nothing else is. The limit is that of the fences it is in.
func TestGeofencesOnTheRoute(t *testing.T) {
	t.Parallel()
	noises := []noise{{white: 2.5}, {white: 8}, {white: 1, wander: 5}}
	off, late, found := make([]time.Duration, len(noises)), make([]time.Duration, len(noises)), make([]int, len(noises))
	for range 20 {
		seed := rand.Uint64()
		d := sim.NewDrive(seed)
		fences := routeFences(t, d)
		truth := truthOf(d, 48*time.Minute)
		want, ends := make([][]crossed, fences.Len()), make([]time.Duration, fences.Len())
		for i := range want {
			want[i], ends[i] = crossings(truth, &fences.fences[i], 40)
		}
		for k, n := range noises {
			n.random = rand.New(rand.NewPCG(seed, uint64(k)))
			name := fmt.Sprintf("seed %d, %v m of noise, %v m wandering", seed, n.white, n.wander)
			events := ride(t, name, truth, fences, &n)
			for i := range want {
				got := events[fences.fences[i].name]
				if len(got) > 0 && got[0].Type == "geofence_entered" && got[0].Data.(Crossing).FirstSeen {
					got = got[1:] // where it began
				}
				got = slices.DeleteFunc(got, func(e toldEvent) bool { return e.At >= ends[i] })
				if len(got) != len(want[i]) {
					t.Errorf("%s: %s: %d crossings found, %d are true\n%+v\n%+v", name, fences.fences[i].name, len(got), len(want[i]), got, want[i])
					continue
				}
				for j, w := range want[i] {
					e := got[j]
					kind := map[bool]string{true: "geofence_entered", false: "geofence_left"}[w.entered]
					if e.Type != kind || e.Data.(Crossing).FirstSeen || e.At < w.before-time.Second || e.At > w.clear+time.Second || e.when > w.clear+tellWithin {
						t.Errorf("%s: told at %v: %+v\nwant %s, %+v", name, e.when, e.Event, kind, w)
					}
					found[k]++
					off[k] += (e.At - w.at).Abs()
					late[k] = max(late[k], e.when-w.clear)
				}
			}
		}
	}
	for k, n := range noises {
		if found[k] < 20*30 {
			t.Fatalf("%d crossings: too few to tell", found[k])
		}
		t.Logf("%v m of noise, %v m wandering: %d crossings found, %v from the true time in the mean, told %v after 40 m beyond the border at the latest",
			n.white, n.wander, found[k], (off[k] / time.Duration(found[k])).Round(10*time.Millisecond), late[k])
	}
}

// ride makes a drive with a receiver of 1 Hz and returns the events by fence.
func ride(t *testing.T, name string, truth []moment, fences *Fences, n *noise) map[string][]toldEvent {
	t.Helper()
	drive := New(Config{Fences: fences})
	events := map[string][]toldEvent{}
	observe := func(r telemetry.Reading) {
		_, list := drive.Observe(r)
		for _, e := range list {
			c, ok := e.Data.(Crossing)
			if !ok {
				continue
			}
			e = drive.Placed(e)
			where := orb.Point{e.Position.Longitude, e.Position.Latitude}
			if off := metres(placeAt(truth[e.At/truthStep].place), placeAt(where)); off > 45 || e.Position.AgeMS != 0 {
				t.Errorf("%s: %+v is told %.0f m from where it was", name, e, off)
			}
			events[c.Name] = append(events[c.Name], toldEvent{e, r.Arrived})
		}
	}
	steady := 0 // seconds since when all borders are far
	for i, m := range truth {
		at := time.Duration(i) * truthStep
		observe(wheelsAt(at, m.kmh))
		if at%time.Second != 0 {
			continue
		}
		east, north := n.next()
		plane := planeAt(m.place)
		observe(fixAt(at+1, orb.Point{m.place[0] + east/plane.east, m.place[1] + north/plane.north}, m.kmh, 0.9))

		steady++
		want := 0.0
		for i := range fences.fences {
			f := &fences.fences[i]
			if f.limit == 0 {
				continue
			}
			if f.border(m.place) < 40 {
				steady = 0
			}
			if f.contains(m.place) && (want == 0 || f.limit < want) {
				want = f.limit
			}
		}
		if got := drive.situation.limit; steady > 5 && got != want {
			t.Errorf("%s: at %v the limit is %v, want %v", name, at, got, want)
		}
	}
	return events
}
