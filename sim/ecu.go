package sim

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// What the engine's ECU calls itself.
const (
	vin         = "WVWZZZ1KZ8W123456"
	calibration = "SIM20L-R05-A0001"
	ecuName     = "ECM-EngineControl"
)

// car is the electronics behind the diagnostic connector. It belongs to the
// adapter's goroutine.
type car struct {
	drive    *drive
	clock    driveClock
	protocol protocol
	delay    time.Duration // of an answer
	traits   OBDConfig
	faults   *faults
	ecus     []ecu

	engineOff atomic.Bool // whatever the drive says
	silenced  atomic.Pointer[[]byte]
	asked     time.Duration // drive time of the last request
	cleared   bool          // mode 04 was asked for
	clearedAt struct {
		t        time.Duration
		odometer float64
		warmups  int
	}
}

// ecu is one that answers.
type ecu struct {
	// number tells it from others: 0 is the engine (7E8, 10), 1 the transmission
	// (7E9, 18).
	number byte
	filler byte // in unused bytes of its CAN frames
	pids   []byte
	far    bool // on an id of its own, which needs flow control that is set by hand
}

// message is one answer of an ECU, before it is cut into frames.
type message struct {
	data   []byte
	served []served
}

// served is a mode 01 parameter in a message.
type served struct {
	id     []byte // PID, or what names the value in its mode
	bytes  []byte
	values map[string]any
}

func newCar(d *drive, clock driveClock, c OBDConfig) *car {
	engine := ecu{number: 0, filler: 0x00}
	for _, p := range parameters {
		engine.pids = append(engine.pids, p.pid)
	}
	if d.key != nil && d.key.Powertrain == "electric" {
		engine.pids = lessCombustion(engine.pids)
	}
	k := &car{drive: d, clock: clock, protocol: protocols[c.Protocol], delay: c.ECUDelay, ecus: []ecu{engine}, traits: c, faults: new(faults)}
	if c.ECUs == 2 {
		k.ecus = append(k.ecus, ecu{number: 1, filler: 0xAA, pids: []byte{0x01, 0x0D}})
	}
	if k.protocol.can() {
		k.ecus = append(k.ecus, ecu{number: batteryECU, filler: 0xAA, far: c.FarBattery})
	}
	return k
}

// answer is what an ECU says to a request, none when it keeps silent. Buses other
// than CAN cut long answers into several messages of their own.
func (c *car) answer(e *ecu, request []byte, now time.Time) []message {
	t := c.clock.at(now)
	c.asked = t
	s := c.drive.at(t)
	if !s.ignition || len(request) == 0 || c.faults.acts("ignition_off") {
		return nil
	}
	if c.engineOff.Load() {
		s = s.still()
	}
	if e.number == batteryECU {
		return c.battery(request, s)
	}
	if c.lacks(request[0]) {
		return nil
	}
	mode, rest := request[0], request[1:]
	switch mode {
	case 0x01:
		return c.currentValues(e, rest, s)
	case 0x02:
		return c.freezeFrame(e, rest)
	case 0x03, 0x07, 0x0A:
		return c.troubleCodes(e, mode)
	case 0x04:
		return c.clear(e, s)
	case 0x09:
		return c.identification(e, rest)
	default:
		return []message{{data: []byte{0x7F, mode, 0x12}}}
	}
}

// currentValues is mode 01: up to six parameters on CAN, one elsewhere. What the
// ECU does not know is left out; it is silent when it knows nothing.
func (c *car) currentValues(e *ecu, pids []byte, s state) []message {
	if len(pids) == 0 || len(pids) > 6 || len(pids) > 1 && !c.protocol.can() {
		return nil
	}
	if e.number == 0 && c.refuses(pids) {
		return []message{{data: []byte{0x7F, 0x01, 0x12}}}
	}
	m := message{data: []byte{0x41}}
	for _, pid := range pids {
		if e.number == 0 && bytes.Contains(c.traits.Denies, []byte{pid}) {
			continue
		}
		b, values := c.parameter(e, pid, s)
		if b == nil {
			continue
		}
		m.data = append(append(m.data, pid), b...)
		m.served = append(m.served, served{[]byte{pid}, b, values})
	}
	if len(m.served) == 0 {
		return nil
	}
	return []message{m}
}

