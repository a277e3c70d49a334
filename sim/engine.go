package sim

import "math"

// The car: a petrol hatchback with two litres and six gears.
const (
	mass          = 1450.0 // kg
	rolling       = 0.011
	dragArea      = 0.68 // m^2, drag coefficient times area
	airDensity    = 1.2  // kg/m^3
	gravity       = 9.81 // m/s^2
	wheelRadius   = 0.315
	displacement  = 2.0 // l
	idleSpeed     = 780.0
	fullTorque    = 210.0 // Nm, also the reference torque of PID 63
	fuelTank      = 50.0  // l
	fuelDensity   = 745.0 // g/l
	stoichiometry = 14.7
	voltsOff      = 12.4
	voltsOn       = 14.1
)

// gears holds engine turns per wheel turn.
var gears = [...]float64{0, 13.5, 7.6, 4.9, 3.6, 2.8, 2.3}

// turnEngine finds gear, speed and load of the engine for the motion decided.
func (m *model) turnEngine(here routePoint) {
	if !m.engine {
		m.gear, m.ratio, m.load, m.torque, m.demand = 0, 0, 0, 0, 0
		m.rpm = max(0, m.rpm-1500*dt)
		if m.ignition { // the starter
			m.rpm = 250
		}
		return
	}
	m.runTime += dt
	m.changeGear()
	wheel := m.speed / (2 * math.Pi * wheelRadius) * 60
	target := max(m.idle(), wheel*m.ratio)
	m.rpm += (target - m.rpm) * min(1, dt/0.2)

	force := mass*m.accel + mass*gravity*here.grade + airDensity/2*dragArea*m.speed*m.speed
	if m.speed > 0 {
		force += mass * gravity * rolling
	}
	m.torque = 18 // what it takes to turn itself and its belts
	if m.ratio > 0 && m.accel > -2 {
		m.torque += force * wheelRadius / (m.ratio * 0.92)
	}
	m.torque = min(max(m.torque, 0), fullTorque)
	m.load += (m.torque/fullTorque - m.load) * min(1, dt/0.15)
	m.demand += (max(0, m.torque-18)/(fullTorque-18) - m.demand) * min(1, dt/0.3)
}

// idle is higher while the engine is cold.
func (m *model) idle() float64 { return idleSpeed + max(0, 60-m.coolant)*5 }

func (m *model) changeGear() {
	if m.speed == 0 && m.accel == 0 {
		m.gear, m.ratio = 0, 0
		return
	}
	if m.gear == 0 {
		m.gear, m.shift = 1, m.now()
	}
	turns := m.speed / (2 * math.Pi * wheelRadius) * 60 * gears[m.gear]
	switch settled := m.now()-m.shift > 1.2; {
	case settled && turns > 2100+1300*m.demand && m.gear < len(gears)-1:
		m.gear++
		m.shift = m.now()
	case turns < 1100 && m.gear > 1:
		m.gear--
		m.shift = m.now()
	}
	m.ratio = gears[m.gear]
}

// breathe finds air and fuel for the engine's speed and load.
func (m *model) breathe() {
	noise := m.uniform() - 0.5
	m.trimShort = 0.98*m.trimShort + 0.4*noise
	if !m.engine {
		m.manifold, m.maf, m.fuelRate, m.throttle, m.timing, m.lambda = m.barometer, 0, 0, 0.05, 0, 1
		m.volts += (voltsOff - m.volts) * min(1, dt/0.5)
		if m.ignition {
			m.volts = 10.6 // the starter draws it down
		}
		return
	}
	m.throttle = 0.12 + 0.7*math.Pow(m.demand, 1.2)
	m.manifold = 24 + (m.barometer-26)*min(1, m.load*1.05)
	// Air by speed and density: half the displacement each turn, 0.85 full.
	density := m.manifold / (0.287 * (273.15 + m.intake)) // g/l
	m.maf = displacement * m.rpm / 2 / 60 * density * 0.85
	m.timing = 10 + 22*(1-m.load)*min(1, m.rpm/2500)
	m.lambda = 1 + 0.006*noise
	if m.load > 0.85 {
		m.lambda = 0.9
	}
	m.fuelRate = m.maf / stoichiometry / m.lambda / fuelDensity * 3600
	if m.torque == 0 && m.rpm > 1200 {
		m.fuelRate, m.lambda, m.timing = 0, 1.99, 5 // overrun: injection is cut
	}
	m.fuel = max(0, m.fuel-m.fuelRate/3600*dt)
	m.volts += (voltsOn + 0.05*noise - m.volts) * min(1, dt/0.5)
}

// heat warms what the engine heats and cools it in the air.
func (m *model) heat() {
	power := m.fuelRate * 9 * 1000 // W of heat in the fuel, 9 kWh per litre
	thermostat := 25.0             // W/K to the air when closed
	if m.coolant > 88 {
		thermostat += (m.coolant - 88) * 150
	}
	if c, ok := m.overheated(); ok {
		m.coolant += min(max(c-m.coolant, -2*dt), 2*dt)
	} else {
		m.coolant += (0.35*power - thermostat*(m.coolant-m.ambient)) * dt / 60000
	}
	m.oil += (m.coolant + 6*m.load - m.oil) * dt / 120
	m.intake += (m.ambient + 4 + 12*math.Exp(-m.speed/4) - m.intake) * dt / 60
	if !m.warm && m.coolant > 70 {
		m.warm = true
		m.warmups++
	}
}
