package hook

import "sync"

// Switch is a state that somebody sets. The zero Switch is off; it is safe for concurrent use.
type Switch struct {
	mu      sync.Mutex
	on      bool
	changed chan struct{}
}

// Set turns it on or off.
func (s *Switch) Set(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on == on {
		return
	}
	s.on = on
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// State is a [State].
func (s *Switch) State() (holds bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.on, s.changed
}
