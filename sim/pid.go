package sim

import (
	"encoding/binary"
	"math"
	"slices"
)

// parameter is a mode 01 parameter of the engine: how its bytes are made of the
// vehicle's state, and what they mean (SAE J1979 appendix B). Making and meaning
// stand apart: the log is written from the bytes alone.
type parameter struct {
	pid   byte
	bytes func(*car, state) []byte
	mean  func([]byte) map[string]any
}

// parameters is sorted by PID.
var parameters = []parameter{
	{0x01, (*car).monitorStatus, func(b []byte) map[string]any {
		return map[string]any{"dtc_count": float64(b[0] & 0x7F), "mil_on": b[0]&0x80 != 0}
	}},
	fraction(0x04, "engine_load_pct", func(s state) float64 { return s.load }),
	scaled(0x05, 1, "coolant_temperature_c", 1, -40, 0, func(s state) float64 { return s.coolant }),
	scaled(0x06, 1, "short_term_fuel_trim_bank1_pct", 100.0/128, -100, 2, func(s state) float64 { return s.trimShort }),
	scaled(0x07, 1, "long_term_fuel_trim_bank1_pct", 100.0/128, -100, 2, func(s state) float64 { return s.trimLong }),
	scaled(0x0A, 1, "fuel_pressure_kpa", 3, 0, 0, func(s state) float64 { return fuelPressure(s) }),
	scaled(0x0B, 1, "intake_manifold_pressure_kpa", 1, 0, 0, func(s state) float64 { return s.manifold }),
	scaled(0x0C, 2, "engine_speed_rpm", 0.25, 0, 2, func(s state) float64 { return s.rpm }),
	scaled(0x0D, 1, "vehicle_speed_kmh", 1, 0, 0, func(s state) float64 { return s.speed * 3.6 }),
	scaled(0x0E, 1, "timing_advance_deg", 0.5, -64, 1, func(s state) float64 { return s.timing }),
	scaled(0x0F, 1, "intake_air_temperature_c", 1, -40, 0, func(s state) float64 { return s.intake }),
	scaled(0x10, 2, "maf_g_s", 0.01, 0, 2, func(s state) float64 { return s.maf }),
	fraction(0x11, "throttle_position_pct", func(s state) float64 { return s.throttle }),
	scaled(0x1C, 1, "obd_standard", 1, 0, 0, func(state) float64 { return 6 }), // EOBD
	scaled(0x1F, 2, "run_time_s", 1, 0, 0, func(s state) float64 { return math.Floor(s.runTime) }),
	{0x21, (*car).distanceWithMIL, number("distance_with_mil_km", 1, 0, 0)},
	fraction(0x2F, "fuel_level_pct", func(s state) float64 { return s.fuel / fuelTank }),
	{0x30, (*car).warmupsSinceClear, number("warmups_since_clear", 1, 0, 0)},
	{0x31, (*car).distanceSinceClear, number("distance_since_clear_km", 1, 0, 0)},
	scaled(0x33, 1, "barometric_pressure_kpa", 1, 0, 0, func(s state) float64 { return s.barometer }),
	scaled(0x42, 2, "control_module_voltage_v", 0.001, 0, 3, func(s state) float64 { return s.volts - 0.15 }),
	scaled(0x43, 2, "absolute_load_pct", 100.0/255, 0, 2, func(s state) float64 { return absoluteLoad(s) * 100 }),
	scaled(0x44, 2, "commanded_lambda", 2.0/65536, 0, 5, func(s state) float64 { return s.lambda }),
	fraction(0x45, "relative_throttle_pct", func(s state) float64 { return s.throttle - 0.12 }),
	scaled(0x46, 1, "ambient_air_temperature_c", 1, -40, 0, func(s state) float64 { return s.ambient }),
	fraction(0x49, "pedal_position_d_pct", func(s state) float64 { return 0.15 + 0.7*s.demand }),
	fraction(0x4C, "commanded_throttle_pct", func(s state) float64 { return s.throttle + 0.004 }),
	scaled(0x5C, 1, "engine_oil_temperature_c", 1, -40, 0, func(s state) float64 { return s.oil }),
	scaled(0x5E, 2, "fuel_rate_l_h", 0.05, 0, 2, func(s state) float64 { return s.fuelRate }),
	scaled(0x61, 1, "demanded_torque_pct", 1, -125, 0, func(s state) float64 { return s.demand * 100 }),
	scaled(0x62, 1, "actual_torque_pct", 1, -125, 0, func(s state) float64 { return s.load * 100 }),
	scaled(0x63, 2, "reference_torque_nm", 1, 0, 0, func(state) float64 { return fullTorque }),
	{0xA4, gearBytes, func(b []byte) map[string]any {
		return map[string]any{"gear_ratio": round(float64(binary.BigEndian.Uint16(b[2:]))*0.001, 3)}
	}},
	scaled(0xA6, 4, "odometer_km", 0.1, 0, 1, func(s state) float64 { return s.odometer }),
}

