package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// atCommand is a command of the adapter itself: a name, then an argument (section
// "AT Commands").
type atCommand struct {
	name string
	arg  func(string) bool
	do   func(a *adapter, ctx context.Context, arg string)
}

func bare(arg string) bool  { return arg == "" }
func onOff(arg string) bool { return arg == "0" || arg == "1" }

// digits is an argument of as many hexadecimal digits as one of the counts.
func digits(counts ...int) func(string) bool {
	return func(arg string) bool { return slices.Contains(counts, len(arg)) && isHex(arg) }
}

// atCommands is searched from the top: a name whose argument does not fit is not meant.
var atCommands = []atCommand{
	{"Z", bare, func(a *adapter, ctx context.Context, _ string) { a.restart(ctx, resetTime) }},
	{"WS", bare, func(a *adapter, ctx context.Context, _ string) { a.restart(ctx, warmResetTime) }},
	{"D", bare, ok(func(a *adapter, _ string) { a.reset() })},
	{"I", bare, say(func(a *adapter) string { return a.chip })},
	{"@1", bare, say(func(*adapter) string { return "OBDII to RS232 Interpreter" })},
	{"@2", bare, say(func(*adapter) string { return "?" })}, // none was stored
	{"DP", bare, say((*adapter).describeProtocol)},
	{"DPN", bare, say((*adapter).protocolNumber)},
	{"RV", bare, (*adapter).readVoltage},
	{"IGN", bare, say((*adapter).ignition)},
	{"LP", bare, (*adapter).sleep},
	{"PC", bare, ok(func(a *adapter, _ string) { a.bus.close(time.Now()) })},

	{"E", onOff, flag(func(s *settings, on bool) { s.echo = on })},
	{"L", onOff, flag(func(s *settings, on bool) { s.linefeeds = on })},
	{"S", onOff, flag(func(s *settings, on bool) { s.spaces = on })},
	{"H", onOff, flag(func(s *settings, on bool) { s.headers = on })},
	{"R", onOff, flag(func(s *settings, on bool) { s.responses = on })},
	{"D", onOff, flag(func(s *settings, on bool) { s.showLength = on })},
	{"CAF", onOff, flag(func(s *settings, on bool) { s.formatting = on })},
	{"CFC", onOff, flag(func(s *settings, on bool) { s.flowControl = on })},
	{"M", onOff, flag(func(*settings, bool) {})},
	{"V", onOff, flag(func(*settings, bool) {})},
	{"KW", onOff, flag(func(*settings, bool) {})},

	{"AT", digits(1), (*adapter).setAdaptive},
	{"ST", digits(2), ok((*adapter).setTimeout)},
	{"SW", digits(2), ok(func(a *adapter, arg string) {
		a.bus.setKeepAlive(time.Duration(parseByte(arg))*keepAliveUnit, time.Now())
	})},
	{"SP", digits(1, 2), func(a *adapter, ctx context.Context, arg string) { a.chooseProtocol(ctx, arg, true) }},
	{"TP", digits(1, 2), func(a *adapter, ctx context.Context, arg string) { a.chooseProtocol(ctx, arg, false) }},

	{"SH", digits(3, 6, 8), ok((*adapter).setHeader)},
	{"CP", digits(2), ok(func(a *adapter, arg string) { a.settings.priority = parseByte(arg) })},
	{"CRA", bare, ok(func(a *adapter, _ string) { a.settings.filter, a.settings.mask = 0, 0 })},
	{"CRA", digits(3, 8), ok(func(a *adapter, arg string) { a.settings.filter, a.settings.mask = parseID(arg), 0x1FFFFFFF })},
	{"AR", bare, ok(func(a *adapter, _ string) { a.settings.filter, a.settings.mask = 0, 0 })},
	{"CF", digits(3, 8), ok(func(a *adapter, arg string) { a.settings.filter = parseID(arg) })},
	{"CM", digits(3, 8), ok(func(a *adapter, arg string) { a.settings.mask = parseID(arg) })},

	{"FCSM", digits(1), (*adapter).setFlowMode},
	{"FCSH", digits(3, 8), ok(func(a *adapter, arg string) { a.settings.flowHeader = parseID(arg) })},
	{"FCSD", digits(2, 4, 6, 8, 10), ok(func(a *adapter, _ string) { a.settings.flowData = true })},

	{"MA", bare, (*adapter).monitor},
	{"MR", digits(2), func(a *adapter, ctx context.Context, _ string) { a.monitor(ctx, "") }},
	{"MT", digits(2), func(a *adapter, ctx context.Context, _ string) { a.monitor(ctx, "") }},
	{"SD", digits(2), ok(func(a *adapter, arg string) { a.user = parseByte(arg) })},
	{"RD", bare, say(func(a *adapter) string { return fmt.Sprintf("%02X", a.user) })},

	// Accepted, without an effect that a client of this vehicle could see.
	{"AL", bare, accept}, {"NL", bare, accept}, {"BI", bare, accept}, {"SS", bare, accept}, {"JE", bare, accept},
	{"JS", bare, accept}, {"FE", bare, accept}, {"JHF", onOff, accept}, {"JTM", onOff, accept}, {"CSM", onOff, accept},
	{"CEA", digits(0, 2), accept}, {"CV", digits(4), accept},
	{"IB", digits(2), accept}, {"IIA", digits(2), accept}, {"IFR", onOff, accept},
	{"PB", digits(4), accept}, {"RA", digits(2), accept}, {"SR", digits(2), accept}, {"TA", digits(2), accept},
	{"WM", digits(2, 4, 6, 8, 10, 12), accept}, {"BRT", digits(2), accept},
}

