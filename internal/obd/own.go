package obd

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"

	"telemetryd/internal/telemetry"
)

// OwnSignal is a signal that the user defines by a request of his car's maker.
type OwnSignal struct {
	telemetry.Signal
	request string // in hex
	to      channel
	bus     Bus    // that has such headers; UnknownBus for any
	answer  []byte // what an answer begins with
	formula *vm.Program
	bytes   int // the formula needs
}

// Definition is an own signal as it stands in the settings.
type Definition struct {
	Name    string
	Unit    string
	Request string // 220105: mode and parameter in hex
	Header  string // 7E4: whom to ask; empty for all
	Filter  string // 7EC: who answers; empty for what belongs to the header
	Formula string // over the bytes behind the echo of the request: A is the first, Z the 26th, AA the 27th
	Min     float64
	Max     float64
	Rate    float64 // hertz
}

// readingModes are the services that only read (SAE J1979, ISO 14230-3, ISO 14229-1),
// each with the number of hex digits that name a parameter. All others are refused:
// some clear codes, write or move parts of the car.
var readingModes = map[string]int{"01": 2, "09": 2, "21": 2, "22": 4}

var (
	ownName   = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	hexDigits = regexp.MustCompile(`^[0-9A-F]+$`)
)

// Define checks a definition and makes a signal of it.
func Define(d Definition) (OwnSignal, error) {
	own := OwnSignal{Signal: telemetry.Signal{Name: d.Name, Unit: d.Unit, Min: d.Min, Max: d.Max, Digits: ownDigits, Rate: d.Rate, Source: telemetry.FromCar}}
	if !ownName.MatchString(d.Name) {
		return own, fmt.Errorf("name %q; allowed: a-z, 0-9 and _, a letter first, 64 at most", d.Name)
	}
	if _, taken := telemetry.FindSignal(d.Name); taken || slices.Contains(reserved, d.Name) {
		return own, fmt.Errorf("name %q is taken by telemetryd itself; choose another", d.Name)
	}
	own.request = strings.ToUpper(strings.ReplaceAll(d.Request, " ", ""))
	mode := own.request[:min(2, len(own.request))]
	digits, reads := readingModes[mode]
	switch {
	case !hexDigits.MatchString(own.request):
		return own, fmt.Errorf("request %q; allowed: hex digits, as 220105", d.Request)
	case !reads:
		return own, fmt.Errorf("request %q is of mode %s; allowed: 01, 09, 21, 22, which only read; telemetryd never writes to a car", d.Request, mode)
	case len(own.request) != 2+digits:
		return own, fmt.Errorf("request %q; allowed in mode %s: %d more hex digits, one parameter", d.Request, mode, digits)
	}
	own.answer = unhex(own.request)
	own.answer[0] |= 0x40
	if err := own.route(d.Header, d.Filter); err != nil {
		return own, err
	}
	if !(d.Min < d.Max) || math.IsInf(d.Min, 0) || math.IsInf(d.Max, 0) {
		return own, fmt.Errorf("range from %v to %v; allowed: two numbers, the smaller first: what is outside is refused", d.Min, d.Max)
	}
	if !(d.Rate >= 0.0001) || d.Rate > 1000 && !math.IsInf(d.Rate, 1) {
		return own, fmt.Errorf("rate %v; allowed: 0.0001 to 1000 hertz, or max", d.Rate)
	}
	return own, own.compile(d.Formula)
}

const ownDigits = 4

// reserved are keys of a sample that are no signals.
var reserved = []string{"t", "uptime_ms"}

func unhex(s string) []byte {
	var b []byte
	for i := 0; i+1 < len(s); i += 2 {
		b = append(b, hexValue(s[i])<<4|hexValue(s[i+1]))
	}
	return b
}

func hexValue(c byte) byte {
	if c >= 'A' {
		return c - 'A' + 10
	}
	return c - '0'
}

// route checks header and filter. On CAN an answer comes from the header's own
// counterpart where that is known; on older buses a header has three bytes, and an ECU
// answers under its own address, which KWP names in the second (ISO 14230-2).
func (o *OwnSignal) route(header, filter string) error {
	h, f := strings.ToUpper(header), strings.ToUpper(filter)
	for name, id := range map[string]string{"header": h, "filter": f} {
		if id != "" && !hexDigits.MatchString(id) {
			return fmt.Errorf("%s %q; allowed: hex digits, as 7E4", name, id)
		}
	}
	if len(h) == 6 && (strings.HasPrefix(h, "DA") || strings.HasPrefix(h, "DB")) {
		h = "18" + h // the low bytes of a 29-bit id, as ATSH takes them
	}
	switch len(h) {
	case 0:
		o.bus = UnknownBus
		if f != "" {
			return fmt.Errorf("filter %s without a header: name whom to ask, too", f)
		}
	case 3:
		o.bus = CAN11
	case 8:
		o.bus = CAN29
	case 6:
		o.bus = KLine // or J1850
		if f == "" && h[0] == '8' {
			f = h[2:4]
		}
	default:
		return fmt.Errorf("header %q; allowed: 3 hex digits (CAN, 11 bits), 8 (29 bits) or 6 (three bytes on older buses), as 7E4", header)
	}
	if f == "" {
		f = answersTo(h)
	}
	if want := map[Bus]int{CAN11: 3, CAN29: 8, KLine: 2}[o.bus]; f != "" && len(f) != want {
		return fmt.Errorf("filter %q; allowed with header %s: %d hex digits, the id that answers", filter, h, want)
	}
	if f == "" && (o.bus == CAN11 || o.bus == CAN29) {
		return fmt.Errorf("header %s: who answers to it is not known; name it with filter", h)
	}
	o.to = channel{h, f}
	return nil
}

