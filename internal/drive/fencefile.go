package drive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/paulmach/orb"
	"github.com/paulmach/orb/planar"
)

// Bounds of a file of fences. 10,000 polygons of 100 corners take 20 MB, and 100 MB for a
// moment while they are read.
const (
	maxFenceFile   = 64 << 20 // bytes
	maxFenceRadius = 100_000  // metres
	maxFenceName   = 128      // bytes
	maxFenceLimit  = 400      // km/h
	// maxCircleLatitude keeps circles off the poles, where degrees of longitude end.
	maxCircleLatitude = 85
)

// fenceBounds are how many there may be.
type fenceBounds struct {
	fences  int
	corners int // of all of them
	each    int // corners of one: whether it contains a fix is asked often
}

var mostFences = fenceBounds{fences: 20_000, corners: 1_500_000, each: 100_000}

// LoadFences reads the fences of a GeoJSON file (RFC 7946). Errors name the file, the
// feature by its number in the file, what is wrong with it and what is allowed.
func LoadFences(path string) (*Fences, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxFenceFile {
		return nil, fmt.Errorf("%s: it is larger than %d MiB; simplify the polygons, or leave out fences that this vehicle never comes to", path, maxFenceFile>>20)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the geofences: %w", err)
	}
	fences, err := parseFences(b, mostFences)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return fences, nil
}

// fenceFile is a file while it is read, feature by feature: what one takes in memory beside
// the file is the largest feature.
type fenceFile struct {
	*json.Decoder
	content []byte
	most    fenceBounds
	fences  Fences
	corners int
	known   map[string]int // number of the feature by key
	feature int            // the one that is read, from 1
	name    string         // of it
}

func parseFences(b []byte, most fenceBounds) (*Fences, error) {
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")) // Windows' mark of UTF-8
	f := &fenceFile{Decoder: json.NewDecoder(bytes.NewReader(b)), content: b, most: most, known: map[string]int{}}
	if err := f.collection(); err != nil {
		return nil, f.where(err)
	}
	return new(f.fences), nil // a pointer into f would hold the file
}

// where says which feature an error is of, and for what is no JSON the line.
func (f *fenceFile) where(err error) error {
	at := f.InputOffset()
	// A decoder does not tell where in a value it stumbled, but a look at the whole does.
	if e, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(f.content, new(json.RawMessage))); ok {
		at, err = e.Offset, fmt.Errorf("it is no JSON: %w", e)
	}
	if f.feature == 0 {
		return fmt.Errorf("line %d: %w", f.line(at), err)
	}
	if f.name == "" {
		return fmt.Errorf("feature %d, line %d: %w", f.feature, f.line(at), err)
	}
	return fmt.Errorf("feature %d (%q), line %d: %w", f.feature, f.name, f.line(at), err)
}

func (f *fenceFile) line(offset int64) int { return 1 + bytes.Count(f.content[:offset], []byte{'\n'}) }

var errNoCollection = errors.New(`a FeatureCollection is wanted: {"type": "FeatureCollection", "features": [...]}, as geojson.io and QGIS save it`)

// collection reads the outermost object.
func (f *fenceFile) collection() error {
	if open, err := f.Token(); err != nil {
		return err
	} else if open != json.Delim('{') {
		return errNoCollection
	}
	kind, there := "", false
	for f.More() {
		key, err := f.Token()
		if err != nil {
			return err
		}
		switch {
		case key == "type":
			var text any
			if err := f.Decode(&text); err != nil {
				return err
			}
			kind, _ = text.(string)
		case key == "features" && !there:
			there = true
			if err := f.features(); err != nil {
				return err
			}
		default: // what others add
			if err := f.Decode(new(json.RawMessage)); err != nil {
				return err
			}
		}
	}
	if _, err := f.Token(); err != nil {
		return err
	}
	if kind != "FeatureCollection" || !there {
		return errNoCollection
	}
	if _, err := f.Token(); err != io.EOF {
		return errors.New("something stands behind the FeatureCollection; one a file is allowed")
	}
	if f.fences.Len() == 0 {
		return errors.New("there is no feature in it; draw one, or leave geofences out of the settings")
	}
	return nil
}

func (f *fenceFile) features() error {
	if open, err := f.Token(); err != nil {
		return err
	} else if open != json.Delim('[') {
		return errNoCollection
	}
	for n := 1; f.More(); n++ {
		f.feature, f.name = n, ""
		if n > f.most.fences {
			return fmt.Errorf("there are more than %d fences; leave out those that this vehicle never comes to", f.most.fences)
		}
		var written json.RawMessage
		if err := f.Decode(&written); err != nil {
			return err
		}
		if err := f.add(written); err != nil {
			return err
		}
	}
	f.feature, f.name = 0, ""
	_, err := f.Token()
	return err
}

