package sim

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// reception is a frame on its way to the adapter. The last frame of a message
// carries what was served in it.
type reception struct {
	ecu    *ecu
	frame  frame
	served []served
	after  time.Duration // that its ECU takes for it
}

// request puts a request on the bus and prints what comes back (section "Talking
// to the Vehicle"). An odd number of digits ends in the count of frames to wait for.
func (a *adapter) request(ctx context.Context, command string) {
	digits, expected := command, 0
	if len(digits)%2 == 1 && a.traits.NoCountDigit {
		a.answer(ctx, "?")
		return
	}
	if len(digits)%2 == 1 {
		if _, err := fmt.Sscanf(digits[len(digits)-1:], "%X", &expected); err != nil {
			a.answer(ctx, "?")
			return
		}
		digits = digits[:len(digits)-1]
	}
	data, err := hex.DecodeString(digits)
	if err != nil || len(data) == 0 || len(data) > a.longestRequest() {
		a.answer(ctx, "?")
		return
	}
	if !a.openBus(ctx) {
		return
	}
	sent := time.Now()
	a.bus.request(sent)
	if a.traits.OnRequest != nil {
		a.traits.OnRequest(sent, digits)
	}
	if !a.settings.responses {
		return
	}
	answer := a.exchange(ctx, data)
	if f := a.faults.onAnswer(func(f *Fault) bool { return f.fits(answer) }); f != nil && a.going() {
		if answer = f.answer(a, ctx, exchange{command, data, answer}); len(answer) == 0 {
			return
		}
	}
	frames := 0
	for _, r := range answer {
		if !a.accepts(r.frame) {
			continue
		}
		if r.after > 0 {
			a.pause(ctx, min(r.after, a.patience()))
			if r.after > a.patience() {
				return // it comes when nobody listens any more
			}
		}
		if frames++; frames == 1 {
			a.learn(time.Since(sent))
		}
		a.printFrame(ctx, r, command)
		if frames == expected || !a.going() {
			return
		}
	}
	a.pause(ctx, a.patience())
	if frames == 0 {
		a.printLine(ctx, "NO DATA")
	}
}

// longestRequest is how many bytes fit into a request.
func (a *adapter) longestRequest() int {
	if protocols[a.settings.protocol].can() && a.settings.formatting {
		return 7
	}
	return 8
}

// openBus opens the protocol if it is not, and prints what a search or an
// initialisation prints. It reports whether the request can be sent.
func (a *adapter) openBus(ctx context.Context) bool {
	now := time.Now()
	if a.bus.isOpen(now) {
		return true
	}
	chosen := protocols[a.settings.protocol] // none for '0'
	right := chosen.digit == a.car.protocol.digit
	reachable := right && a.bus.ignition(now)
	switch {
	case a.settings.automatic && !reachable:
		return a.search(ctx)
	case chosen.kLine():
		return a.initialise(ctx, reachable)
	}
	a.bus.opening()
	switch {
	case reachable:
		a.bus.opened(now)
		return true
	case chosen.can() && !right:
		a.pause(ctx, a.settings.timeout)
		a.printLine(ctx, "CAN ERROR") // nobody acknowledges
	default:
		a.pause(ctx, a.settings.timeout)
		a.printLine(ctx, "NO DATA")
	}
	return false
}

// search tries every protocol. The dots are printed while it goes on.
func (a *adapter) search(ctx context.Context) bool {
	a.print(ctx, "SEARCHING...", true, nil)
	a.bus.opening()
	a.pause(ctx, time.Duration(float64(searchTime)/a.speedup))
	a.print(ctx, a.eol(), true, nil)
	if !a.going() {
		return false
	}
	now := time.Now()
	if !a.bus.ignition(now) {
		a.settings.protocol = '0'
		a.printLine(ctx, "UNABLE TO CONNECT")
		return false
	}
	a.settings.protocol = a.car.protocol.digit
	a.bus.opened(now)
	return true
}

// initialise wakes the ECUs of a K-line: at 5 baud, or fast (protocol 5).
func (a *adapter) initialise(ctx context.Context, reachable bool) bool {
	takes, dots := 2200*time.Millisecond, "..."
	if a.settings.protocol == '5' { // "a fast initiation does not show the dots"
		takes, dots = 300*time.Millisecond, ""
	}
	a.print(ctx, "BUS INIT: ", true, nil)
	a.bus.opening()
	a.pause(ctx, time.Duration(float64(takes)/a.speedup))
	if !reachable {
		a.print(ctx, dots+"ERROR"+a.eol(), true, nil)
		return false
	}
	a.print(ctx, dots+"OK"+a.eol(), true, nil)
	if !a.going() {
		return false
	}
	a.bus.opened(time.Now())
	return true
}

