package obd

import (
	"encoding/hex"
	"strconv"
)

// maxOpen bounds the messages under way: more ECUs than any car has.
const maxOpen = 16

// canFrame reads one CAN frame with its header of idDigits hex digits and puts
// multi-frame messages together, each ECU's by itself (ISO 15765-2).
func (p *parser) canFrame(digits string, idDigits int, text string) {
	if len(digits) < idDigits+2 {
		p.trouble(Garbage, text)
		return
	}
	ecu := digits[:idDigits]
	frame, err := hex.DecodeString(digits[idDigits:])
	if err != nil || len(frame) > 8 {
		p.trouble(Garbage, text)
		return
	}
	switch frame[0] >> 4 {
	case 0: // single frame
		n := int(frame[0])
		if n < 1 || n > len(frame)-1 || !p.fits(ecu, frame, 1+n) {
			p.trouble(Incomplete, text)
			return
		}
		p.message(ecu, frame[1:1+n], text)
	case 1: // first frame
		if len(frame) != 8 {
			p.trouble(Incomplete, text)
			return
		}
		want := int(frame[0]&0x0F)<<8 | int(frame[1])
		if want < 8 {
			p.trouble(Garbage, text)
			return
		}
		if len(p.open) >= maxOpen {
			p.drop(p.open[0].ecu)
		}
		p.drop(ecu) // a first frame while another message is open: that one is lost
		p.open = append(p.open, &assembly{ecu: ecu, data: append([]byte(nil), frame[2:]...), want: want, next: 1, text: text})
	case 2: // consecutive frame
		m := p.find(ecu)
		switch {
		case m == nil:
			p.trouble(Incomplete, text)
		case frame[0]&0x0F != m.next, !p.fits(ecu, frame, 1+min(7, m.want-len(m.data))):
			p.drop(ecu)
		default:
			p.extend(m, frame[1:])
		}
	default: // flow control and beyond are no answers
		p.trouble(Garbage, text)
	}
}

// fits reports whether a frame whose first used bytes count has the length that its ECU
// sends: eight bytes, or as many as it uses (ISO 15765-2, "CAN frame data optimization").
// Any other has lost bytes on its way; so has a short one of an ECU that pads. Of a
// recording, which may be typed, the announced length is enough.
func (p *parser) fits(ecu string, frame []byte, used int) bool {
	switch {
	case p.padded == nil:
		return true
	case len(frame) != 8:
		return len(frame) == used && !p.padded[ecu]
	case used < 8 && len(p.padded) < maxOpen:
		p.padded[ecu] = true
	}
	return true
}

// extend adds a consecutive frame; bytes past the announced length are filler.
func (p *parser) extend(m *assembly, payload []byte) {
	m.data = append(m.data, payload...)
	m.next = (m.next + 1) & 0x0F
	if len(m.data) >= m.want {
		p.message(m.ecu, m.data[:m.want], m.text)
		p.forget(m)
	}
}

func (p *parser) find(ecu string) *assembly {
	for _, m := range p.open {
		if m.ecu == ecu {
			return m
		}
	}
	return nil
}

func (p *parser) forget(m *assembly) {
	if p.loose == m {
		p.loose = nil
		return
	}
	for i := range p.open {
		if p.open[i] == m {
			p.open = append(p.open[:i], p.open[i+1:]...)
			return
		}
	}
}

// drop gives up the open message of an ECU.
func (p *parser) drop(ecu string) {
	if m := p.find(ecu); m != nil {
		p.trouble(Incomplete, m.text)
		p.forget(m)
	}
}

// looseFrame reads the multi-frame form that adapters print with headers off: a
// line with the length in three hex digits, then lines "0:", "1:" and so on. It
// reports whether the line was of that form.
func (p *parser) looseFrame(digits, text string) bool {
	if len(digits) == 3 {
		want, err := strconv.ParseUint(digits, 16, 16)
		if err != nil || want < 8 || want > maxMessage {
			return false
		}
		if p.loose != nil {
			p.trouble(Incomplete, p.loose.text)
		}
		p.loose = &assembly{want: int(want), text: text}
		return true
	}
	if len(digits) < 2 || digits[1] != ':' {
		return false
	}
	p.answer.Frames++
	number, err := strconv.ParseUint(digits[:1], 16, 8)
	payload, bad := hex.DecodeString(digits[2:])
	if err != nil || bad != nil || len(payload) > 7 {
		p.trouble(Garbage, text)
		return true
	}
	switch m := p.loose; {
	case m == nil:
		p.trouble(Incomplete, text)
	case byte(number) != m.next, len(payload) != m.payload() && len(payload) != min(m.payload(), m.want-len(m.data)):
		p.trouble(Incomplete, m.text)
		p.loose = nil
	default:
		p.extend(m, payload)
	}
	return true
}

// payload is how many bytes the next of its frames carries: six the first with headers
// off, seven any other.
func (m *assembly) payload() int {
	if len(m.data) == 0 {
		return 6
	}
	return 7
}

// finish reports messages whose frames did not all come.
func (p *parser) finish() {
	for _, m := range p.open {
		p.trouble(Incomplete, m.text)
	}
	if p.loose != nil {
		p.trouble(Incomplete, p.loose.text)
	}
}
