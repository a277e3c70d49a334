package drive

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// All parts together: a drive, the vehicle is parked, then towed by strangers or driven by its
// owner.
func TestPartsTogether(t *testing.T) {
	type source = func(since time.Duration) values
	var north float64 // degrees
	standing := func(time.Duration) values {
		return values{"latitude": 48 + north, "longitude": 11.5, "gps_speed_kmh": 0.4, "hdop": 0.9}
	}
	moving := func(since time.Duration) values {
		kmh := min(36, 4*since.Seconds()) // it sets off gently
		north += kmh / 3.6 / 111195.0
		return values{"latitude": 48 + north, "longitude": 11.5, "gps_speed_kmh": kmh, "heading_deg": 0, "hdop": 0.9}
	}
	running := func(since time.Duration) values {
		return values{"engine_speed_rpm": 1800, "vehicle_speed_kmh": min(36, 4*since.Seconds()), "battery_voltage_v": 14.1}
	}
	resting := func(time.Duration) values { return values{"battery_voltage_v": 12.6} }
	for name, c := range map[string]struct {
		after []source
		want  []string
	}{
		"towed":  {[]source{resting, moving}, []string{"unparked movement", "moved_while_parked"}},
		"driven": {[]source{running, moving}, []string{"unparked engine", "trip_start t-2"}},
	} {
		t.Run(name, func(t *testing.T) {
			north = 0
			id := 0
			r := newRide(t, Config{Driving: UsualDriving, Trips: Trips{NewID: func() string { id++; return "t-" + strconv.Itoa(id) }}})
			r.run(3*time.Minute, running, moving)
			r.run(10*time.Minute, resting, standing)
			r.run(2*time.Minute, c.after...)
			var told []string
			for _, e := range r.events {
				switch data := e.Data.(type) {
				case Parked:
					told = append(told, e.Type)
				case Woke:
					told = append(told, e.Type+" "+data.Reason)
				default:
					if e.Type != "event_readings" {
						told = append(told, strings.TrimSpace(e.Type+" "+e.TripID))
					}
				}
				if e.Type == "moved_while_parked" && (e.Position == nil || fmt.Sprintf("%.3f", e.Position.Latitude) == "48.016") {
					t.Errorf("told where it was parked, not where it is: %+v", e.Position)
				}
			}
			want := append([]string{"trip_start t-1", "parked", "trip_end t-1"}, c.want...)
			if !slices.Equal(told, want) {
				t.Errorf("told %q\nwant %q", told, want)
			}
		})
	}
}

// A vehicle that is towed after the daemon was started again beside it is towed, if its car
// had told its speeds before; else somebody may be driving.
func TestTowedAfterRestart(t *testing.T) {
	for spoke, want := range map[bool][]string{true: {"unparked", "moved_while_parked"}, false: {"unparked", "trip_start"}} {
		north := 0.0
		r := newRide(t, Config{
			Driving: UsualDriving, Trips: Trips{NewID: func() string { return "t" }}, Parked: ParkedConfig{Already: true, Since: time.Second, Spoke: spoke},
		})
		towed := func(since time.Duration) values {
			kmh := min(36, 2*max(0, since-20*time.Minute).Seconds())
			north += kmh / 3.6 / 111195.0
			return values{"latitude": 48 + north, "longitude": 11.5, "gps_speed_kmh": kmh, "hdop": 0.9}
		}
		r.run(23*time.Minute, always(values{"battery_voltage_v": 12.6}), towed)
		var told []string
		for _, e := range r.events {
			if e.Type != "event_readings" {
				told = append(told, e.Type)
			}
			switch data := e.Data.(type) {
			case Woke:
				near(t, 0, "parked_s", data.Parked, (e.At - time.Second).Seconds(), 0.1)
			case movedData:
				near(t, 0, "parked_for_s", data.ParkedS, (e.At - time.Second).Seconds(), 0.1)
			}
		}
		if _, spoken := r.d.Mode().Changed(); !slices.Equal(told, want) || spoken != spoke {
			t.Errorf("spoke %v: told %q, want %q", spoke, told, want)
		}
	}
}

// A plug that falls out on the motorway, of an adapter that measures no voltage: the vehicle
// is not parked, and is on the same trip when it is heard again. A machine that slept for a
// night has not seen the end of the trip.
func TestLostOnTheWay(t *testing.T) {
	running := always(values{"engine_speed_rpm": 1800, "vehicle_speed_kmh": 80})
	for lost, want := range map[time.Duration]string{
		10 * time.Minute: "trip_start",
		20 * time.Minute: "trip_start trip_end cut_off trip_start",
	} {
		r := newRide(t, Config{Trips: Trips{NewID: func() string { return "t" }}})
		r.run(10*time.Minute, running)
		r.run(lost)
		r.run(10*time.Minute, running)
		if got := r.story(); got != want {
			t.Errorf("lost for %v: %s, want %s", lost, got, want)
		}
	}
	r := newRide(t, Config{Trips: Trips{NewID: func() string { return "t" }}})
	r.run(10*time.Minute, running)
	r.now += 12 * time.Hour
	r.run(10*time.Minute, running)
	if got, want := r.story(), "trip_start parked trip_end cut_off unparked trip_start"; got != want {
		t.Errorf("after a night: %s, want %s", got, want)
	}
	// The plug falls out, the adapter has its voltage from elsewhere: surer, and sooner.
	r = newRide(t, Config{Trips: Trips{NewID: func() string { return "t" }}})
	r.run(10*time.Minute, running, steady(12.6))
	r.run(4*time.Minute, steady(12.6))
	if r.parked() {
		t.Error("parked at 80 km/h")
	}
	r.run(2*time.Minute, steady(12.6))
	if !r.parked() {
		t.Error("not parked after idle")
	}
}

// story is what happened, in a line.
func (r *parkedRide) story() string {
	var told []string
	for _, e := range r.events {
		told = append(told, e.Type)
		if end, ok := e.Data.(TripEnd); ok && end.CutOff {
			told = append(told, "cut_off")
		}
	}
	return strings.Join(told, " ")
}

// One fix that is wrong, once a second, is as good as a harsh one for a vehicle that drives;
// one that is parked does not drive.
func TestParkedDrivesNotHarshly(t *testing.T) {
	r := newRide(t, Config{Driving: UsualDriving, Trips: Trips{NewID: func() string { return "t" }}})
	standing := values{"latitude": 48, "longitude": 11.5, "gps_speed_kmh": 0.4, "heading_deg": 10, "hdop": 0.9}
	r.run(10*time.Minute, always(standing))
	if !r.parked() {
		t.Fatal("not parked")
	}
	for range 100 {
		r.run(time.Second, always(values{"latitude": 48, "longitude": 11.5, "gps_speed_kmh": 30, "heading_deg": 100, "hdop": 0.9}))
		r.run(20*time.Second, always(standing))
	}
	if got, want := r.story(), "parked"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