// at carries out what follows AT.
func (a *adapter) at(ctx context.Context, c string) {
	for _, known := range atCommands {
		if a.lacks(known.name) {
			continue
		}
		arg, found := strings.CutPrefix(c, known.name)
		if found && known.arg(arg) {
			known.do(a, ctx, arg)
			return
		}
	}
	if strings.HasPrefix(c, "PP") && isProgrammable(c[2:]) {
		a.answer(ctx, "OK")
		return
	}
	a.answer(ctx, "?")
}

// lacks reports whether this adapter is of those that do not know a command.
func (a *adapter) lacks(name string) bool {
	switch name {
	case "CRA", "CF", "CM":
		return a.traits.NoFilter
	case "AT":
		return a.traits.NoAdaptive
	case "SH":
		return a.traits.NoSetHeader
	case "RV":
		return a.traits.NoVoltage
	case "LP":
		return a.traits.NoSleep
	case "PC":
		return a.traits.NoClose
	}
	return false
}

// isProgrammable recognises the programmable parameters: "0CSV10", "0CON", "FFOFF".
// They are accepted and change nothing.
func isProgrammable(c string) bool {
	if len(c) < 4 || !isHex(c[:2]) {
		return false
	}
	value, set := strings.CutPrefix(c[2:], "SV")
	return c[2:] == "ON" || c[2:] == "OFF" || set && len(value) == 2 && isHex(value)
}

// ok makes a command that answers OK.
func ok(do func(*adapter, string)) func(*adapter, context.Context, string) {
	return func(a *adapter, ctx context.Context, arg string) {
		do(a, arg)
		a.answer(ctx, "OK")
	}
}

// say makes a command that answers with a line.
func say(line func(*adapter) string) func(*adapter, context.Context, string) {
	return func(a *adapter, ctx context.Context, _ string) { a.answer(ctx, line(a)) }
}

// flag makes a command that turns a setting on or off. Its OK is printed under the
// new setting.
func flag(set func(*settings, bool)) func(*adapter, context.Context, string) {
	return ok(func(a *adapter, arg string) { set(&a.settings, arg == "1") })
}

func accept(a *adapter, ctx context.Context, _ string) { a.answer(ctx, "OK") }

