package telemetry

// Source tells where a signal comes from.
type Source uint8

const (
	// FromCar is a mode 01 parameter of the car (SAE J1979).
	FromCar Source = iota
	// FromAdapter is measured by the ELM327 itself (ATRV).
	FromAdapter
	// FromReceiver comes with a fix of the GNSS receiver.
	FromReceiver
)

// Signal is one line of the signal table: all that the program knows of a
// quantity it can publish.
type Signal struct {
	// Name is the key in a sample, unit at its end.
	Name string
	// Unit is the unit for people; empty for counts and states.
	Unit   string
	Source Source
	// PID is the mode 01 parameter id, for FromCar only.
	PID byte
	// Formula decodes the parameter's bytes. Nil leaves it to elmobd's catalogue.
	Formula *Formula
	// Rate is the wanted readings per second when the user names none;
	// 0 means the signal is read only when it is named.
	Rate float64
	// Min and Max bound what can be true; other values are refused and counted.
	Min, Max float64
	// Digits is how many decimals are published: enough to tell two
	// neighbouring raw values apart.
	Digits int
	// VSS is the COVESA Vehicle Signal Specification path, v6.0; empty if it has none.
	VSS string
	// HomeAssistant is the device class there; empty if it has none.
	HomeAssistant string
}

// Formula turns bytes of a parameter into a number: the big-endian unsigned
// integer of Width bytes from byte First on, masked, times Scale, plus Offset.
// Of is the length of the whole parameter in bytes.
type Formula struct {
	Of, First, Width int
	Mask             uint32 // 0 means every bit
	Scale, Offset    float64
	Bool             bool // the masked integer is a yes or no
}

// Raw is the masked integer in data, which is Of bytes long.
func (f *Formula) Raw(data []byte) uint64 {
	var raw uint64
	for _, b := range data[f.First : f.First+f.Width] {
		raw = raw<<8 | uint64(b)
	}
	if f.Mask != 0 {
		raw &= uint64(f.Mask)
	}
	return raw
}

// Number is the value that data, Of bytes long, stands for.
func (f *Formula) Number(data []byte) float64 { return float64(f.Raw(data))*f.Scale + f.Offset }

func percent() *Formula { return &Formula{Of: 1, Width: 1, Scale: 100.0 / 255} }

func linear(width int, scale, offset float64) *Formula {
	return &Formula{Of: width, Width: width, Scale: scale, Offset: offset}
}

