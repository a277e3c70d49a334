package sim

import (
	"bufio"
	"context"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adrianmo/go-nmea"
)

// arrival is a sentence and when it was complete.
type arrival struct {
	nmea.Sentence
	raw string
	at  time.Time
}

// listen runs a receiver for some fake time, and parses what it sends with a
// parser that is not of this package.
func listen(t *testing.T, c GPSConfig, speedup float64, duration time.Duration) (sentences []arrival, truths []Truth) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		conf, err := Config{Seed: 5, Speedup: speedup, GPS: c}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		l := pipeLine{make(chan wire, 1)}
		clock := driveClock{start: time.Now(), speedup: conf.Speedup}
		truth := &truthLog{call: func(truth Truth) { truths = append(truths, truth) }}
		r := newReceiver(l, newDrive(conf.Seed), clock, truth, conf)
		ctx, cancel := context.WithTimeout(t.Context(), duration)
		defer cancel()
		client, device := net.Pipe()
		l.clients <- device
		var running sync.WaitGroup
		running.Go(func() { r.run(ctx); _ = device.Close() })
		for lines := bufio.NewScanner(client); lines.Scan(); {
			s, err := nmea.Parse(lines.Text())
			if err != nil {
				t.Fatalf("%q: %v", lines.Text(), err)
			}
			sentences = append(sentences, arrival{s, lines.Text(), time.Now()})
		}
		running.Wait()
	})
	return sentences, truths
}

func TestSentencesAgreeWithTruth(t *testing.T) {
	sentences, truths := listen(t, GPSConfig{Rate: 5}, 1, 90*time.Second)
	byTime := map[string]map[string]any{}
	for _, truth := range truths {
		if truth.Source != "gps" || !*truth.Valid {
			t.Fatalf("%+v", truth)
		}
		byTime[truth.FixTime[11:23]] = truth.Values
	}
	if len(truths) != 5*90-1 {
		t.Errorf("%d epochs in 90 s", len(truths))
	}
	kinds := map[string]int{}
	var now map[string]any // of the epoch
	expect := func(s arrival, name string, got any) {
		t.Helper()
		if now[name] != got {
			t.Fatalf("%s: %s is %v, the log says %v", s.raw, name, got, now[name])
		}
	}
	for _, s := range sentences {
		kinds[s.DataType()]++
		switch m := s.Sentence.(type) {
		case nmea.RMC:
			now = byTime[m.Time.String()[:12]]
			expect(s, "latitude", round(m.Latitude, 7))
			expect(s, "longitude", round(m.Longitude, 7))
			expect(s, "gps_speed_kmh", round(m.Speed*1.852, 2))
			expect(s, "heading_deg", m.Course)
		case nmea.VTG:
			expect(s, "gps_speed_kmh", m.GroundSpeedKPH)
			expect(s, "gps_speed_kmh", round(m.GroundSpeedKnots*1.852, 2))
			expect(s, "heading_deg", m.TrueTrack)
		case nmea.GGA:
			expect(s, "latitude", round(m.Latitude, 7))
			expect(s, "longitude", round(m.Longitude, 7))
			expect(s, "altitude_m", m.Altitude)
			expect(s, "satellites", float64(m.NumSatellites))
			expect(s, "hdop", m.HDOP)
		case nmea.GSA:
			expect(s, "hdop", m.HDOP)
			if m.FixType != nmea.Fix3D {
				t.Fatalf("%s", s.raw)
			}
		case nmea.GSV:
		default:
			t.Fatalf("%s", s.raw)
		}
	}
	if n := len(truths); kinds["RMC"] != n || kinds["VTG"] != n || kinds["GGA"] != n || kinds["GSA"] != 2*n || kinds["GSV"] < 4*89 {
		t.Errorf("%d epochs, sentences %v", n, kinds)
	}
}

// Speed by the receiver is the wheels'; positions are as far apart as was driven.
func TestReceiverAgreesWithWheels(t *testing.T) {
	_, truths := listen(t, GPSConfig{Rate: 10}, 1, 3*time.Minute)
	moved, driven := 0.0, 0.0
	for i, truth := range truths[1:] {
		a, b := truths[i].Values, truth.Values
		d, _ := haversine(a["latitude"].(float64), a["longitude"].(float64), b["latitude"].(float64), b["longitude"].(float64))
		moved += d
		driven += (a["gps_speed_kmh"].(float64) + b["gps_speed_kmh"].(float64)) / 2 / 3.6 * 0.1
	}
	if driven < 500 || math.Abs(moved-driven) > 0.01*driven {
		t.Errorf("positions %.1f m, speed %.1f m", moved, driven)
	}
}

