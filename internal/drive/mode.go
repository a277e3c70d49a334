package drive

import (
	"sync"
	"time"
)

// Mode tells whether the vehicle is parked, to those who then leave it alone: the bus, the
// receiver's rate, the connection. It is safe for concurrent use; the zero Mode is not
// parked.
type Mode struct {
	mu      sync.Mutex
	parked  bool
	spoke   bool          // the car had told its speeds
	since   time.Duration // boot, that it is as it is
	changed chan struct{}
	voltage time.Duration
	probe   time.Duration
}

// Parked tells whether the vehicle is parked. changed is closed when that is no longer so.
func (m *Mode) Parked() (parked bool, changed <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return m.parked, m.changed
}

// Changed tells when the mode changed last, as time since boot, and whether the car had told its
// engine's or its wheels' speed then: without, nobody knows whether a vehicle that moves is driven.
func (m *Mode) Changed() (at time.Duration, spoke bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.since, m.spoke
}

// set changes the mode.
func (m *Mode) set(parked bool, at time.Duration, spoke bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.since, m.spoke = at, spoke
	if m.parked == parked {
		return
	}
	m.parked = parked
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// Rest tells what may be done while the vehicle is parked: how often the voltage may be
// looked at, and how often the car may be asked whether it is awake; 0: never.
func (m *Mode) Rest() (voltage, probe time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.voltage, m.probe
}

// rest changes what may be done.
func (m *Mode) rest(voltage, probe time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.voltage, m.probe = voltage, probe
}
