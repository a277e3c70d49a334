package telemetry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var zero = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func at(d time.Duration, fields ...Field) Reading { return Reading{Arrived: d, Fields: fields} }

func number1(name string, x float64) Field { return Field{name, Number(x, 2)} }

// The JSON of a batch to the byte: the contract's shape, readings in order of time,
// those of one millisecond merged, uptime_ms only for our own stamps of an unsynced
// clock.
func TestBatchJSON(t *testing.T) {
	fix := Reading{Arrived: 900 * time.Millisecond, FixTime: zero.Add(200 * time.Millisecond), Fields: []Field{number1("latitude", 48.137154), {"fix", Text("3d")}}}
	var b Batch
	b.Add(at(300*time.Millisecond, number1("engine_speed_rpm", 1830.25)))
	b.Add(fix)
	b.Add(at(123*time.Millisecond, number1("vehicle_speed_kmh", 52), Field{"mil_on", Bool(true)}))
	b.Add(at(300*time.Millisecond+400*time.Microsecond, number1("engine_load_pct", 20)))
	b.Add(at(time.Second)) // nothing was measured
	head := `{"schema":1,"vehicle_id":"van-12","stream_id":"s","boot_id":"b","seq":7,`
	for q, want := range map[Quality]string{
		System: head + `"clock":"system","samples":[{"t":"2026-11-23T10:00:00.123Z","vehicle_speed_kmh":52,"mil_on":true},` +
			`{"t":"2026-11-23T10:00:00.200Z","latitude":48.14,"fix":"3d"},` +
			`{"t":"2026-11-23T10:00:00.300Z","engine_speed_rpm":1830.25,"engine_load_pct":20}]}`,
		Unsynced: head + `"clock":"unsynced","samples":[{"t":"2026-11-23T10:00:00.123Z","uptime_ms":123,"vehicle_speed_kmh":52,"mil_on":true},` +
			`{"t":"2026-11-23T10:00:00.200Z","latitude":48.14,"fix":"3d"},` +
			`{"t":"2026-11-23T10:00:00.300Z","uptime_ms":300,"engine_speed_rpm":1830.25,"engine_load_pct":20}]}`,
	} {
		r := b.Seal("van-12", "b", zero, q)
		if got := string(r.Message("s", 7)); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", q, got, want)
		}
		if r.Newest != 900*time.Millisecond {
			t.Errorf("newest %v", r.Newest)
		}
	}
}

// In one millisecond the later reading of a signal speaks.
func TestMergeTakesTheLater(t *testing.T) {
	var b Batch
	b.Add(at(time.Millisecond, number1("vehicle_speed_kmh", 1)))
	b.Add(at(time.Millisecond+1, number1("vehicle_speed_kmh", 2)))
	if got := string(b.Seal("v", "b", zero, System).Message("s", 1)); strings.Count(got, "vehicle_speed_kmh") != 1 || !strings.Contains(got, `"vehicle_speed_kmh":2`) {
		t.Error(got)
	}
}

func TestValues(t *testing.T) {
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if Number(x, 2).Present() {
			t.Errorf("%v is present", x)
		}
	}
	for want, v := range map[string]Value{
		"0": Number(math.Copysign(0, -1), 2), "-0.5": Number(-0.501, 1), "1e+300": {}, `"a\"\n"`: Text("a\"\n"), "false": Bool(false),
	} {
		if got, err := json.Marshal(v); v.Present() && (err != nil || string(got) != want) {
			t.Errorf("%s, want %s, %v", got, want, err)
		}
	}
}

// A reading takes only what the table allows.
func TestAddRefuses(t *testing.T) {
	var r Reading
	for name, x := range map[string]float64{"vehicle_speed_kmh": 256, "latitude": 90.1, "nonsense": 1, "hdop": math.NaN(), "satellites": -1} {
		if r.Add(name, x) {
			t.Errorf("%s=%v was taken", name, x)
		}
	}
	if len(r.Fields) != 0 || !r.Add("control_module_voltage_v", 65.535004) {
		t.Error(r.Fields)
	}
}

