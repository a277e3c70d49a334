package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The rules by which `telemetryd decode gps` is scored against gpsd's reading of the
// same recorded stream. An epoch of the reference is the last TPV with a position
// of its time. It agrees when one decoded fix is within all of these of it.
const (
	timeWithin      = time.Millisecond // give or take whole multiples of weeks1024
	degreesWithin   = 1e-6             // latitude and longitude
	speedWithin     = 0.05             // m/s; where the receiver sent a speed: gpsd derives the others
	headingWithin   = 0.1              // degrees; where that speed is above movingAbove
	movingAbove     = 0.5              // m/s
	weeks1024       = 1024 * 7 * 24 * time.Hour
	metresPerDegree = 111195        // on a sphere of 6371 km
	knot            = 1852.0 / 3600 // m/s
)

// score is how a stream was read.
type score struct {
	stream           string // file name without .log
	epochs, agreeing int
	disagreements    []disagreement
}

// disagreement is an epoch of the reference that no decoded fix agrees with.
type disagreement struct {
	time time.Time
	// causes says what differs, in words, from the decoded fix that comes nearest.
	causes []string
}

// tpv is gpsd's report of a fix ("Time-Position-Velocity", gpsd_json(5)). Speed is
// in m/s, track in degrees from true north; nil is absent.
type tpv struct {
	Class    string     `json:"class"`
	Time     *time.Time `json:"time"`
	Lat, Lon *float64
	Speed    *float64 `json:"speed"`
	Track    *float64 `json:"track"`
}

// decodedFix is a line of what decode gps prints.
type decodedFix struct {
	T         time.Time `json:"t"`
	Latitude  *float64  `json:"latitude"`
	Longitude *float64  `json:"longitude"`
	SpeedKmh  *float64  `json:"gps_speed_kmh"`
	Heading   *float64  `json:"heading_deg"`
}

// scoreFolder scores every NAME.log of dir against NAME.log.chk beside it.
func scoreFolder(ctx context.Context, dir string) ([]score, error) {
	logs, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*.log"))
	if err != nil {
		return nil, err
	}
	if len(logs) == 0 {
		return nil, fmt.Errorf("no recorded streams (NAME.log) in %s", dir)
	}
	var scores []score
	var errs []error
	for _, log := range logs {
		s, err := scoreStream(ctx, log)
		if err != nil {
			errs = append(errs, fmt.Errorf("score %s: %w", filepath.Base(log), err))
			continue
		}
		scores = append(scores, s)
	}
	return scores, errors.Join(errs...)
}

// escapeGlob keeps what filepath.Match reads as a pattern from being one.
func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

func scoreStream(ctx context.Context, log string) (score, error) {
	raw, err := os.ReadFile(log)
	if err != nil {
		return score{}, err
	}
	reference, err := readReference(log + ".chk")
	if err != nil {
		return score{}, err
	}
	fixes, err := decodeStream(ctx, log)
	if err != nil {
		return score{}, err
	}
	s := score{stream: strings.TrimSuffix(filepath.Base(log), ".log"), epochs: len(reference)}
	sent := speedsSent(raw)
	for _, want := range reference {
		causes := compare(want, fixes, sent[timeOfDay(*want.Time)])
		if len(causes) == 0 {
			s.agreeing++
			continue
		}
		s.disagreements = append(s.disagreements, disagreement{*want.Time, causes})
	}
	return s, nil
}

// readReference returns the epochs of a file of JSON lines, in the order of their
// first report. Other lines than TPV are gpsd's talk of other things.
func readReference(file string) ([]tpv, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var epochs []tpv
	place := map[time.Time]int{}
	for line := range bytes.Lines(content) {
		var r tpv
		if json.Unmarshal(line, &r) != nil || r.Class != "TPV" || r.Time == nil || r.Lat == nil || r.Lon == nil {
			continue
		}
		if i, seen := place[*r.Time]; seen {
			epochs[i] = r
			continue
		}
		place[*r.Time] = len(epochs)
		epochs = append(epochs, r)
	}
	return epochs, nil
}

// decodeStream runs the program on a stream. Whatever it prints that is no JSON
// object with a time and a position is an error.
func decodeStream(ctx context.Context, log string) ([]decodedFix, error) {
	out, err := exec.CommandContext(ctx, "telemetryd", "decode", "gps", log).Output()
	if err != nil {
		return nil, fmt.Errorf("telemetryd decode gps: %w", err)
	}
	var fixes []decodedFix
	for line := range bytes.Lines(out) {
		var f decodedFix
		if err := json.Unmarshal(line, &f); err != nil {
			return nil, fmt.Errorf("telemetryd decode gps printed %q: %w", line, err)
		}
		if f.T.IsZero() || f.Latitude == nil || f.Longitude == nil {
			return nil, fmt.Errorf("telemetryd decode gps printed no fix: %q", line)
		}
		fixes = append(fixes, f)
	}
	return fixes, nil
}

// compare returns why no fix agrees with an epoch of the reference; nothing if one
// does. sent holds the speeds in m/s that the receiver itself sent in the epoch.
func compare(want tpv, fixes []decodedFix, sent []float64) []string {
	var nearest []string
	for _, got := range fixes {
		apart := got.T.Sub(*want.Time)
		apart -= apart.Round(weeks1024)
		if apart.Abs() > timeWithin {
			continue
		}
		causes := compareFix(want, got, sent)
		if len(causes) == 0 {
			return nil
		}
		if nearest == nil || len(causes) < len(nearest) {
			nearest = causes
		}
	}
	if nearest == nil {
		return []string{"time missing: no decoded fix of this time"}
	}
	return nearest
}

