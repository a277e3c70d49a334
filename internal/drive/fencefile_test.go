package drive

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/paulmach/orb"
)

// oneFeature is a collection of one feature; of a second, where more is given.
func oneFeature(properties, kind, coordinates string, more ...string) string {
	first := fmt.Sprintf(`{"type":"Feature","properties":%s,"geometry":{"type":"%s","coordinates":%s}}`, properties, kind, coordinates)
	return "{\"type\":\"FeatureCollection\",\n\"features\":[\n" + strings.Join(append([]string{first}, more...), ",\n") + "\n]}"
}

const square = `[[[11,48],[11.01,48],[11.01,48.01],[11,48.01],[11,48]]]`

// What cannot be a fence is refused with its number, its line, what is wrong and what is
// allowed.
func TestFenceFileErrors(t *testing.T) {
	named := `{"name":"Depot"}`
	for _, c := range []struct{ name, file, want string }{
		{"nothing", ``, `line 1: it is no JSON: unexpected end of JSON input`},
		{"no JSON", "{\"type\":\n\"FeatureCollection\",,", `line 2: it is no JSON: invalid character ','`},
		{"cut off", `{"type":"FeatureCollection","features":[{"type":"Feature"`, `feature 1, line 1: it is no JSON: unexpected end`},
		{"broken in a feature", oneFeature(named, "Polygon", square, "{\"type\":\n\"Feature\", properties:1}"), `feature 2, line 5: it is no JSON: invalid character 'p'`},
		{"a list", `[]`, `line 1: a FeatureCollection is wanted: {"type": "FeatureCollection"`},
		{"a bare geometry", `{"type":"Polygon","coordinates":` + square + `}`, `a FeatureCollection is wanted`},
		{"features of another kind", `{"type":"FeatureCollection","features":{}}`, `a FeatureCollection is wanted`},
		{"no feature", `{"type":"FeatureCollection","features":[]}`, `there is no feature in it`},
		{"two collections", oneFeature(named, "Polygon", square) + "{}", `line 4: it is no JSON: invalid character '{' after top-level value`},
		{"no feature inside", `{"type":"FeatureCollection","features":[{"type":"Point"}]}`, `feature 1, line 1: its type is "Point"; allowed: "Feature"`},
		{"a number as feature", `{"type":"FeatureCollection","features":[7]}`, `feature 1, line 1: it is no feature of GeoJSON`},
		{"no name", oneFeature(`{}`, "Polygon", square), `feature 1, line 3: it has no name; give it one: "properties": {"name": "Depot"}`},
		{"no properties", oneFeature(`null`, "Polygon", square), `it has no name`},
		{"a list as name", oneFeature(`{"name":["x"]}`, "Polygon", square), `name: it is ["x"]; allowed: a text of up to 128 bytes`},
		{"long name", oneFeature(`{"name":"`+strings.Repeat("x", 129)+`"}`, "Polygon", square), `allowed: a text of up to 128 bytes`},
		{"same name", oneFeature(named, "Polygon", square, `{"type":"Feature","properties":{"name":" Depot"}}`), `feature 2 ("Depot"), line 4: feature 1 has the same name or id`},
		{"limit as text", oneFeature(`{"name":"Depot","speed_limit_kmh":"30"}`, "Polygon", square), `feature 1 ("Depot"), line 3: speed_limit_kmh: it is "30"; allowed: a number from 1 to 400 km/h, without quotation marks`},
		{"negative limit", oneFeature(`{"name":"Depot","speed_limit_kmh":-1}`, "Polygon", square), `speed_limit_kmh: it is -1; allowed`},
		{"huge radius", oneFeature(`{"name":"Depot","radius_m":1e6}`, "Point", `[11,48]`), `radius_m: it is 1e6; allowed: a number from 1 to 100000 metres`},
		{"point", oneFeature(named, "Point", `[11,48]`), `a Point needs the radius of its circle: "properties": {"name": "Depot", "radius_m": 100}`},
		{"radius of a polygon", oneFeature(`{"name":"Depot","radius_m":10}`, "Polygon", square), `radius_m belongs to a Point`},
		{"line", oneFeature(named, "LineString", `[[11,48],[12,48]]`), `a LineString has no inside; allowed: Polygon, MultiPolygon, or Point with radius_m`},
		{"no geometry", `{"type":"FeatureCollection","features":[{"type":"Feature","properties":{"name":"Depot"},"geometry":null}]}`, `it has no geometry; draw one`},
		{"coordinates of another kind", oneFeature(named, "Polygon", `[[11,48],[12,48]]`), `its coordinates are not those of a Polygon`},
		{"empty polygon", oneFeature(named, "Polygon", `[]`), `polygon 1 has no ring`},
		{"empty multipolygon", oneFeature(named, "MultiPolygon", `[]`), `its MultiPolygon has no polygon`},
		{"empty ring", oneFeature(named, "Polygon", `[[]]`), `polygon 1, ring 1: it has 0 positions`},
		{"two corners", oneFeature(named, "Polygon", `[[[11,48],[12,48],[11,48]]]`), `polygon 1, ring 1: it has 3 positions; a ring has 4 at least`},
		{"open ring", oneFeature(named, "Polygon", `[[[11,48],[12,48],[12,49],[11,49]]]`), `polygon 1, ring 1: it is not closed: its last position [11 49] is not its first [11 48]`},
		{"on a line", oneFeature(named, "MultiPolygon", `[`+square+`,[[[11,48],[12,48],[13,48],[11,48]]]]`), `polygon 2, ring 1: it has no area`},
		{"one number", oneFeature(named, "Polygon", `[[[11],[12,48],[12,49],[11]]]`), `position [11]; allowed: [longitude, latitude]`},
		{"null", oneFeature(named, "Polygon", `[[[null,48],[12,48],[12,49],[null,48]]]`), `its coordinates have a null`},
		{"metres of a grid", oneFeature(named, "Polygon", `[[[691608,5334764],[691708,5334764],[691708,5334864],[691608,5334764]]]`), `save the file as WGS 84 (EPSG:4326)`},
		{"around the world", oneFeature(named, "Polygon", `[[[179,0],[-179,0],[-179,1],[179,1],[179,0]]]`), `an edge goes around the world: cut what lies on both sides of the antimeridian`},
		{"circle over the antimeridian", oneFeature(`{"name":"Fiji","radius_m":2000}`, "Point", `[179.99,-16]`), `its circle reaches over the antimeridian`},
		{"circle at a pole", oneFeature(`{"name":"Pole","radius_m":2000}`, "Point", `[0,89.9]`), `a circle reaches to latitude 85 at the most`},
	} {
		f, err := parseFences([]byte(c.file), mostFences)
		if err == nil || !strings.Contains(err.Error(), c.want) || f != nil {
			t.Errorf("%s: %v\nwant %s", c.name, err, c.want)
		}
	}
}