// exchange lets the ECUs answer: the frames in the order in which the bus carries
// them, each ECU sending its next one in turn.
func (a *adapter) exchange(ctx context.Context, data []byte) []reception {
	if protocols[a.settings.protocol].can() && !a.settings.formatting { // the PCI byte is the client's
		n := int(data[0])
		if n == 0 || n >= len(data) {
			return nil
		}
		data = data[1 : 1+n]
	}
	a.pause(ctx, a.car.delay)
	if !a.going() {
		return nil
	}
	now := time.Now()
	var queues [][]reception
	for i := range a.car.ecus {
		if e := &a.car.ecus[i]; a.car.protocol.addressed(e, a.settings.header) {
			queues = append(queues, a.receptions(e, data, now))
		}
	}
	var order []reception
	for sent := true; sent; {
		sent = false
		for i, q := range queues {
			if len(q) > 0 {
				order, queues[i], sent = append(order, q[0]), q[1:], true
			}
		}
	}
	return order
}

// receptions is all that one ECU sends in answer to a request.
func (a *adapter) receptions(e *ecu, data []byte, now time.Time) []reception {
	var all []reception
	for _, m := range a.car.answer(e, data, now) {
		frames := a.car.protocol.frames(e, m.data)
		if len(frames) > 1 && !a.flows(e) {
			frames, m.served = frames[:1], nil // the ECU waits in vain to go on
		}
		for _, f := range frames {
			all = append(all, reception{ecu: e, frame: f})
		}
		all[len(all)-1].served = m.served
	}
	if e.number == 1 && len(all) > 0 {
		all[0].after = a.traits.SlowSecond
	}
	if slow := a.traits.SlowBattery; slow > 0 && e.number == batteryECU && len(all) > 0 {
		all[0].after = slow
		working := a.car.protocol.frames(e, []byte{0x7F, data[0], 0x78})
		all = append([]reception{{ecu: e, frame: working[0]}}, all...)
	}
	return all
}

// flows reports whether the adapter answers an ECU's first frame, so that it goes on.
func (a *adapter) flows(e *ecu) bool {
	s := &a.settings
	if e.far {
		return s.flowControl && s.flowMode == 1 && s.flowHeader == farHeader
	}
	return s.flowControl
}

// accepts applies the receive filter (ATCRA, ATCF, ATCM).
func (a *adapter) accepts(f frame) bool {
	return !a.car.protocol.can() || f.identifier()&a.settings.mask == a.settings.filter&a.settings.mask
}

// printFrame prints one frame; what it completes goes to the truth log with its
// last byte.
func (a *adapter) printFrame(ctx context.Context, r reception, command string) {
	a.print(ctx, a.format(r.frame), true, func(t time.Time) {
		for _, s := range r.served {
			a.truth.add(Truth{
				T: t, Source: "obd", ECU: a.car.protocol.sender(r.ecu), Request: command,
				PID: upperHex(s.id), Bytes: upperHex(s.bytes), Values: s.values,
			})
		}
	})
}

// format is a frame as the client sees it.
func (a *adapter) format(f frame) string {
	p := a.car.protocol
	var s strings.Builder
	switch {
	case a.settings.headers && !a.traits.NoHeaders:
		s.WriteString(a.formatHeader(f))
		s.WriteString(a.hex(f.data))
		if !p.can() {
			s.WriteString(a.hex([]byte{f.check}))
		}
	case !p.can() || !a.settings.formatting:
		s.WriteString(a.hex(f.data))
	default:
		switch pci := f.data[0]; pci >> 4 {
		case 0: // a single frame
			s.WriteString(a.hex(f.data[1 : 1+pci&0x0F]))
		case 1: // the first of several: the length stands in a line of its own
			fmt.Fprintf(&s, "%X%02X%s%s0:%s%s", pci&0x0F, f.data[1], a.space(), a.eol(), a.space(), a.hex(f.data[2:]))
		default:
			fmt.Fprintf(&s, "%X:%s%s", pci&0x0F, a.space(), a.hex(f.data[1:]))
		}
	}
	return s.String() + a.eol()
}

func (a *adapter) formatHeader(f frame) string {
	h := a.hex(f.header)
	if a.car.protocol.bus == can11 { // three digits
		h = upperHex(f.header)[1:] + a.space()
	}
	if a.car.protocol.can() && a.settings.showLength {
		h += fmt.Sprintf("%X%s", len(f.data), a.space())
	}
	return h
}

// hex prints bytes, each followed by a space unless ATS0.
func (a *adapter) hex(b []byte) string {
	var s strings.Builder
	for _, x := range b {
		fmt.Fprintf(&s, "%02X%s", x, a.space())
	}
	return s.String()
}

func (a *adapter) space() string {
	if a.settings.spaces {
		return " "
	}
	return ""
}

func upperHex(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

// learn adapts the timing to how soon the car answers (ATAT1, ATAT2).
func (a *adapter) learn(took time.Duration) {
	if a.learned == 0 {
		a.learned = took
		return
	}
	a.learned += (took - a.learned) / 4
}

// patience is how long to wait for another answer.
func (a *adapter) patience() time.Duration {
	if a.settings.adaptive == 0 || a.learned == 0 {
		return a.settings.timeout
	}
	margin := 2*a.learned + 4*time.Millisecond
	if a.settings.adaptive == 2 {
		margin = a.learned*3/2 + 2*time.Millisecond
	}
	return min(max(margin, shortestWait), a.settings.timeout)
}
