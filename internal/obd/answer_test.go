package obd

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"telemetryd/internal/telemetry"
)

func TestParseAnswer(t *testing.T) {
	vpw := []byte{0x48, 0x6B, 0x10, 0x41, 0x0C, 0x1A, 0xF8}
	kline := fmt.Sprintf("%X%02X\r>", vpw, sum(vpw))
	j1850 := fmt.Sprintf("%X%02X\r>", vpw, crcJ1850(vpw))
	pwm := []byte{0x41, 0x6B, 0x10, 0x41, 0x0D, 0x33}
	for name, test := range map[string]struct {
		raw      string
		request  string
		bus      Bus
		messages []string
		trouble  []Cause
	}{
		"11 bit":              {raw: "7E804410C1AF8\r\r>", bus: CAN11, messages: []string{"7E8 410C1AF8"}},
		"spaces and filler":   {raw: "7E8 04 41 0C 1A F8 00 00 00 \r\n\r\n>", bus: CAN11, messages: []string{"7E8 410C1AF8"}},
		"29 bit":              {raw: "18 DA F1 10 03 41 0D 33\r>", bus: CAN29, messages: []string{"18DAF110 410D33"}},
		"guessed 29 bit":      {raw: "18DAF11003410D33\r>", messages: []string{"18DAF110 410D33"}},
		"headers off":         {raw: "41 0C 1A F8\r>", messages: []string{" 410C1AF8"}},
		"K-line":              {raw: kline, bus: KLine, messages: []string{"10 410C1AF8"}},
		"J1850":               {raw: j1850, bus: J1850, messages: []string{"10 410C1AF8"}},
		"PWM guessed by CRC":  {raw: fmt.Sprintf("%X%02X\r>", pwm, crcJ1850(pwm)), messages: []string{"10 410D33"}},
		"K-line on J1850":     {raw: kline, bus: J1850, trouble: []Cause{Checksum}},
		"bad checksum":        {raw: "486B10410C1AF800\r>", bus: KLine, trouble: []Cause{Checksum}},
		"echo":                {raw: "010C\r7E804410C1AF8\r>", request: "010C", bus: CAN11, messages: []string{"7E8 410C1AF8"}},
		"noise":               {raw: "\x00\x00\xfc7E804\xff410C1AF8\r>", bus: CAN11, messages: []string{"7E8 410C1AF8"}},
		"prefix":              {raw: "SEARCHING...41 00 BE 3F A8 13\r>", messages: []string{" 4100BE3FA813"}},
		"prefix alone":        {raw: "SEARCHING...\rUNABLE TO CONNECT\r>", trouble: []Cause{UnableToConnect}},
		"bus init":            {raw: "BUS INIT: ...OK\r41 0D 33\r>", messages: []string{" 410D33"}},
		"bus init in a line":  {raw: "BUS INIT: OK41 0D 33\r>", messages: []string{" 410D33"}},
		"bus init error":      {raw: "BUS INIT: ...ERROR\r>", trouble: []Cause{BusInitError}},
		"still working":       {raw: "7E8037F0178\r7E803410D33\r>", bus: CAN11, messages: []string{"7E8 410D33"}, trouble: []Cause{AsksForTime}},
		"negatives first":     {raw: "7EA037F0112\r7E8037F0112\r7E803410D33\r>", bus: CAN11, messages: []string{"7E8 410D33"}, trouble: []Cause{Negative, Negative}},
		"spoilt":              {raw: "410C1A <DATA ERROR\r>", trouble: []Cause{DataError}},
		"restart":             {raw: "LV RESET\r\rELM327 v1.5\r>", bus: CAN11, trouble: []Cause{Restarted, Restarted}},
		"six PIDs, two ECUs":  {raw: "7E8101241010007E500\r7E906410000180000\r7E82103010004000680\r7E822077D0C00000000\r>", bus: CAN11, messages: []string{"7E9 410000180000", "7E8 41010007E50003010004000680077D0C0000"}},
		"wrong order":         {raw: "7E8101241010007E500\r7E822077D0C00000000\r7E82103010004000680\r>", bus: CAN11, trouble: []Cause{Incomplete, Incomplete}},
		"frame missing":       {raw: "7E8101241010007E500\r7E82103010004000680\r>", bus: CAN11, trouble: []Cause{Incomplete}},
		"length beyond frame": {raw: "7E807410C1A\r>", bus: CAN11, trouble: []Cause{Incomplete}},
		"headers off, many":   {raw: "014\r0:490201575030\r1:5A5A5A39395A54\r2:53333932313234\r>", messages: []string{" 4902015750305A5A5A39395A5453333932313234"}},
		"no hex":              {raw: "HELLO\r>", bus: CAN11, trouble: []Cause{Garbage}},
		"request as answer":   {raw: "010C\r>", trouble: []Cause{Garbage}},
	} {
		t.Run(name, func(t *testing.T) {
			a := parseAnswer([]byte(test.raw), test.request, test.bus)
			var messages []string
			for _, m := range a.Messages {
				messages = append(messages, fmt.Sprintf("%s %X", m.ECU, m.Data))
			}
			var causes []Cause
			for _, c := range a.Trouble {
				causes = append(causes, c.Cause)
			}
			if !slices.Equal(messages, test.messages) || !slices.Equal(causes, test.trouble) {
				t.Errorf("messages %q, trouble %q", messages, causes)
			}
		})
	}
}

