package drive

import (
	"time"

	"telemetryd/internal/telemetry"
)

// movement tells by the receiver whether the vehicle moves. One that stands wanders by some
// tens of metres in a street of high houses, and shows some km/h now and then: only what several
// fixes in a row agree on counts.
type movement struct {
	at      time.Duration // of the newest fix that counts; 0: there was none
	anchor  *place        // where it stands
	fast    int           // fixes in a row with the speed of a vehicle
	faster  int           // and with one that no receiver at rest shows twice
	away    int           // fixes in a row far from the anchor
	movedAt time.Duration
	moved   bool
	newest  place
}

const (
	walking     = 6.0  // km/h that a standing receiver does not show three times in a row
	brisk       = 12.0 // and not two times
	wandering   = 60.0 // m that it does not wander with a good fix
	goodHDOP    = 4.0
	agreeing    = 3 // fixes
	knownFor    = 2 * time.Minute
	movingFor   = 5 * time.Second // after the last fix that said so
	anchorDrift = 0.005           // of the way to each fix that the anchor goes
)

// take notes a fix.
func (m *movement) take(r telemetry.Reading) {
	kmh, _ := r.Number("gps_speed_kmh")
	hdop, _ := r.Number("hdop")
	here := placeOf(r)
	if !here.known || hdop > goodHDOP {
		return
	}
	m.at, m.newest = r.Arrived, here
	m.fast, m.faster = countIf(m.fast, kmh >= walking), countIf(m.faster, kmh >= brisk)
	if m.anchor == nil {
		m.anchor = &here
	}
	distance := metres(here, *m.anchor)
	m.away = countIf(m.away, distance > wandering)
	if m.fast >= agreeing || m.faster >= agreeing-1 || m.away >= agreeing {
		m.moved, m.movedAt = true, r.Arrived
		m.anchor, m.away = &here, 0
		return
	}
	if distance <= wandering { // what it wanders has its middle there
		m.anchor.latitude += anchorDrift * (here.latitude - m.anchor.latitude)
		m.anchor.longitude += anchorDrift * (here.longitude - m.anchor.longitude)
	}
}

func countIf(n int, holds bool) int {
	if holds {
		return n + 1
	}
	return 0
}

// moving reports whether the vehicle moves now.
func (m *movement) moving(now time.Duration) bool {
	return m.moved && now-m.movedAt <= movingFor
}

// known reports whether the receiver would tell it.
func (m *movement) known(now time.Duration) bool { return m.at > 0 && now-m.at <= knownFor }

// settle begins anew from where the vehicle stands.
func (m *movement) settle() {
	m.moved, m.fast, m.faster, m.away = false, 0, 0, 0
	if m.newest.known {
		here := m.newest
		m.anchor = &here
	}
}