func TestEpochsAndLatency(t *testing.T) {
	sentences, truths := listen(t, GPSConfig{Rate: 3, Latency: 800 * time.Millisecond}, 60, 20*time.Second)
	for i, truth := range truths {
		fix, err := time.Parse(time.RFC3339, truth.FixTime)
		if err != nil || fix.Nanosecond()%int(gridTime) != 0 {
			t.Errorf("fix at %s", truth.FixTime)
		}
		if late := truth.T.Sub(fix); late != 800*time.Millisecond {
			t.Errorf("left after %v", late)
		}
		if i > 0 && truth.T.Sub(truths[i-1].T) != 300*time.Millisecond {
			t.Errorf("epochs %v and %v", truths[i-1].T, truth.T)
		}
	}
	if len(truths) < 60 || len(sentences) == 0 {
		t.Errorf("%d epochs in 20 s", len(truths))
	}
}

// A wire too slow for the rate leaves epochs out, rather than fall behind.
func TestSlowWireDropsEpochs(t *testing.T) {
	sentences, truths := listen(t, GPSConfig{Rate: 10, Baud: 9600}, 1, 20*time.Second)
	bytes := 0
	for _, s := range sentences {
		bytes += len(s.raw) + 2
	}
	if rate := float64(bytes) / 20; rate > 961 || rate < 850 {
		t.Errorf("%.0f bytes a second at 9600 baud", rate)
	}
	if len(truths) > 70 || len(truths) < 30 {
		t.Errorf("%d epochs", len(truths))
	}
	for _, truth := range truths {
		fix, _ := time.Parse(time.RFC3339, truth.FixTime)
		if late := truth.T.Sub(fix); late > time.Second {
			t.Errorf("%s left %v late", truth.FixTime, late)
		}
	}
}

func TestNoFixAtFirst(t *testing.T) {
	sentences, truths := listen(t, GPSConfig{NoFixFor: 5 * time.Second}, 1, 9500*time.Millisecond)
	valid := []bool{}
	for _, truth := range truths {
		valid = append(valid, *truth.Valid)
		if !*truth.Valid && len(truth.Values) != 0 {
			t.Errorf("values without a fix: %+v", truth)
		}
	}
	if want := []bool{false, false, false, false, true, true, true, true, true}; !slices.Equal(valid, want) {
		t.Errorf("valid %v", valid)
	}
	for _, s := range sentences[:4] {
		switch m := s.Sentence.(type) {
		case nmea.RMC:
			if m.Validity != "V" || m.Fields[2] != "" {
				t.Errorf("%s", s.raw)
			}
		case nmea.GGA:
			if m.FixQuality != "0" || m.Fields[1] != "" {
				t.Errorf("%s", s.raw)
			}
		}
	}
}

// Dates 1024 weeks late are told, and nothing else is wrong.
func TestRollover(t *testing.T) {
	sentences, truths := listen(t, GPSConfig{Rollover: true}, 1, 3500*time.Millisecond)
	told := 0
	for _, s := range sentences {
		m, ok := s.Sentence.(nmea.RMC)
		if !ok {
			continue
		}
		fix, err := time.Parse(time.RFC3339, truths[told].FixTime)
		if err != nil {
			t.Fatal(err)
		}
		if want := fix.Add(-1024 * 7 * 24 * time.Hour).Format("020106"); m.Fields[8] != want || m.Fields[0] != fix.Format("150405.000") {
			t.Errorf("told %s %s at %v", m.Fields[8], m.Fields[0], fix)
		}
		told++
	}
	if told == 0 {
		t.Error("no RMC")
	}
}

// countingWire counts what the backlog drops.
type countingWire struct {
	wire
	limits []int
}

func (w *countingWire) dropStale(limit int) { w.limits = append(w.limits, limit) }

func TestBacklogIsDroppedByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &countingWire{}
		b := newBacklog(w)
		for range 30 { // three seconds of ten epochs
			b.drop()
			b.sent(400)
			time.Sleep(100 * time.Millisecond)
		}
		if len(w.limits) != 1 || w.limits[0] != readAhead {
			t.Errorf("dropped %v", w.limits)
		}
	})
}

func TestAngles(t *testing.T) {
	for x, want := range map[float64]string{
		48.137154: "4808.22924,N", -33.99999999: "3400.00000,S", 0: "0000.00000,N", 11.999999999: "1200.00000,N",
	} {
		if got := newAngle(x).field(2, "N", "S"); got != want {
			t.Errorf("%v: %s, want %s", x, got, want)
		}
	}
	if got := newAngle(48.137154).value(); got != 48.137154 {
		t.Errorf("%v", got)
	}
	if !strings.HasPrefix(newAngle(-5).field(3, "E", "W"), "00500.00000,W") {
		t.Error("width")
	}
}
