package sim

import (
	"math"
	"strings"
	"testing"
	"time"
)

var usual = Thresholds{BrakeMS2: 3.5, AccelerateMS2: 3, CornerMS2: 4, OverspeedKMH: 65, IdleS: 300, CoolantC: 115, TowM: 100, CrashMS2: 12}

// What a script says is what the vehicle does, and it does nothing of the kind besides.
func TestScriptIsDriven(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const long = 3 * time.Hour
	script := DrawScript(seed, 2, usual)
	d, err := NewScriptedDrive(seed, script)
	if err != nil {
		t.Fatal(err)
	}
	all := d.Happened(long)
	if len(all) != len(script) {
		t.Errorf("%d of %d manoeuvres were done in %v", len(all), len(script), long)
	}
	t.Logf("the last one is over after %v", all[len(all)-1].End)
	next := 0
	before := d.drive.at(0)
	for now := stepTime; now < all[len(all)-1].End+time.Minute; now += stepTime {
		s := d.drive.at(now)
		for next < len(all) && now > all[next].End {
			next++
		}
		// Within a step the acceleration is the one that was decided before.
		checkCalm(t, now, before, next < len(all) && now > all[next].Begin && now <= all[next].End, all[min(next, len(all)-1)])
		lat0, lon0, _, _ := before.position()
		lat1, lon1, _, _ := s.position()
		if moved, _ := haversine(lat0, lon0, lat1, lon1); math.Abs(moved-(s.path-before.path)) > 0.02 {
			t.Fatalf("%v: wheels %.3f m, position %.3f m (%+v)", now, s.path-before.path, moved, all[min(next, len(all)-1)])
		}
		before = s
	}
	for _, h := range all {
		begin, end := d.drive.at(h.Begin), d.drive.at(h.End)
		took := (h.End - h.Begin).Seconds()
		switch h.Kind {
		case Brake, Accelerate, Crash:
			if got := math.Abs(end.speed-begin.speed) / took; math.Abs(got-h.Amount) > 0.05*h.Amount && took > 1 {
				t.Errorf("%+v: %.2f m/s^2", h, got)
			}
		case Corner:
			if got := begin.speed * 2 * math.Pi / took; math.Abs(got-math.Abs(h.Amount)) > 0.05*math.Abs(h.Amount) {
				t.Errorf("%+v: %.2f m/s^2 to the side", h, got)
			}
		case Idle:
			if begin.speed != 0 || end.speed != 0 || math.Abs(took-h.Amount) > 1 {
				t.Errorf("%+v: stood for %.0f s", h, took)
			}
		case Tow:
			if got := end.path - begin.path; math.Abs(got-h.Amount) > 1 || begin.ignition || end.ignition {
				t.Errorf("%+v: moved by %.1f m", h, got)
			}
		case Overheat:
			if got := end.coolant; math.Abs(got-h.Amount) > 1 {
				t.Errorf("%+v: coolant at %.1f", h, got)
			}
		case Overspeed:
			if got := d.drive.at(h.End-5*time.Second).speed * 3.6; math.Abs(got-h.Amount) > 1 {
				t.Errorf("%+v: %.1f km/h", h, got)
			}
		}
	}
}

// checkCalm fails when a vehicle does by itself what a script is for.
func checkCalm(t *testing.T, now time.Duration, s state, doing bool, h Happening) {
	t.Helper()
	if doing {
		return
	}
	if s.accel < -hardest-1e-9 || s.accel > 2.5 || s.circle != 0 || s.speed*3.6 > 52.5 && s.accel > -1 || s.coolant > 112 && h.Kind != Overheat && !s.engine {
		t.Fatalf("%v, outside of the script (beside %+v): %+v", now, h, s)
	}
}

func TestScriptRefusesWhatCannotBeDone(t *testing.T) {
	for want, m := range map[string]Manoeuvre{
		"nothing is called":                     {Kind: "fly"},
		"is not between 0.5 and 12":             {Kind: Brake, Amount: 60, From: 50},
		"brake: from_kmh 10, to_kmh 50 cannot":  {Kind: Brake, Amount: 5, From: 10, To: 50},
		"crash: from_kmh 120, to_kmh 0 cannot":  {Kind: Crash, Amount: 80, From: 120},
		"idle: amount -3 is not between 1 and ": {Kind: Idle, Amount: -3},
	} {
		if _, err := NewScriptedDrive(1, Script{m}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", m, err, want)
		}
	}
	if _, err := NewScriptedDrive(1, make(Script, 65)); err == nil {
		t.Error("65 manoeuvres were taken")
	}
}