// parameter is one parameter of an ECU, nil when it has none.
func (c *car) parameter(e *ecu, pid byte, s state) ([]byte, map[string]any) {
	if pid%0x20 == 0 {
		if len(e.pids) == 0 || pid > 0 && e.pids[len(e.pids)-1] <= pid {
			return nil, nil
		}
		return supportBitmap(pid, e.pids), nil
	}
	p := findParameter(pid)
	if p == nil || !bytes.Contains(e.pids, []byte{pid}) {
		return nil, nil
	}
	if e.number != 0 {
		switch pid {
		case 0x01:
			b := []byte{0, 0x04, 0, 0}
			return b, p.mean(b)
		case 0x0D:
			if !c.engineOff.Load() {
				s.speed += 1 / 3.6 // its own sensor: a reader of the wrong ECU shows
			}
		}
	}
	b := p.bytes(c, s)
	return b, p.mean(b)
}

// freezeFrame is mode 02, frame 0: the conditions under which P0301 was stored.
func (c *car) freezeFrame(e *ecu, rest []byte) []message {
	if e.number != 0 || len(rest) == 0 || len(rest) > 1 && rest[1] != 0 || len(rest) > 2 || c.cleared {
		return nil
	}
	frozen := state{
		ignition: true, engine: true, speed: 13, rpm: 2140, load: 0.61, coolant: 88,
		manifold: 64, intake: 24, throttle: 0.31, trimShort: 3.2, trimLong: 1.5, runTime: 412,
	}
	pid := rest[0]
	data := []byte{0x42, pid, 0}
	switch {
	case pid == 0x00:
		return []message{{data: append(data, supportBitmap(0, freezePIDs)...)}}
	case pid == 0x02:
		return []message{{data: append(data, troubleCode("P0301")...)}}
	case bytes.Contains(freezePIDs, []byte{pid}):
		return []message{{data: append(data, findParameter(pid).bytes(c, frozen)...)}}
	}
	return nil
}

var freezePIDs = []byte{0x02, 0x04, 0x05, 0x06, 0x07, 0x0B, 0x0C, 0x0D, 0x0F, 0x11, 0x1F}

// troubleCodes is mode 03, 07 or 0A. CAN counts the codes; elsewhere each message
// holds three, the last filled with zeros.
func (c *car) troubleCodes(e *ecu, mode byte) []message {
	var codes []byte
	if e.number == 0 {
		for _, code := range c.codes(mode) {
			codes = append(codes, troubleCode(code)...)
		}
	}
	if c.protocol.can() {
		return []message{{data: append([]byte{mode | 0x40, byte(len(codes) / 2)}, codes...)}}
	}
	if len(codes) == 0 && c.traits.SilentIfNone {
		return nil
	}
	var messages []message
	for first := true; first || len(codes) > 0; first = false {
		data := make([]byte, 7)
		data[0] = mode | 0x40
		codes = codes[copy(data[1:], codes):]
		messages = append(messages, message{data: data})
	}
	return messages
}

// codes are the codes of mode 03, 07 or 0A. A permanent code outlives mode 04, and
// what is wrong with the car comes back: pending after five minutes, stored after
// fifteen.
func (c *car) codes(mode byte) []string {
	since := c.asked - c.clearedAt.t
	switch {
	case mode == 0x0A:
		return []string{"P0301"}
	case mode == 0x03 && (!c.cleared || since > 15*time.Minute):
		return []string{"P0301", "P0420"}
	case mode == 0x07 && (!c.cleared || since > 5*time.Minute):
		return []string{"P0171"}
	}
	return nil
}

// monitorStatus is PID 01: the lamp and count of stored codes, and the monitors of
// a petrol engine, all of them complete.
func (c *car) monitorStatus(state) []byte {
	b := []byte{0, 0x07, 0xE5, 0}
	if n := len(c.codes(0x03)); n > 0 {
		b[0] = 0x80 | byte(n)
	}
	return b
}