// findParameter returns the line of the table, nil when the car has none.
func findParameter(pid byte) *parameter {
	i, ok := slices.BinarySearchFunc(parameters, pid, func(p parameter, pid byte) int { return int(p.pid) - int(pid) })
	if !ok {
		return nil
	}
	return &parameters[i]
}

// scaled is a parameter of one big-endian unsigned integer: times scale, plus
// offset, is the value, told with so many decimals.
func scaled(pid byte, width int, name string, scale, offset float64, decimals int, value func(state) float64) parameter {
	return parameter{pid, func(_ *car, s state) []byte {
		return integer((value(s)-offset)/scale, width)
	}, number(name, scale, offset, decimals)}
}

// fraction is a parameter of one byte, 255 of which are 100 %.
func fraction(pid byte, name string, value func(state) float64) parameter {
	return scaled(pid, 1, name, 100.0/255, 0, 2, func(s state) float64 { return value(s) * 100 })
}

// integer is the nearest big-endian integer of so many bytes.
func integer(x float64, width int) []byte {
	limit := math.Exp2(float64(8*width)) - 1
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(min(max(math.Round(x), 0), limit)))
	return b[8-width:]
}

func number(name string, scale, offset float64, decimals int) func([]byte) map[string]any {
	return func(b []byte) map[string]any {
		n := uint64(0)
		for _, x := range b {
			n = n<<8 | uint64(x)
		}
		return map[string]any{name: round(float64(n)*scale+offset, decimals)}
	}
}

func fuelPressure(s state) float64 {
	if !s.engine {
		return 0
	}
	return 345 + 15*s.load
}

// absoluteLoad is the air of one stroke by what fits in at 25 degrees Celsius and
// 101.3 kPa (1.184 g/l).
func absoluteLoad(s state) float64 {
	if s.rpm < 1 {
		return 0
	}
	return s.maf * 60 * 2 / s.rpm / (1.184 * displacement)
}

// gearBytes is what is supported (gear and ratio), the gear, and its ratio.
func gearBytes(_ *car, s state) []byte {
	return append([]byte{0x03, byte(s.gear) << 4}, integer(s.ratio/finalDrive*1000, 2)...)
}

// finalDrive is what the axle makes of each gear's ratio in gears.
const finalDrive = 3.9

// supportBitmap is the answer to the PIDs 00, 20, 40 ...: a bit for each of the 32
// parameters after base, the last for "there are more".
func supportBitmap(base byte, supported []byte) []byte {
	var bits uint32
	for _, p := range supported {
		switch {
		case p > base && int(p) < int(base)+0x20:
			bits |= 1 << (32 - (p - base))
		case int(p) > int(base)+0x20:
			bits |= 1
		}
	}
	return binary.BigEndian.AppendUint32(nil, bits)
}
