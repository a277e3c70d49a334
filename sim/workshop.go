package sim

import "bytes"

// StopEngine stops the vehicle and its engine for its ECUs while the ignition stays on,
// as in a workshop; false lets the drive show again. The drive itself goes on.
func (v *Vehicle) StopEngine(stopped bool) {
	if v.adapter != nil {
		v.adapter.car.engineOff.Store(stopped)
	}
}

// still is the vehicle as it stands in a workshop.
func (s state) still() state {
	s.engine, s.speed, s.accel, s.rpm, s.gear, s.ratio = false, 0, 0, 0, 0, 0
	s.load, s.torque, s.demand, s.maf, s.fuelRate, s.runTime = 0, 0, 0, 0, 0, 0
	s.manifold, s.volts = s.barometer, voltsOff
	return s
}

// clear is mode 04. An ECU clears its codes only while the engine is off (SAE J1979: it
// may refuse with 22, conditions not correct). The codes are the engine's.
func (c *car) clear(e *ecu, s state) []message {
	if s.engine || c.traits.NeverClears && e.number == 0 {
		return []message{{data: []byte{0x7F, 0x04, 0x22}}}
	}
	if e.number == 0 {
		c.cleared = true
		c.clearedAt.t, c.clearedAt.odometer, c.clearedAt.warmups = c.asked, s.odometer, s.warmups
	}
	return []message{{data: []byte{0x44}}}
}

// Silence lets the car keep silent at these modes from now on, besides those of
// OBDConfig.Lacks; none for at no others.
func (v *Vehicle) Silence(modes ...byte) {
	if v.adapter != nil {
		v.adapter.car.silenced.Store(&modes)
	}
}

// lacks reports whether this car keeps silent at a mode.
func (c *car) lacks(mode byte) bool {
	silenced := c.silenced.Load()
	return bytes.IndexByte(c.traits.Lacks, mode) >= 0 || silenced != nil && bytes.IndexByte(*silenced, mode) >= 0
}