// before the mode 04: what the workshop's last visit left.
const (
	distanceBefore = 1240.0 // km since the codes were cleared
	milBefore      = 37.0   // km with the lamp on
	warmupsBefore  = 23
)

func (c *car) distanceWithMIL(s state) []byte {
	if c.cleared {
		return integer(0, 2)
	}
	return integer(milBefore+s.path/1000-0.5, 2)
}

func (c *car) distanceSinceClear(s state) []byte {
	if c.cleared {
		return integer(s.odometer-c.clearedAt.odometer-0.5, 2)
	}
	return integer(distanceBefore+s.path/1000-0.5, 2)
}

func (c *car) warmupsSinceClear(s state) []byte {
	if c.cleared {
		return integer(float64(s.warmups-c.clearedAt.warmups), 1)
	}
	return integer(float64(warmupsBefore+s.warmups), 1)
}

// identification is mode 09. On CAN a text comes whole; elsewhere in numbered
// messages of four bytes, filled with NUL in front (SAE J1979).
func (c *car) identification(e *ecu, rest []byte) []message {
	if e.number != 0 || len(rest) != 1 {
		return nil
	}
	info := rest[0]
	texts := map[byte]string{0x02: vin, 0x04: calibration, 0x0A: ecuName}
	if c.protocol.can() {
		switch text, ok := texts[info]; {
		case info == 0x00:
			return []message{{data: append([]byte{0x49, 0}, supportBitmap(0, []byte{2, 4, 0x0A})...)}}
		case info == 0x0A:
			text += strings.Repeat("\x00", 20-len(text))
			fallthrough
		case ok:
			return []message{{data: append([]byte{0x49, info, 1}, text...)}}
		}
		return nil
	}
	if info == 0x00 {
		return []message{{data: append([]byte{0x49, 0, 1}, supportBitmap(0, []byte{1, 2, 3, 4, 9, 0x0A})...)}}
	}
	if text, ok := texts[info+1]; ok && info%2 == 1 { // how many messages
		return []message{{data: []byte{0x49, info, byte((len(text) + 3) / 4)}}}
	}
	text, ok := texts[info]
	if !ok {
		return nil
	}
	text = strings.Repeat("\x00", (4-len(text)%4)%4) + text
	var messages []message
	for n := byte(1); text != ""; n++ {
		messages = append(messages, message{data: append([]byte{0x49, info, n}, text[:4]...)})
		text = text[4:]
	}
	return messages
}

// troubleCode packs a code such as "P0301" (SAE J2012).
func troubleCode(code string) []byte {
	n, err := hex.DecodeString(code[1:])
	if err != nil || len(n) != 2 {
		panic(fmt.Sprintf("trouble code %q", code)) // a constant of this file
	}
	system := uint16(strings.IndexByte("PCBU", code[0]))
	return binary.BigEndian.AppendUint16(nil, system<<14|binary.BigEndian.Uint16(n))
}

// refuses reports whether this car refuses a request for these parameters whole.
func (c *car) refuses(pids []byte) bool {
	if most := c.traits.MaxPIDs; most > 0 && len(pids) > most {
		return true
	}
	return len(pids) > 1 && slices.ContainsFunc(pids, func(pid byte) bool { return slices.Contains(c.traits.Refuses, pid) })
}

// batteryECU is the number of the battery's ECU in electric cars: 7E4 asks, 7EC
// answers. It hears nothing but what is addressed to it.
const batteryECU = 4

// farHeader asks it where it is far.
const farHeader = 0x79B

// battery is mode 22, parameter 0105: forty bytes, the state of charge times two is
// the 32nd. This one's follows the fuel.
func (c *car) battery(request []byte, s state) []message {
	if !bytes.Equal(request, []byte{0x22, 0x01, 0x05}) {
		return []message{{data: []byte{0x7F, request[0], 0x31}}}
	}
	data := []byte{0x62, 0x01, 0x05}
	for i := range 40 {
		data = append(data, byte(i*37+11))
	}
	charge := byte(s.fuel / fuelTank * 200)
	data[3+31] = charge
	return []message{{data: data, served: []served{{[]byte{0x01, 0x05}, []byte{charge}, map[string]any{"battery_soc_pct": float64(charge) / 2}}}}}
}