// add reads a feature.
func (f *fenceFile) add(written json.RawMessage) error {
	var feature struct {
		Type       string
		ID         json.RawMessage
		Properties map[string]json.RawMessage
		Geometry   struct {
			Type        string
			Coordinates json.RawMessage
		}
	}
	if err := json.Unmarshal(written, &feature); err != nil {
		return fmt.Errorf(`it is no feature of GeoJSON: %w; allowed: {"type": "Feature", "properties": {"name": ...}, "geometry": {"type": ..., "coordinates": ...}}`, err)
	}
	if feature.Type != "Feature" {
		return fmt.Errorf(`its type is %q; allowed: "Feature"`, feature.Type)
	}
	var one fence
	var radius float64
	var err error
	if one.name, err = fenceText(feature.Properties["name"]); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	f.name = one.name
	if one.id, err = fenceText(feature.ID); err != nil {
		return fmt.Errorf("id: %w", err)
	}
	if one.name == "" {
		if one.name = one.id; one.name == "" {
			return errors.New(`it has no name; give it one: "properties": {"name": "Depot"}`)
		}
		f.name = one.name
	}
	if first, twice := f.known[one.key()]; twice {
		return fmt.Errorf("feature %d has the same name or id; give each its own, or make them one MultiPolygon", first)
	}
	f.known[one.key()] = f.feature
	if one.limit, err = fenceNumber(feature.Properties["speed_limit_kmh"], maxFenceLimit, "km/h"); err != nil {
		return fmt.Errorf("speed_limit_kmh: %w", err)
	}
	if radius, err = fenceNumber(feature.Properties["radius_m"], maxFenceRadius, "metres"); err != nil {
		return fmt.Errorf("radius_m: %w", err)
	}
	bound, err := f.shape(&one, feature.Geometry.Type, feature.Geometry.Coordinates, radius)
	if err != nil {
		return err
	}
	f.fences.fences, f.fences.bounds = append(f.fences.fences, one), append(f.fences.bounds, bound)
	return nil
}

// fenceText reads a name or an id: a text, or a number as tables have it. What is missing
// or null is empty.
func fenceText(written json.RawMessage) (text string, err error) {
	switch {
	case len(written) == 0 || string(written) == "null":
		return "", nil
	case written[0] == '"':
		err = json.Unmarshal(written, &text)
	case written[0] == '-' || written[0] >= '0' && written[0] <= '9':
		text = string(written)
	default:
		err = errors.New("no text")
	}
	if text = strings.TrimSpace(text); err != nil || len(text) > maxFenceName {
		return "", fmt.Errorf("it is %.40s; allowed: a text of up to %d bytes", written, maxFenceName)
	}
	return text, nil
}

// fenceNumber reads a positive number; 0 when it is missing or null.
func fenceNumber(written json.RawMessage, most float64, unit string) (x float64, err error) {
	if len(written) == 0 || string(written) == "null" {
		return 0, nil
	}
	if err := json.Unmarshal(written, &x); err != nil || !(x >= 1 && x <= most) {
		return 0, fmt.Errorf("it is %.40s; allowed: a number from 1 to %v %s, without quotation marks", written, most, unit)
	}
	return x, nil
}

