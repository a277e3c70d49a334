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

	"telemetryd/sim"
)

// manyFences are so many polygons of 100 corners around Munich, each some 300 m wide.
func manyFences(tb testing.TB, n int) *Fences {
	tb.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	var features []string
	for i := range n {
		longitude, latitude := 11.2+0.8*random.Float64(), 48+0.4*random.Float64()
		var ring []string
		for k := range 100 {
			sin, cos := math.Sincos(2 * math.Pi * float64(k) / 100)
			away := 0.0010 + 0.0004*random.Float64()
			ring = append(ring, fmt.Sprintf("[%.7f,%.7f]", longitude+1.5*away*cos, latitude+away*sin))
		}
		features = append(features, fmt.Sprintf(`{"type":"Feature","properties":{"name":%d},"geometry":{"type":"Polygon","coordinates":[[%s,%s]]}}`, i, strings.Join(ring, ","), ring[0]))
	}
	f, err := parseFences(fmt.Appendf(nil, `{"type":"FeatureCollection","features":[%s]}`, strings.Join(features, ",")), mostFences)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// naively are the fences that a place is in, each asked.
func (f *Fences) naively(p orb.Point) (in []int) {
	for i := range f.fences {
		if f.fences[i].contains(p) {
			in = append(in, i)
		}
	}
	return in
}

// Boxes leave nothing out that a look at every fence finds.
func TestBoxes(t *testing.T) {
	f := manyFences(t, 1000)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	found := 0
	for range 20 {
		p := f.bounds[random.IntN(f.Len())].Center() // most are inside of it
		p[0] += 0.0012 * random.NormFloat64()
		in := slices.DeleteFunc(f.around(p, nil), func(i int) bool { return !f.fences[i].contains(p) })
		want := f.naively(p)
		if found += len(want); !slices.Equal(in, want) {
			t.Errorf("seed %d, %v: %v, want %v", seed, p, in, want)
		}
	}
	if found == 0 {
		t.Errorf("seed %d: none of the places is in a fence", seed)
	}
}

// BenchmarkFix is what a fix costs with 10,000 fences, beside a look at every one of them
// (orb's own containment, which has a box of its own but makes it anew each time).
func BenchmarkFix(b *testing.B) {
	f := manyFences(b, 10_000)
	truth := truthOf(sim.NewDrive(1), 15*time.Minute)
	b.Run("boxes", func(b *testing.B) {
		d := New(Config{Fences: f})
		events, i := 0, 0
		for b.Loop() {
			m := truth[i*5%len(truth)]
			_, list := d.Observe(fixAt(time.Duration(i)*time.Second, m.place, m.kmh, 0.9))
			events += len(list)
			i++
		}
		b.ReportMetric(float64(events)/float64(i), "events/op")
	})
	b.Run("naive", func(b *testing.B) {
		i := 0
		for b.Loop() {
			f.naively(truth[i*5%len(truth)].place)
			i++
		}
	})
}