// signals is the table. Formulas are those of SAE J1979 (appendix B). A formula
// stands here where elmobd's catalogue has none or a wrong one: 04, 11 and 2F
// give 0..1 there, 0E loses the half degree and A4 reads the wrong bytes.
var signals = []Signal{
	{Name: "vehicle_speed_kmh", Unit: "km/h", PID: 0x0D, Rate: 5, Max: 255, VSS: "Vehicle.Speed", HomeAssistant: "speed"},
	{Name: "engine_speed_rpm", Unit: "rpm", PID: 0x0C, Rate: 5, Max: 16383.75, Digits: 2, VSS: "Vehicle.Powertrain.CombustionEngine.Speed"},
	{Name: "engine_load_pct", Unit: "%", PID: 0x04, Formula: percent(), Rate: 1, Max: 100, Digits: 2, VSS: "Vehicle.OBD.EngineLoad"},
	{Name: "throttle_position_pct", Unit: "%", PID: 0x11, Formula: percent(), Rate: 1, Max: 100, Digits: 2, VSS: "Vehicle.Powertrain.CombustionEngine.TPS"},
	{Name: "maf_g_s", Unit: "g/s", PID: 0x10, Rate: 1, Max: 655.35, Digits: 2, VSS: "Vehicle.Powertrain.CombustionEngine.MAF"},
	{Name: "intake_manifold_pressure_kpa", Unit: "kPa", PID: 0x0B, Rate: 1, Max: 255, VSS: "Vehicle.OBD.MAP", HomeAssistant: "pressure"},
	{Name: "timing_advance_deg", Unit: "°", PID: 0x0E, Formula: linear(1, 0.5, -64), Rate: 1, Min: -64, Max: 63.5, Digits: 1, VSS: "Vehicle.OBD.TimingAdvance"},
	{Name: "short_term_fuel_trim_bank1_pct", Unit: "%", PID: 0x06, Rate: 0.1, Min: -100, Max: 99.22, Digits: 2, VSS: "Vehicle.OBD.ShortTermFuelTrim1"},
	{Name: "long_term_fuel_trim_bank1_pct", Unit: "%", PID: 0x07, Rate: 0.1, Min: -100, Max: 99.22, Digits: 2, VSS: "Vehicle.OBD.LongTermFuelTrim1"},
	{Name: "short_term_fuel_trim_bank2_pct", Unit: "%", PID: 0x08, Min: -100, Max: 99.22, Digits: 2, VSS: "Vehicle.OBD.ShortTermFuelTrim2"},
	{Name: "long_term_fuel_trim_bank2_pct", Unit: "%", PID: 0x09, Min: -100, Max: 99.22, Digits: 2, VSS: "Vehicle.OBD.LongTermFuelTrim2"},
	{Name: "fuel_pressure_kpa", Unit: "kPa", PID: 0x0A, Rate: 0.1, Max: 765, VSS: "Vehicle.OBD.FuelPressure", HomeAssistant: "pressure"},
	{Name: "coolant_temperature_c", Unit: "°C", PID: 0x05, Rate: 0.1, Min: -40, Max: 215, VSS: "Vehicle.Powertrain.CombustionEngine.EngineCoolant.Temperature", HomeAssistant: "temperature"},
	{Name: "intake_air_temperature_c", Unit: "°C", PID: 0x0F, Rate: 0.1, Min: -40, Max: 215, VSS: "Vehicle.OBD.IntakeTemp", HomeAssistant: "temperature"},
	{Name: "ambient_air_temperature_c", Unit: "°C", PID: 0x46, Rate: 0.1, Min: -40, Max: 215, VSS: "Vehicle.Exterior.AirTemperature", HomeAssistant: "temperature"},
	{Name: "engine_oil_temperature_c", Unit: "°C", PID: 0x5C, Rate: 0.1, Min: -40, Max: 215, VSS: "Vehicle.Powertrain.CombustionEngine.EngineOil.Temperature", HomeAssistant: "temperature"},
	{Name: "obd_standard", PID: 0x1C, Max: 255},
	{Name: "run_time_s", Unit: "s", PID: 0x1F, Rate: 0.1, Max: 65535, VSS: "Vehicle.OBD.RunTime", HomeAssistant: "duration"},
	{Name: "distance_with_mil_km", Unit: "km", PID: 0x21, Formula: linear(2, 1, 0), Rate: 0.1, Max: 65535, VSS: "Vehicle.OBD.DistanceWithMIL", HomeAssistant: "distance"},
	{Name: "fuel_level_pct", Unit: "%", PID: 0x2F, Formula: percent(), Rate: 0.1, Max: 100, Digits: 2, VSS: "Vehicle.Powertrain.FuelSystem.RelativeLevel"},
	{Name: "warmups_since_clear", PID: 0x30, Formula: linear(1, 1, 0), Rate: 0.1, Max: 255, VSS: "Vehicle.OBD.WarmupsSinceDTCClear"},
	{Name: "distance_since_clear_km", Unit: "km", PID: 0x31, Rate: 0.1, Max: 65535, VSS: "Vehicle.OBD.DistanceSinceDTCClear", HomeAssistant: "distance"},
	{Name: "barometric_pressure_kpa", Unit: "kPa", PID: 0x33, Rate: 0.1, Max: 255, VSS: "Vehicle.OBD.BarometricPressure", HomeAssistant: "pressure"},
	{Name: "control_module_voltage_v", Unit: "V", PID: 0x42, Rate: 0.1, Max: 65.535, Digits: 3, VSS: "Vehicle.OBD.ControlModuleVoltage", HomeAssistant: "voltage"},
	{Name: "absolute_load_pct", Unit: "%", PID: 0x43, Formula: linear(2, 100.0/255, 0), Rate: 1, Max: 25700, Digits: 2, VSS: "Vehicle.OBD.AbsoluteLoad"},
	{Name: "commanded_lambda", PID: 0x44, Formula: linear(2, 2.0/65536, 0), Rate: 1, Max: 1.99997, Digits: 5, VSS: "Vehicle.OBD.CommandedEquivalenceRatio"},
	{Name: "relative_throttle_pct", Unit: "%", PID: 0x45, Formula: percent(), Rate: 1, Max: 100, Digits: 2, VSS: "Vehicle.OBD.RelativeThrottlePosition"},
	{Name: "pedal_position_d_pct", Unit: "%", PID: 0x49, Formula: percent(), Rate: 1, Max: 100, Digits: 2, VSS: "Vehicle.OBD.AcceleratorPositionD"},
	{Name: "commanded_throttle_pct", Unit: "%", PID: 0x4C, Formula: percent(), Rate: 1, Max: 100, Digits: 2, VSS: "Vehicle.OBD.ThrottleActuator"},
	{Name: "fuel_rate_l_h", Unit: "L/h", PID: 0x5E, Formula: linear(2, 0.05, 0), Rate: 1, Max: 3276.75, Digits: 2, VSS: "Vehicle.OBD.FuelRate", HomeAssistant: "volume_flow_rate"},
	{Name: "demanded_torque_pct", Unit: "%", PID: 0x61, Formula: linear(1, 1, -125), Rate: 1, Min: -125, Max: 130},
	{Name: "actual_torque_pct", Unit: "%", PID: 0x62, Formula: linear(1, 1, -125), Rate: 1, Min: -125, Max: 130},
	{Name: "reference_torque_nm", Unit: "Nm", PID: 0x63, Formula: linear(2, 1, 0), Rate: 0.1, Max: 65535},
	{Name: "gear_ratio", PID: 0xA4, Formula: &Formula{Of: 4, First: 2, Width: 2, Scale: 0.001}, Max: 65.535, Digits: 3},
	{Name: "odometer_km", Unit: "km", PID: 0xA6, Formula: linear(4, 0.1, 0), Rate: 0.1, Max: 429496729.5, Digits: 1, VSS: "Vehicle.TraveledDistance", HomeAssistant: "distance"},
	{Name: "dtc_count", PID: 0x01, Formula: &Formula{Of: 4, Width: 1, Mask: 0x7F, Scale: 1}, Rate: 0.1, Max: 127, VSS: "Vehicle.OBD.Status.DTCCount"},
	{Name: "mil_on", PID: 0x01, Formula: &Formula{Of: 4, Width: 1, Mask: 0x80, Scale: 1, Bool: true}, Rate: 0.1, Max: 1, VSS: "Vehicle.OBD.Status.IsMILOn", HomeAssistant: "problem"},

	{Name: "battery_voltage_v", Unit: "V", Source: FromAdapter, Rate: 0.1, Max: 40, Digits: 1, VSS: "Vehicle.LowVoltageBattery.CurrentVoltage", HomeAssistant: "voltage"},

	{Name: "latitude", Unit: "°", Source: FromReceiver, Min: -90, Max: 90, Digits: 7, VSS: "Vehicle.CurrentLocation.Latitude"},
	{Name: "longitude", Unit: "°", Source: FromReceiver, Min: -180, Max: 180, Digits: 7, VSS: "Vehicle.CurrentLocation.Longitude"},
	{Name: "altitude_m", Unit: "m", Source: FromReceiver, Min: -1000, Max: 100000, Digits: 2, VSS: "Vehicle.CurrentLocation.Altitude", HomeAssistant: "distance"},
	{Name: "gps_speed_kmh", Unit: "km/h", Source: FromReceiver, Max: 10000, Digits: 2, HomeAssistant: "speed"},
	{Name: "heading_deg", Unit: "°", Source: FromReceiver, Max: 360, Digits: 2, VSS: "Vehicle.CurrentLocation.Heading"},
	{Name: "satellites", Source: FromReceiver, Max: 255},
	{Name: "hdop", Source: FromReceiver, Max: 90, Digits: 2},
	{Name: "fix", Source: FromReceiver},
}

var signalByName = func() map[string]*Signal {
	m := make(map[string]*Signal, len(signals))
	for i := range signals {
		m[signals[i].Name] = &signals[i]
	}
	return m
}()

// Signals returns the table in the order of the documentation. The caller must
// not change it.
func Signals() []Signal { return signals }

// FindSignal returns the line of the table with this name.
func FindSignal(name string) (Signal, bool) {
	if s := signalByName[name]; s != nil {
		return *s, true
	}
	return Signal{}, false
}