// The bounds of a file hold over all of its fences.
func TestFenceFileBounds(t *testing.T) {
	t.Parallel()
	many := func(n int, feature func(i int) string) []byte {
		features := make([]string, n)
		for i := range features {
			features[i] = feature(i)
		}
		return fmt.Appendf(nil, `{"type":"FeatureCollection","features":[%s]}`, strings.Join(features, ","))
	}
	circle := func(i int) string {
		return fmt.Sprintf(`{"type":"Feature","properties":{"name":%d,"radius_m":5},"geometry":{"type":"Point","coordinates":[11,48]}}`, i)
	}
	large := func(i int) string { // 10 corners
		return fmt.Sprintf(`{"type":"Feature","id":%d,"geometry":{"type":"MultiPolygon","coordinates":[%s,%s]}}`, i, square, square)
	}
	few := fenceBounds{fences: 20, corners: 150, each: 10}
	for _, c := range []struct {
		file []byte
		most fenceBounds
		want string // empty: nothing is wrong
	}{
		{many(20, circle), few, ""},
		{many(21, circle), few, "feature 21, line 1: there are more than 20 fences; leave out"},
		{many(15, large), few, ""},
		{many(16, large), few, `feature 16 ("15"), line 1: too many corners: more than 10 in a fence, or 150 in all; simplify`},
		{many(1, large), fenceBounds{20, 150, 9}, `feature 1 ("0"), line 1: too many corners: more than 9 in a fence`},
	} {
		_, err := parseFences(c.file, c.most)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	path := filepath.Join(t.TempDir(), "large.geojson")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(maxFenceFile + 1); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadFences(path); err == nil || !strings.Contains(err.Error(), path+": it is larger than 64 MiB") {
		t.Error(err)
	}
}

// Holes, several polygons, circles, altitudes and what else programs write.
func TestFenceShapes(t *testing.T) {
	f, err := parseFences([]byte("\xef\xbb\xbf"+`{"name":"layer","crs":{"type":"name"},"features":[
 {"type":"Feature","id":7,"bbox":[1,2,3,4],"properties":{"name":"Ring road","speed_limit_kmh":60,"stroke":"#f00","note":null},"geometry":{"type":"Polygon","coordinates":
  [[[11,48,519],[11.04,48,519],[11.04,48.04,519],[11,48.04,519],[11,48,519]],[[11.01,48.01],[11.03,48.01],[11.03,48.03],[11.01,48.03],[11.01,48.01]]]}},
 {"type":"Feature","id":"b","properties":{"name":null,"radius_m":null},"geometry":{"type":"MultiPolygon","coordinates":
  [[[[11,48],[11.01,48],[11.01,48.01],[11,48.01],[11,48]]],[[[11.02,48],[11.03,48],[11.03,48.01],[11.02,48.01],[11.02,48]]]]}},
 {"type":"Feature","properties":{"name":"Gate","radius_m":250.5},"geometry":{"type":"Point","coordinates":[11.02,48.02]}}
],"type":"FeatureCollection"}`), mostFences)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []fence{{name: "Ring road", id: "7", limit: 60}, {name: "b", id: "b"}, {name: "Gate", radius: 250.5}} {
		if got := f.fences[i]; got.name != want.name || got.id != want.id || got.limit != want.limit || got.radius != want.radius {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	degree := planeAt(orb.Point{11.02, 48.02}) // metres: 74.5 km east, 111.2 km north
	for _, c := range []struct {
		fence               int
		longitude, latitude float64
		inside              bool
		border              float64 // metres
	}{
		{0, 11.005, 48.02, true, 0.005 * degree.east},                                // between border and hole
		{0, 11.02, 48.02, false, 0.01 * degree.east},                                 // in the hole
		{0, 11.02, 48.009, true, 0.001 * degree.north},                               // under the hole
		{0, 10.999, 48.02, false, 0.001 * degree.east},                               // outside
		{1, 11.0099, 48.005, true, 0.0001 * degree.east},                             // in the first
		{1, 11.015, 48.005, false, 0.005 * degree.east},                              // between them
		{1, 11.0201, 48.005, true, 0.0001 * degree.east},                             // in the second
		{2, 11.02, 48.02, true, 250.5},                                               // its centre
		{2, 11.02 + 250/degree.east, 48.02, true, 0.5},                               // just inside
		{2, 11.02, 48.02 - 252/degree.north, false, 1.5},                             // just outside
		{2, 11.02 + 180/degree.east, 48.02 + 180/degree.north, false, 254.6 - 250.5}, // in its box alone
	} {
		p := orb.Point{c.longitude, c.latitude}
		fence := &f.fences[c.fence]
		if got := fence.contains(p); got != c.inside {
			t.Errorf("%s at %v: inside is %v", fence.name, p, got)
		}
		if got := fence.border(p); math.Abs(got-c.border) > 0.002*c.border+0.1 {
			t.Errorf("%s at %v: %.2f m from the border, want %.2f", fence.name, p, got, c.border)
		}
	}
	// A degree by the usual series for WGS 84, in metres.
	const rad = math.Pi / 180
	north := 111132.954 - 559.822*math.Cos(2*48.02*rad) + 1.175*math.Cos(4*48.02*rad)
	east := 111412.84*math.Cos(48.02*rad) - 93.5*math.Cos(3*48.02*rad) + 0.118*math.Cos(5*48.02*rad)
	for _, c := range []struct{ got, want float64 }{
		{metres(placeAt(orb.Point{11.02, 48.02}), placeAt(orb.Point{11.02, 48.03})), north / 100},
		{metres(placeAt(orb.Point{11.02, 48.02}), placeAt(orb.Point{11.03, 48.02})), east / 100},
	} {
		if math.Abs(c.got-c.want) > 0.05 {
			t.Errorf("%.3f m, want %.3f", c.got, c.want)
		}
	}
}

// Whatever a file holds, it is refused with a reason or holds fences that can be asked.
func FuzzFences(f *testing.F) {
	f.Add([]byte(oneFeature(`{"name":"a","speed_limit_kmh":30}`, "Polygon", square)))
	f.Add([]byte(oneFeature(`{"name":"b","radius_m":30}`, "Point", `[11,48]`)))
	f.Add([]byte(oneFeature(`{"name":"c"}`, "MultiPolygon", `[`+square+`]`, `{"type":"Feature","id":1}`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		fences, err := parseFences(b, mostFences)
		if err != nil {
			if fences != nil || !strings.Contains(err.Error(), "line ") {
				t.Errorf("%v, %v", fences, err)
			}
			return
		}
		if fences.Len() == 0 || len(fences.bounds) != fences.Len() {
			t.Errorf("%d fences, %d boxes", fences.Len(), len(fences.bounds))
		}
		for i := range fences.fences {
			one, box := &fences.fences[i], fences.bounds[i]
			if one.key() == "" || one.limit < 0 {
				t.Errorf("%+v", one)
			}
			for _, p := range []orb.Point{box.Center(), box.Min, box.Max, {0, 0}, {-180, 90}} {
				if d := one.border(p); !(d >= 0) || math.IsInf(d, 0) {
					t.Errorf("%v m from the border of %+v", d, one)
				}
				if one.contains(p) && !box.Pad(1e-9).Contains(p) {
					t.Errorf("%v is in %+v, but not in its box %v", p, one, box)
				}
			}
		}
	})
}
