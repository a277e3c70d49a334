package sim

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A drive that is asked in any order says what one that walks forward says.
func TestDriveIsAFunctionOfSeedAndTime(t *testing.T) {
	const moments = 1500 // one a second, over two loops
	forward := newDrive(1)
	var want [moments]state
	for i := range want {
		want[i] = forward.at(time.Duration(i) * 1003 * time.Millisecond)
	}
	asked := newDrive(1)
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(0, moments-1).Draw(t, "moment")
		if got := asked.at(time.Duration(i) * 1003 * time.Millisecond); got != want[i] {
			t.Fatalf("second %d: %+v, walking forward it was %+v", i, got, want[i])
		}
	})
	if newDrive(2).at(time.Minute) == want[60] {
		t.Error("another seed is another drive")
	}
}

func TestDriveIsPlausible(t *testing.T) {
	for seed := range uint64(4) {
		d := newDrive(seed)
		before := d.at(0)
		var travelled, fastest float64
		var stood, ignitionOff time.Duration
		for now := stepTime; now < 45*time.Minute; now += stepTime {
			s := d.at(now)
			travelled += (before.speed + s.speed) / 2 * dt
			fastest = max(fastest, s.speed)
			if s.speed == 0 {
				stood += stepTime
			}
			if !s.ignition {
				ignitionOff += stepTime
			}
			if a := (s.speed - before.speed) / dt; a > 3 || a < -hardest-1 {
				t.Fatalf("seed %d, %v: acceleration %.2f m/s^2", seed, now, a)
			}
			checkRange(t, now, "speed", s.speed*3.6, 0, 90)
			checkRange(t, now, "rpm", s.rpm, 0, 4500)
			checkRange(t, now, "coolant", s.coolant, s.ambient, 105)
			checkRange(t, now, "oil", s.oil, s.ambient, 112)
			checkRange(t, now, "intake", s.intake, s.ambient, 60)
			checkRange(t, now, "manifold", s.manifold, 20, 100)
			checkRange(t, now, "maf", s.maf, 0, 120)
			checkRange(t, now, "fuel rate", s.fuelRate, 0, 35)
			checkRange(t, now, "volts", s.volts, 10.5, 14.3)
			checkRange(t, now, "load", s.load, 0, 1)
			if s.engine && s.runTime > 1 {
				checkRange(t, now, "running rpm", s.rpm, 600, 4500)
			}
			if s.speed > 0 && !s.engine {
				t.Fatalf("seed %d, %v: rolls at %.1f m/s without an engine", seed, now, s.speed)
			}
			if s.fuel > before.fuel || s.odometer < before.odometer {
				t.Fatalf("seed %d, %v: fuel %v to %v, odometer %v to %v", seed, now, before.fuel, s.fuel, before.odometer, s.odometer)
			}
			before = s
		}
		if math.Abs(travelled-before.path) > 0.5 {
			t.Errorf("seed %d: the integral of the speed is %.2f m, the path %.2f m", seed, travelled, before.path)
		}
		if got := before.odometer - newDrive(seed).at(0).odometer; math.Abs(got-before.path/1000) > 1e-3 {
			t.Errorf("seed %d: the odometer rose %.4f km on %.4f km", seed, got, before.path/1000)
		}
		t.Logf("seed %d: %.1f km, %d loops, at most %.0f km/h, stood %v, ignition off %v, coolant %.0f, fuel %.1f l",
			seed, before.path/1000, before.lap, fastest*3.6, stood, ignitionOff, before.coolant, before.fuel)
		if fastest*3.6 < 60 || before.lap < 2 || ignitionOff < 2*time.Minute || before.coolant < 80 {
			t.Errorf("seed %d: too little happens", seed)
		}
	}
}

func checkRange(t *testing.T, now time.Duration, what string, x, lo, hi float64) {
	t.Helper()
	if !(x >= lo && x <= hi) {
		t.Fatalf("%v: %s is %v, not in %v..%v", now, what, x, lo, hi)
	}
}

func TestDriveMovesSoon(t *testing.T) {
	s := newDrive(1).at(5 * time.Second)
	if !s.engine || s.speed < 2 {
		t.Errorf("after 5 s: engine %v, speed %.1f m/s", s.engine, s.speed)
	}
}

func TestPositionAgreesWithWheels(t *testing.T) {
	d := newDrive(3)
	before := d.at(0)
	const every = 200 * time.Millisecond
	for now := every; now < 40*time.Minute; now += every {
		s := d.at(now)
		driven := s.path - before.path
		lat0, lon0, _, heading0 := before.position()
		lat1, lon1, _, heading1 := s.position()
		moved, bearing := haversine(lat0, lon0, lat1, lon1)
		if math.Abs(moved-driven) > 0.006*driven+0.02 { // a sphere, and chords of bends
			t.Fatalf("%v: wheels %.3f m, position %.3f m", now, driven, moved)
		}
		if turn := turned(heading0, heading1); driven > 1 {
			if math.Abs(turn) > 60 {
				t.Fatalf("%v: turned %.0f degrees within %v", now, turn, every)
			}
			if off := turned(bearing, heading1); math.Abs(off) > 5+math.Abs(turn) {
				t.Fatalf("%v: heads to %.1f, moved to %.1f", now, heading1, bearing)
			}
		}
		before = s
	}
}

// haversine is distance and bearing on a sphere of the local radius.
func haversine(lat0, lon0, lat1, lon1 float64) (distance, bearing float64) {
	const rad = math.Pi / 180
	a, b, dLat, dLon := lat0*rad, lat1*rad, (lat1-lat0)*rad, (lon1-lon0)*rad
	h := math.Pow(math.Sin(dLat/2), 2) + math.Cos(a)*math.Cos(b)*math.Pow(math.Sin(dLon/2), 2)
	distance = 2 * 6380000 * math.Asin(math.Sqrt(h))
	bearing = math.Atan2(math.Sin(dLon)*math.Cos(b), math.Cos(a)*math.Sin(b)-math.Sin(a)*math.Cos(b)*math.Cos(dLon)) / rad
	return distance, math.Mod(bearing+360, 360)
}

func TestDriveKeepsLittle(t *testing.T) {
	d := newDrive(9)
	d.at(8 * time.Hour)
	if len(d.checkpoints) != checkpointsKept {
		t.Errorf("%d checkpoints after eight hours", len(d.checkpoints))
	}
	late := d.at(8 * time.Hour)
	d.at(7 * time.Hour) // from a checkpoint
	if d.at(8*time.Hour) != late {
		t.Error("a look back changed the drive")
	}
	if late.fuel <= 0 || late.odometer-newDrive(9).at(0).odometer < 200 {
		t.Errorf("after eight hours: %.1f l, %.0f km", late.fuel, late.odometer)
	}
}