// fits reports whether the signal's header is one of a bus.
func (o *OwnSignal) fits(b Bus) bool {
	return o.bus == UnknownBus || o.bus == b || o.bus == KLine && b == J1850
}

// compile checks the formula and notes how many bytes it needs.
func (o *OwnSignal) compile(formula string) error {
	env := ownEnv(nil)
	program, err := expr.Compile(formula, append(ownOptions, expr.Env(env))...)
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return fmt.Errorf("formula %q: %s; allowed: bytes A, B ... Z, AA ... BL, numbers, + - * / %% ( ), signed(x, bits), bit(x, n), bitand, bitor, bitshl, bitshr, min, max, abs, round", formula, first)
	}
	used := 0
	node := program.Node()
	ast.Walk(&node, byteVisitor{&used})
	if used == 0 {
		return fmt.Errorf("formula %q uses no byte of the answer", formula)
	}
	o.formula, o.bytes = program, used
	for _, pattern := range []byte{0, 1, 0x55, 0xFF} { // one may divide by zero
		if _, err = o.value(bytes.Repeat([]byte{pattern}, used)); err == nil || errors.Is(err, errNotANumber) {
			return nil
		}
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return fmt.Errorf("formula %q has no value for any bytes: %s", formula, first)
}

type byteVisitor struct{ used *int }

func (v byteVisitor) Visit(node *ast.Node) {
	if id, ok := (*node).(*ast.IdentifierNode); ok {
		if i := slices.Index(byteNames, id.Value); i >= 0 {
			*v.used = max(*v.used, i+1)
		}
	}
}

// byteNames are A ... Z, AA ... AZ, BA ... BL: the bytes of an answer as the Torque
// app and the lists made for it name them.
var byteNames = func() []string {
	var names []string
	for i := range 64 {
		name := string(rune('A' + i%26))
		if i >= 26 {
			name = string(rune('A'+i/26-1)) + name
		}
		names = append(names, name)
	}
	return names
}()

func ownEnv(data []byte) map[string]any {
	env := make(map[string]any, len(byteNames))
	for i, name := range byteNames {
		env[name] = 0
		if i < len(data) {
			env[name] = int(data[i])
		}
	}
	return env
}

// ownOptions keep formulas to arithmetic: nothing that loops or allocates at will.
var ownOptions = func() []expr.Option {
	o := []expr.Option{expr.AsFloat64(), expr.MaxNodes(500), expr.DisableAllBuiltins(),
		expr.Function("signed", func(p ...any) (any, error) {
			x, bits := p[0].(int), p[1].(int)
			if bits < 2 || bits > 32 {
				return nil, fmt.Errorf("signed(x, %d); allowed: 2 to 32 bits", bits)
			}
			x &= 1<<bits - 1
			if x >= 1<<(bits-1) {
				x -= 1 << bits
			}
			return x, nil
		}, new(func(int, int) int)),
		expr.Function("bit", func(p ...any) (any, error) {
			x, n := p[0].(int), p[1].(int)
			if n < 0 || n > 31 {
				return nil, fmt.Errorf("bit(x, %d); allowed: 0 to 31", n)
			}
			return x >> n & 1, nil
		}, new(func(int, int) int))}
	for _, name := range []string{"abs", "min", "max", "round", "floor", "ceil", "int", "float", "bitand", "bitor", "bitxor", "bitshl", "bitshr"} {
		o = append(o, expr.EnableBuiltin(name))
	}
	return o
}()

var errNotANumber = errors.New("no number")

// value is what the formula makes of the bytes behind the echo of the request.
func (o *OwnSignal) value(data []byte) (float64, error) {
	if len(data) < o.bytes {
		return 0, fmt.Errorf("%d bytes, the formula needs %d", len(data), o.bytes)
	}
	x, err := expr.Run(o.formula, ownEnv(data))
	if err != nil {
		return 0, err
	}
	f, ok := x.(float64)
	if !ok || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, errNotANumber
	}
	return f, nil
}

// read takes the signal out of an answer, and when it arrived. The ECU that the filter
// names must have sent it; without a filter the speaker of the session.
func (o *OwnSignal) read(a Answer, speaker string) (x float64, arrived time.Duration, found bool, err error) {
	from := o.to.filter
	if from == "" {
		from = speaker
	}
	for _, m := range a.Messages {
		if data, ok := strings.CutPrefix(string(m.Data), string(o.answer)); ok && m.ECU == from {
			x, err := o.value([]byte(data))
			return x, m.Arrived, true, err
		}
	}
	return 0, 0, false, nil
}