func TestErrorTexts(t *testing.T) {
	for text, want := range map[string]Cause{
		"NO DATA": NoData, "BUS BUSY": BusTrouble, "BUS ERROR": BusTrouble, "CAN ERROR": BusTrouble, "DATA ERROR": DataError,
		"<RX ERROR": DataError, "FB ERROR": BusTrouble, "BUFFER FULL": BufferFull, "STOPPED": Stopped, "?": NotUnderstood,
		"ERR94": Restarted, "LV RESET": Restarted, "ACT ALERT": Alert, "LP ALERT": Alert, "!ACT ALERT": Alert,
	} {
		for _, bus := range []Bus{UnknownBus, CAN11, CAN29, J1850, KLine} {
			a := parseAnswer([]byte(text+"\r>"), "010C", bus)
			if len(a.Messages) != 0 || len(a.Trouble) != 1 || a.Trouble[0].Cause != want {
				t.Errorf("%s on bus %d: %+v", text, bus, a)
			}
		}
	}
}

// A message is cut only when every byte of it has its place.
func TestSplitRefuses(t *testing.T) {
	for name, data := range map[string][]byte{
		"not asked for": {0x41, 0x05, 0x50},
		"twice":         {0x41, 0x0D, 0x33, 0x0D, 0x34},
		"too short":     {0x41, 0x0C, 0x1A},
		"too long":      {0x41, 0x0D, 0x33, 0x00},
		"other mode":    {0x49, 0x0D, 0x33},
		"empty":         {0x41},
	} {
		if items, err := split(data, []byte{0x0C, 0x0D}); err == nil {
			t.Errorf("%s: %v", name, items)
		}
	}
}

// Values by the formulas of SAE J1979, computed by hand.
func TestMeasure(t *testing.T) {
	for _, test := range []struct {
		pid  byte
		data []byte
		want string
	}{
		{0x04, []byte{0x80}, "engine_load_pct=50.2"}, {0x05, []byte{0x00}, "coolant_temperature_c=-40"}, {0x05, []byte{0xFF}, "coolant_temperature_c=215"},
		{0x06, []byte{0x00}, "short_term_fuel_trim_bank1_pct=-100"}, {0x07, []byte{0xFF}, "long_term_fuel_trim_bank1_pct=99.22"},
		{0x0A, []byte{0xFF}, "fuel_pressure_kpa=765"}, {0x0B, []byte{0x64}, "intake_manifold_pressure_kpa=100"},
		{0x0C, []byte{0x1A, 0xF9}, "engine_speed_rpm=1726.25"}, {0x0C, []byte{0xFF, 0xFF}, "engine_speed_rpm=16383.75"}, {0x0D, []byte{0xFF}, "vehicle_speed_kmh=255"},
		{0x0E, []byte{0x81}, "timing_advance_deg=0.5"}, {0x0E, []byte{0x00}, "timing_advance_deg=-64"}, {0x0F, []byte{0x28}, "intake_air_temperature_c=0"},
		{0x10, []byte{0xFF, 0xFF}, "maf_g_s=655.35"}, {0x11, []byte{0xFF}, "throttle_position_pct=100"}, {0x1F, []byte{0x01, 0x00}, "run_time_s=256"},
		{0x21, []byte{0x00, 0x25}, "distance_with_mil_km=37"}, {0x2F, []byte{0x33}, "fuel_level_pct=20"}, {0x31, []byte{0xFF, 0xFF}, "distance_since_clear_km=65535"},
		{0x33, []byte{0x60}, "barometric_pressure_kpa=96"}, {0x42, []byte{0x36, 0xB0}, "control_module_voltage_v=14"}, {0x44, []byte{0x80, 0x00}, "commanded_lambda=1"},
		{0x46, []byte{0x3A}, "ambient_air_temperature_c=18"}, {0x5C, []byte{0x3D}, "engine_oil_temperature_c=21"}, {0x5E, []byte{0x00, 0x21}, "fuel_rate_l_h=1.65"},
		{0x62, []byte{0x7D}, "actual_torque_pct=0"}, {0x63, []byte{0x00, 0xD2}, "reference_torque_nm=210"},
		{0xA4, []byte{0x01, 0x20, 0x0F, 0xA0}, "gear_ratio=4"}, {0xA6, []byte{0x00, 0x09, 0x64, 0xD1}, "odometer_km=61563.3"},
		{0x01, []byte{0x82, 0, 0, 0}, "dtc_count=2 mil_on=true"}, {0x01, []byte{0x00, 0, 0, 0}, "dtc_count=0 mil_on=false"},
	} {
		var r telemetry.Reading
		if err := measure(&r, item{pid: test.pid, data: test.data}, nil); err != nil {
			t.Errorf("PID %02X: %v", test.pid, err)
		}
		var got strings.Builder
		for i, f := range r.Fields {
			if i > 0 {
				got.WriteString(" ")
			}
			got.WriteString(f.Name + "=" + f.Value.String())
		}
		if got.String() != test.want {
			t.Errorf("PID %02X of %X: %s, want %s", test.pid, test.data, got.String(), test.want)
		}
	}
}

// Every PID of the table can be decoded over its whole range.
func TestEveryParameter(t *testing.T) {
	for pid, p := range parameters {
		for _, fill := range []byte{0x00, 0x01, 0x7F, 0x80, 0xFF} {
			data := slices.Repeat([]byte{fill}, p.width)
			var r telemetry.Reading
			if err := measure(&r, item{pid: pid, data: data}, nil); err != nil || len(r.Fields) != len(p.signals) {
				t.Errorf("PID %02X of %X: %v, %v", pid, data, r.Fields, err)
			}
		}
	}
}