func (a *adapter) describeProtocol() string {
	if a.settings.protocol == '0' {
		return "AUTO"
	}
	name := protocols[a.settings.protocol].name
	if a.settings.automatic {
		return "AUTO, " + name
	}
	return name
}

func (a *adapter) protocolNumber() string {
	if a.settings.automatic {
		return "A" + string(a.settings.protocol)
	}
	return string(a.settings.protocol)
}

// readVoltage is ATRV: the adapter measures at the connector; the car need not
// answer.
func (a *adapter) readVoltage(ctx context.Context, _ string) {
	s := a.car.drive.at(a.car.clock.at(time.Now()))
	text := strconv.FormatFloat(s.volts, 'f', 1, 64)
	a.print(ctx, text+"V"+a.eol(), false, func(t time.Time) {
		volts, _ := strconv.ParseFloat(text, 64) // it was printed just now
		a.truth.add(Truth{T: t, Source: "obd", Request: "ATRV", Values: map[string]any{"battery_voltage_v": volts}})
	})
}

func (a *adapter) ignition() string {
	if a.bus.ignition(time.Now()) {
		return "ON"
	}
	return "OFF"
}

// sleep is ATLP. No prompt follows: the chip is in low power until a byte comes.
func (a *adapter) sleep(ctx context.Context, _ string) {
	a.answer(ctx, "OK")
	a.bus.close(time.Now())
	a.asleep = true
}

func (a *adapter) setAdaptive(ctx context.Context, arg string) {
	if arg > "2" {
		a.answer(ctx, "?")
		return
	}
	a.settings.adaptive = arg[0] - '0'
	a.answer(ctx, "OK")
}

// setFlowMode is ATFCSM: mode 1 takes header and data as set before, and is refused
// without them.
func (a *adapter) setFlowMode(ctx context.Context, arg string) {
	if arg > "2" || arg == "1" && (a.settings.flowHeader == 0 || !a.settings.flowData) {
		a.answer(ctx, "?")
		return
	}
	a.settings.flowMode = arg[0] - '0'
	a.answer(ctx, "OK")
}

func (a *adapter) setTimeout(arg string) {
	a.settings.timeout = time.Duration(parseByte(arg)) * timeoutUnit
	if a.settings.timeout == 0 {
		a.settings.timeout = defaultTimeout
	}
}

// chooseProtocol is ATSP and ATTP: "6", "A6" or "6A" (begin with 6, then search),
// "0" or "A0" (search). ATSP stores it.
func (a *adapter) chooseProtocol(ctx context.Context, arg string, store bool) {
	automatic := false
	if len(arg) == 2 {
		switch {
		case arg[0] == 'A':
			arg = arg[1:]
		case arg[1] == 'A':
			arg = arg[:1]
		default:
			a.answer(ctx, "?")
			return
		}
		automatic = true
	}
	digit := arg[0]
	if _, known := protocols[digit]; !known && digit != '0' {
		a.answer(ctx, "?")
		return
	}
	automatic = automatic || digit == '0'
	if store {
		a.stored = storedProtocol{digit, automatic}
	}
	a.setProtocol(digit, automatic)
	a.answer(ctx, "OK")
}

// setHeader is ATSH. Three digits are an 11 bit identifier; six are three header
// bytes, or the low ones of a 29 bit identifier; eight are a whole one.
func (a *adapter) setHeader(arg string) {
	var header [4]byte
	binary.BigEndian.PutUint32(header[:], parseID(arg))
	if len(arg) == 6 {
		header[0] = a.settings.priority
	}
	a.settings.header = &header
}

// monitor is ATMA and its like. Nobody talks on this bus without being asked, so
// that there is nothing to print until the client stops it.
func (a *adapter) monitor(ctx context.Context, _ string) {
	for a.going() {
		a.pause(ctx, time.Hour)
	}
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789ABCDEF") == ""
}

func parseByte(s string) byte { return byte(parseID(s)) }

// parseID reads digits that isHex has checked.
func parseID(s string) uint32 {
	n, err := strconv.ParseUint(s, 16, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}
