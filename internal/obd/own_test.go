package obd

import (
	"strings"
	"testing"
)

func TestDefine(t *testing.T) {
	good := Definition{Name: "battery_soc_pct", Request: "22 01 05", Header: "7e4", Formula: "AF/2", Min: 0, Max: 100, Rate: 0.2}
	for _, test := range []struct {
		change func(*Definition)
		want   string // of the error; empty for none
	}{
		{func(*Definition) {}, ""},
		{func(d *Definition) { d.Header = "18DAE4F1" }, ""},
		{func(d *Definition) { d.Header = "DAE4F1" }, ""},
		{func(d *Definition) { d.Header, d.Filter = "7B3", "7BB" }, ""},
		{func(d *Definition) { d.Header = "7B3" }, "name it with filter"},
		{func(d *Definition) { d.Name = "vehicle_speed_kmh" }, "taken"},
		{func(d *Definition) { d.Name = "t" }, "taken"},
		{func(d *Definition) { d.Name = "SoC" }, "a letter first"},
		{func(d *Definition) { d.Request = "04" }, "only read"},
		{func(d *Definition) { d.Request = "2E0105FF" }, "only read"},
		{func(d *Definition) { d.Request = "2F0105" }, "only read"},
		{func(d *Definition) { d.Request = "3101" }, "only read"},
		{func(d *Definition) { d.Request = "1003" }, "only read"},
		{func(d *Definition) { d.Request = "1101" }, "only read"},
		{func(d *Definition) { d.Request = "2701" }, "only read"},
		{func(d *Definition) { d.Request = "ATZ" }, "hex digits"},
		{func(d *Definition) { d.Request = "220105\r04" }, "hex digits"},
		{func(d *Definition) { d.Request = "2201050106" }, "one parameter"},
		{func(d *Definition) { d.Request = "" }, "hex digits"},
		{func(d *Definition) { d.Header = "7E4\r" }, "hex digits"},
		{func(d *Definition) { d.Header = "7E" }, "3 hex digits"},
		{func(d *Definition) { d.Header, d.Filter = "7E4", "EC" }, "3 hex digits"},
		{func(d *Definition) { d.Header, d.Filter = "", "7EC" }, "name whom to ask"},
		{func(d *Definition) { d.Request, d.Header, d.Formula = "2101", "8210F1", "A" }, ""},
		{func(d *Definition) { d.Request, d.Header, d.Filter, d.Formula = "2101", "686AF1", "10", "A" }, ""},
		{func(d *Definition) { d.Formula = "100 % A" }, ""},
		{func(d *Definition) { d.Formula = "signed(A, B)" }, "no value for any bytes"},
		{func(d *Definition) { d.Formula = "AF/" }, "formula"},
		{func(d *Definition) { d.Formula = "volts*2" }, "unknown name volts"},
		{func(d *Definition) { d.Formula = "42" }, "uses no byte"},
		{func(d *Definition) { d.Formula = "signed(A, 99)" }, "2 to 32 bits"},
		{func(d *Definition) { d.Formula = "len(1..1000000)+A" }, "formula"},
		{func(d *Definition) { d.Formula = `"A"` }, "formula"},
		{func(d *Definition) { d.Min, d.Max = 5, 5 }, "range"},
		{func(d *Definition) { d.Rate = -1 }, "rate"},
	} {
		d := good
		test.change(&d)
		_, err := Define(d)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%+v: %v", d, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%+v: %v, want %q", d, err, test.want)
		}
	}
}

func TestOwnValue(t *testing.T) {
	for _, test := range []struct {
		formula string
		data    []byte
		want    float64
		fails   bool
	}{
		{"A", []byte{200}, 200, false},
		{"(A*256+B)/10", []byte{1, 4}, 26, false},
		{"signed(A*256+B, 16)/10", []byte{0xFF, 0x9C}, -10, false},
		{"signed(A, 8)", []byte{0x80}, -128, false},
		{"bit(A, 7)", []byte{0x80}, 1, false},
		{"bitand(A, 15) * 2", []byte{0x3F}, 30, false},
		{"A > 10 ? B : C", []byte{11, 2, 3}, 2, false},
		{"1/A", []byte{0}, 0, true},
		{"B", []byte{1}, 0, true},
	} {
		o := OwnSignal{}
		if err := o.compile(test.formula); err != nil {
			t.Errorf("%s: %v", test.formula, err)
			continue
		}
		if got, err := o.value(test.data); got != test.want || (err != nil) != test.fails {
			t.Errorf("%s of %X is %v, %v", test.formula, test.data, got, err)
		}
	}
}

// Only the whole answer of the ECU that was asked counts.
func TestOwnRead(t *testing.T) {
	o, err := Define(Definition{Name: "soc_pct", Request: "220105", Header: "7E4", Formula: "B", Max: 100, Rate: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		message Message
		found   bool
		fails   bool
	}{
		{Message{ECU: "7EC", Data: []byte{0x62, 1, 5, 7, 50}}, true, false},
		{Message{ECU: "7E8", Data: []byte{0x62, 1, 5, 7, 50}}, false, false},
		{Message{ECU: "7EC", Data: []byte{0x62, 1, 6, 7, 50}}, false, false},
		{Message{ECU: "7EC", Data: []byte{0x62, 1, 5, 7}}, true, true},
		{Message{ECU: "7EC", Data: []byte{0x41, 5, 7}}, false, false},
	} {
		x, _, found, err := o.read(Answer{Messages: []Message{test.message}}, "7E8")
		if found != test.found || (err != nil) != test.fails || found && err == nil && x != 50 {
			t.Errorf("%+v: %v, %v, %v", test.message, x, found, err)
		}
	}
}