// A stored record gives the message that it was made of, and the extent bounds it closely.
func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b Batch
		for range rapid.IntRange(1, 30).Draw(t, "readings") {
			r := at(time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "arrived")), Field{"fix", Text(rapid.String().Draw(t, "text"))},
				Field{fmt.Sprintf("speed%d", rapid.IntRange(0, 20).Draw(t, "of")), Number(rapid.Float64Range(-1e12, 1e12).Draw(t, "x"), 7)})
			b.Add(r)
		}
		r := b.Seal("van-1", "boot", zero, Unsynced)
		stored, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseRecord(stored)
		if err != nil {
			t.Fatal(err)
		}
		message := back.Message("01JD0000000000000000000000", 1<<60)
		if string(message) != string(r.Message("01JD0000000000000000000000", 1<<60)) || !json.Valid(message) {
			t.Fatalf("%s", message)
		}
		columns, err := r.Columns()
		if err != nil {
			t.Fatal(err)
		}
		if n := len(columns.Message("01JD0000000000000000000000", 1<<60)); len(message) > b.extent.rows() || n > b.extent.columns() {
			t.Fatalf("%d and %d bytes, bounds %d and %d", len(message), n, b.extent.rows(), b.extent.columns())
		}
		if back.Newest != r.Newest.Truncate(time.Millisecond) || back.VehicleID != "van-1" || back.BootID != "boot" {
			t.Fatalf("%+v", back)
		}
	})
}

// A batch takes readings up to its limit and not beyond, in both forms.
func TestFits(t *testing.T) {
	const limit = 8000
	for _, columns := range []bool{false, true} {
		var b Batch
		n := 0
		for ; ; n++ {
			r := at(time.Duration(n)*time.Second, number1("vehicle_speed_kmh", float64(n)), number1("engine_speed_rpm", float64(10*n)+0.25))
			if n%2 == 1 {
				r.Fields = []Field{{"fix", Text("3d")}}
			}
			if !b.Fits(r, limit, columns) {
				break
			}
			b.Add(r)
		}
		message := func() int {
			r := b.Seal(strings.Repeat("v", 64), strings.Repeat("b", 36), zero, Unsynced)
			size := len(r.Message("01JD0000000000000000000000", 1<<60))
			if columns {
				c, err := r.Columns()
				if err != nil {
					t.Fatal(err)
				}
				size = max(size, len(c.Message("01JD0000000000000000000000", 1<<60)))
			}
			return size
		}
		if full := message(); full > limit || full < limit*8/10 {
			t.Errorf("columns %v: %d readings make %d bytes", columns, n, full)
		}
		if before := len(b.readings); b.Fits(at(0, Field{"fix", Text(strings.Repeat("x", limit))}), limit, columns) || len(b.readings) != before {
			t.Error("more fits than there is room for")
		}
	}
	var empty Batch
	if !empty.Fits(at(0), headBytes, false) || !empty.Empty() {
		t.Error("nothing does not fit")
	}
}

