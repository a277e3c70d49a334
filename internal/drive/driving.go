package drive

import (
	"crypto/rand"
	"math"
	"strings"
	"time"
)

// Driving says what counts as an event of driving. A limit of zero looks for nothing of
// that kind. docs/events.md tells where the usual ones come from.
type Driving struct {
	BrakingMS2      float64       // m/s^2, over a second
	AccelerationMS2 float64       // the same
	CorneringMS2    float64       // m/s^2 to the side, over a second
	OverspeedKMH    float64       // where no place has a limit of its own
	OverspeedFor    time.Duration // how long it lasts before it is one
	LongIdling      time.Duration
	CoolantC        float64
	MovedM          float64 // metres that a parked vehicle was moved
	CrashMS2        float64 // what brakes cannot do
	Readings        bool    // the readings around an event follow it
}

// UsualDriving is what counts where the owner does not say.
var UsualDriving = Driving{
	BrakingMS2: 3.5, AccelerationMS2: 3, CorneringMS2: 4, OverspeedFor: 5 * time.Second, LongIdling: 5 * time.Minute,
	CoolantC: 115, MovedM: 100, CrashMS2: 12, Readings: true,
}

// parts are those that look for what is wanted.
func (d Driving) parts() (all []part) {
	if d.CrashMS2 > 0 {
		all = append(all, &crash{limit: d.CrashMS2})
	}
	if d.BrakingMS2 > 0 {
		all = append(all, braking(d.BrakingMS2))
	}
	if d.AccelerationMS2 > 0 {
		all = append(all, acceleration(d.AccelerationMS2))
	}
	if d.CorneringMS2 > 0 {
		all = append(all, &cornering{manoeuvre: manoeuvre{limit: d.CorneringMS2}})
	}
	all = append(all, &overspeed{limit: d.OverspeedKMH, lasting: lasting{hold: d.OverspeedFor, release: overspeedOver}})
	if d.LongIdling > 0 {
		all = append(all, &idling{lasting: lasting{hold: d.LongIdling}})
	}
	if d.CoolantC > 0 {
		all = append(all, &overheat{limit: d.CoolantC, lasting: lasting{hold: hotFor, release: coolFor}})
	}
	if d.MovedM > 0 {
		all = append(all, &moved{limit: d.MovedM})
	}
	if kinds := d.ofSpeed(); len(kinds) > 0 || d.CorneringMS2 > 0 {
		all = append(all, &limited{speed: kinds, heading: d.CorneringMS2 > 0})
	}
	return all
}

// ofSpeed are the events that want the speed often.
func (d Driving) ofSpeed() (kinds []string) {
	if d.BrakingMS2 > 0 {
		kinds = append(kinds, "harsh_braking")
	}
	if d.AccelerationMS2 > 0 {
		kinds = append(kinds, "harsh_acceleration")
	}
	if d.CrashMS2 > 0 {
		kinds = append(kinds, "crash_like_stop")
	}
	return kinds
}

// newEventID makes what ties an event to those that follow it.
func newEventID() string { return strings.ToLower(rand.Text()) }

// rounded is x with so many decimals, as it stands in an event.
func rounded(x float64, decimals int) float64 {
	p := math.Pow10(decimals)
	return math.Round(x*p)/p + 0
}

// seconds is a time as it stands in an event.
func seconds(d time.Duration) float64 { return rounded(d.Seconds(), 1) }