func compareFix(want tpv, got decodedFix, sent []float64) (causes []string) {
	north, east := *got.Latitude-*want.Lat, math.Remainder(*got.Longitude-*want.Lon, 360)
	if math.Abs(north) > degreesWithin || math.Abs(east) > degreesWithin {
		causes = append(causes, fmt.Sprintf("position: %.7f %.7f, reference %.7f %.7f, %.1f m apart", *got.Latitude, *got.Longitude,
			*want.Lat, *want.Lon, metresPerDegree*math.Hypot(north, east*math.Cos(*want.Lat*math.Pi/180))))
	}
	if want.Speed == nil || len(sent) == 0 && got.SpeedKmh == nil {
		return causes
	}
	switch {
	case got.SpeedKmh == nil:
		causes = append(causes, fmt.Sprintf("speed: none, reference %.2f m/s, the receiver sent %.2f", *want.Speed, sent))
	case math.Abs(*got.SpeedKmh/3.6-*want.Speed) > speedWithin:
		causes = append(causes, fmt.Sprintf("speed: %.2f m/s, reference %.2f, the receiver sent %.2f", *got.SpeedKmh/3.6, *want.Speed, sent))
	}
	if want.Track == nil || *want.Speed <= movingAbove {
		return causes
	}
	switch {
	case got.Heading == nil:
		causes = append(causes, fmt.Sprintf("heading: none, reference %.2f degrees", *want.Track))
	case math.Abs(math.Remainder(*got.Heading-*want.Track, 360)) > headingWithin+1e-9: // 1e-9: decimals in binary
		causes = append(causes, fmt.Sprintf("heading: %.2f degrees, reference %.2f", *got.Heading, *want.Track))
	}
	return causes
}

// timeOfDay is how long ago the day began at t, to the millisecond.
func timeOfDay(t time.Time) time.Duration {
	return t.Sub(t.Truncate(24 * time.Hour)).Round(time.Millisecond)
}

// speedsSent reads from a stream, without the product's decoder, which speeds in m/s
// the receiver sent at each time of day: those of RMC, and of VTG after a
// sentence of that time.
func speedsSent(raw []byte) map[time.Duration][]float64 {
	sent := map[time.Duration][]float64{}
	var now time.Duration
	begun := false
	for line := range bytes.FieldsFuncSeq(raw, func(r rune) bool { return r == '\r' || r == '\n' }) {
		kind, fields := soundFields(string(line))
		at := map[string]int{"RMC": 1, "GGA": 1, "GNS": 1, "ZDA": 1, "GLL": 5}[kind]
		if at > 0 && at < len(fields) {
			if t, ok := parseTimeOfDay(fields[at]); ok {
				now, begun = t, true
			}
		}
		var knots string
		switch {
		case kind == "RMC" && len(fields) > 7 && fields[2] == "A":
			knots = fields[7]
		case kind == "VTG" && len(fields) > 5 && (len(fields) < 10 || fields[9] != "N"):
			knots = fields[5]
		}
		if v, err := strconv.ParseFloat(knots, 64); err == nil && begun {
			sent[now] = append(sent[now], v*knot)
		}
	}
	return sent
}

// soundFields splits the last sentence of a line whose checksum is right; kind is
// its address without the talker.
func soundFields(line string) (kind string, fields []string) {
	body, check, found := strings.Cut(line[strings.LastIndexByte(line, '$')+1:], "*")
	want, err := strconv.ParseUint(strings.TrimSpace(check), 16, 8)
	var sum byte
	for i := range len(body) {
		sum ^= body[i]
	}
	if !found || err != nil || byte(want) != sum {
		return "", nil
	}
	fields = strings.Split(body, ",")
	if len(fields[0]) != 5 {
		return "", nil
	}
	return fields[0][2:], fields
}

func parseTimeOfDay(hhmmss string) (time.Duration, bool) {
	x, err := strconv.ParseFloat(hhmmss, 64)
	if err != nil || len(hhmmss) < 6 || !(x >= 0 && x < 240000) {
		return 0, false
	}
	whole := int(x)
	seconds := float64(whole/10000*3600+whole/100%100*60+whole%100) + x - float64(whole)
	return time.Duration(seconds * float64(time.Second)).Round(time.Millisecond), true
}

// printScores writes a row per stream and the total; then, if asked, a line per
// epoch that disagrees.
func printScores(w io.Writer, scores []score, causes bool) error {
	out := bufio.NewWriter(w)
	total := score{stream: "total"}
	row := func(s score) {
		percent := "-"
		if s.epochs > 0 {
			percent = fmt.Sprintf("%.2f", s.percent())
		}
		fmt.Fprintf(out, "%-28s %6d %8d %8s\n", s.stream, s.epochs, s.agreeing, percent)
	}
	fmt.Fprintf(out, "%-28s %6s %8s %8s\n", "stream", "epochs", "agreeing", "percent")
	for _, s := range scores {
		row(s)
		total.epochs += s.epochs
		total.agreeing += s.agreeing
	}
	row(total)
	for _, s := range scores {
		for _, d := range s.disagreements {
			if causes {
				fmt.Fprintf(out, "%s %s %s\n", s.stream, d.time.Format("2006-01-02T15:04:05.000Z"), strings.Join(d.causes, "; "))
			}
		}
	}
	return out.Flush()
}

func (s score) percent() float64 { return 100 * float64(s.agreeing) / float64(s.epochs) }