// shape reads the geometry of a fence; bound is its box in degrees.
func (f *fenceFile) shape(one *fence, kind string, coordinates json.RawMessage, radius float64) (bound orb.Bound, err error) {
	if bytes.Contains(coordinates, []byte("null")) { // would be read as 0
		return bound, errors.New("its coordinates have a null; allowed: numbers")
	}
	var polygons [][][][]float64
	switch kind {
	case "Point":
		return f.circle(one, coordinates, radius)
	case "Polygon":
		polygons = make([][][][]float64, 1)
		err = json.Unmarshal(coordinates, &polygons[0])
	case "MultiPolygon":
		err = json.Unmarshal(coordinates, &polygons)
	case "":
		return bound, errors.New("it has no geometry; draw one, or take the feature out")
	default:
		return bound, fmt.Errorf("a %.40s has no inside; allowed: Polygon, MultiPolygon, or Point with radius_m", kind)
	}
	switch {
	case err != nil:
		return bound, fmt.Errorf("its coordinates are not those of a %s: %w", kind, err)
	case radius > 0:
		return bound, fmt.Errorf("radius_m belongs to a Point; a %s has its border already", kind)
	case len(polygons) == 0:
		return bound, fmt.Errorf("its %s has no polygon; draw one, or take the feature out", kind)
	}
	mine := 0
	for i, rings := range polygons {
		if len(rings) == 0 {
			return bound, fmt.Errorf("polygon %d has no ring; draw one, or take the feature out", i+1)
		}
		var polygon orb.Polygon
		for k, positions := range rings {
			if mine += len(positions); mine > f.most.each || f.corners+mine > f.most.corners {
				return bound, fmt.Errorf("too many corners: more than %d in a fence, or %d in all; simplify the polygons (mapshaper.org, or Simplify in QGIS)", f.most.each, f.most.corners)
			}
			ring, err := readRing(positions)
			if err != nil {
				return bound, fmt.Errorf("polygon %d, ring %d: %w", i+1, k+1, err)
			}
			polygon = append(polygon, ring)
		}
		one.polygons = append(one.polygons, polygon)
	}
	f.corners += mine
	bound = one.polygons.Bound()
	one.plane = planeAt(bound.Center())
	for i, polygon := range one.polygons {
		for k, ring := range polygon {
			for j := range ring {
				ring[j] = one.plane.metres(ring[j])
			}
			if planar.Area(ring) == 0 {
				return bound, fmt.Errorf("polygon %d, ring %d: it has no area; its corners lie on a line", i+1, k+1)
			}
		}
	}
	return bound, nil
}

func readRing(positions [][]float64) (orb.Ring, error) {
	if len(positions) < 4 {
		return nil, fmt.Errorf("it has %d positions; a ring has 4 at least, the last one as the first", len(positions))
	}
	ring := make(orb.Ring, 0, len(positions))
	for i, written := range positions {
		p, err := readPosition(written)
		if err != nil {
			return nil, err
		}
		if i > 0 && (p[0]-ring[i-1][0] > 180 || ring[i-1][0]-p[0] > 180) {
			return nil, errors.New("an edge goes around the world: cut what lies on both sides of the antimeridian into a MultiPolygon (RFC 7946, 3.1.9)")
		}
		ring = append(ring, p)
	}
	if !ring.Closed() {
		return nil, fmt.Errorf("it is not closed: its last position %v is not its first %v", ring[len(ring)-1], ring[0])
	}
	return ring, nil
}

// readPosition reads longitude and latitude; what follows is an altitude.
func readPosition(written []float64) (p orb.Point, err error) {
	if len(written) < 2 {
		return p, fmt.Errorf("position %.9g; allowed: [longitude, latitude]", written)
	}
	p = orb.Point{written[0], written[1]}
	if !(p[0] >= -180 && p[0] <= 180 && p[1] >= -90 && p[1] <= 90) {
		return p, fmt.Errorf("position %.9g; allowed: [longitude, latitude], longitude from -180 to 180, latitude from -90 to 90 degrees; save the file as WGS 84 (EPSG:4326)", written)
	}
	return p, nil
}

func (f *fenceFile) circle(one *fence, coordinates json.RawMessage, radius float64) (bound orb.Bound, err error) {
	var written []float64
	if err := json.Unmarshal(coordinates, &written); err != nil {
		return bound, fmt.Errorf("its coordinates are not those of a Point: %w", err)
	}
	centre, err := readPosition(written)
	if err != nil {
		return bound, err
	}
	if radius == 0 {
		return bound, fmt.Errorf(`a Point needs the radius of its circle: "properties": {"name": %q, "radius_m": 100}`, one.name)
	}
	one.plane, one.radius = planeAt(centre), radius
	away := orb.Point{radius / one.plane.east, radius / one.plane.north}
	bound = orb.Bound{Min: orb.Point{centre[0] - away[0], centre[1] - away[1]}, Max: orb.Point{centre[0] + away[0], centre[1] + away[1]}}
	switch {
	case bound.Min[1] < -maxCircleLatitude || bound.Max[1] > maxCircleLatitude:
		return bound, fmt.Errorf("a circle reaches to latitude %d at the most; draw a Polygon", maxCircleLatitude)
	case bound.Min[0] < -180 || bound.Max[0] > 180:
		return bound, errors.New("its circle reaches over the antimeridian; draw a MultiPolygon that is cut there (RFC 7946, 3.1.9)")
	}
	return bound, nil
}
