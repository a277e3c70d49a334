package drive

import "sync"

// Mode tells whether the vehicle is parked, to those who then leave it alone: the bus, the
// receiver's rate, the connection. It is safe for concurrent use; the zero Mode is not
// parked.
type Mode struct {
	mu      sync.Mutex
	parked  bool
	changed chan struct{}
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

// set changes the mode.
func (m *Mode) set(parked bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.parked == parked {
		return
	}
	m.parked = parked
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}