// The head tells an emergency; of records without the field none is one.
func TestEmergencyInHead(t *testing.T) {
	for severity, want := range map[Severity]bool{Info: false, Warning: false, Emergency: true} {
		r, err := Event{Type: "sos", Severity: severity, At: time.Second}.Seal("v", "b", zero, GPS)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseRecord(stored); err != nil || back.Emergency != want {
			t.Errorf("%s: %+v, %v", severity, back, err)
		}
	}
	if r, err := ParseRecord([]byte("{\"vehicle_id\":\"v\",\"boot_id\":\"b\",\"newest_ms\":1}\n\"clock\":\"gps\"}")); err != nil || r.Emergency {
		t.Errorf("%+v, %v", r, err)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte("{\"vehicle_id\":\"v\",\"boot_id\":\"b\",\"newest_ms\":1}\n\"clock\":\"gps\"}"))
	f.Add([]byte("\n"))
	for _, head := range []string{`"vehicle_id":"v\\u0041","boot_id":"b","newest_ms":1`, `"vehicle_id":"v","boot_id":"b","newest_ms":-2,"emergency":true`,
		`"vehicle_id":"v","boot_id":"b","newest_ms":1e3`, `"vehicle_id":"v","boot_id":"b","newest_ms":3,"emergency":false`, `"vehicle_id":"v","boot_id":"\xff","newest_ms":1`} {
		f.Add([]byte("{" + head + "}\n}"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseRecord(b); err == nil {
			r.Message("s", 1)
		}
		var want recordHead
		line, _, _ := bytes.Cut(b, []byte("\n"))
		if got, plain := plainHead(line); plain && json.Unmarshal(line, &want) == nil && got != want {
			t.Errorf("%q: %+v, want %+v", line, got, want)
		}
	})
}

func TestEventJSON(t *testing.T) {
	r, err := Event{Type: "stream_start", Severity: Info, At: time.Second, Data: StreamStart{PreviousStreamID: "p", PreviousLastSeq: 9}}.Seal("v", "b", zero, GPS)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"schema":1,"vehicle_id":"v","stream_id":"s","boot_id":"b","seq":1,"clock":"gps","t":"2026-11-23T10:00:01.000Z",` +
		`"type":"stream_start","severity":"info","data":{"previous_stream_id":"p","previous_last_seq":9}}`
	if got := string(r.Message("s", 1)); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// The table: unique names in snake_case, and every formula within its range.
func TestSignalTable(t *testing.T) {
	names := map[string]bool{}
	pattern := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	for _, s := range Signals() {
		if names[s.Name] || !pattern.MatchString(s.Name) {
			t.Errorf("name %q", s.Name)
		}
		names[s.Name] = true
		if s.Formula == nil {
			continue
		}
		for _, fill := range []byte{0, 0xFF} {
			data := make([]byte, s.Formula.Of)
			for i := range data {
				data[i] = fill
			}
			if x := s.Formula.Number(data); !s.Formula.Bool && (x < s.Min-1e-9 || x > s.Max+1e-9) {
				t.Errorf("%s of %X is %v, outside %v to %v", s.Name, data, x, s.Min, s.Max)
			}
		}
	}
	for name := range strings.FieldsSeq(`vehicle_speed_kmh engine_speed_rpm engine_load_pct coolant_temperature_c short_term_fuel_trim_bank1_pct
		long_term_fuel_trim_bank1_pct fuel_pressure_kpa intake_manifold_pressure_kpa timing_advance_deg intake_air_temperature_c maf_g_s
		throttle_position_pct run_time_s distance_with_mil_km fuel_level_pct warmups_since_clear distance_since_clear_km barometric_pressure_kpa
		control_module_voltage_v absolute_load_pct commanded_lambda relative_throttle_pct ambient_air_temperature_c pedal_position_d_pct
		commanded_throttle_pct engine_oil_temperature_c fuel_rate_l_h demanded_torque_pct actual_torque_pct reference_torque_nm odometer_km
		battery_voltage_v dtc_count mil_on latitude longitude altitude_m gps_speed_kmh heading_deg satellites hdop fix`) {
		if !names[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

// A text is written as encoding/json does, whatever is in it.
func TestAppendString(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]*`)).Draw(t, "s")
		want, err := json.Marshal(s)
		if got := appendString(nil, s); err != nil || string(got) != string(want) {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}

func BenchmarkParseRecord(b *testing.B) {
	stored := []byte("{\"vehicle_id\":\"van-12\",\"boot_id\":\"6f1c2a3b-0000-4000-8000-000000000000\",\"newest_ms\":123456}\n\"clock\":\"gps\"}")
	for b.Loop() {
		if _, err := ParseRecord(stored); err != nil {
			b.Fatal(err)
		}
	}
}
