package sim

import (
	"encoding/hex"
	"strings"
)

// protocol is one of those an ELM327 speaks.
type protocol struct {
	digit byte // in ATSP and ATDPN
	name  string
	bus   busKind
}

type busKind uint8

const (
	j1850PWM busKind = iota
	j1850VPW
	iso9141
	kwp
	can11
	can29
)

var protocols = map[byte]protocol{
	'1': {'1', "SAE J1850 PWM", j1850PWM},
	'2': {'2', "SAE J1850 VPW", j1850VPW},
	'3': {'3', "ISO 9141-2", iso9141},
	'4': {'4', "ISO 14230-4 (KWP 5BAUD)", kwp},
	'5': {'5', "ISO 14230-4 (KWP FAST)", kwp},
	'6': {'6', "ISO 15765-4 (CAN 11/500)", can11},
	'7': {'7', "ISO 15765-4 (CAN 29/500)", can29},
	'8': {'8', "ISO 15765-4 (CAN 11/250)", can11},
	'9': {'9', "ISO 15765-4 (CAN 29/250)", can29},
	'A': {'A', "SAE J1939 (CAN 29/250)", can29},
}

func (p protocol) can() bool   { return p.bus == can11 || p.bus == can29 }
func (p protocol) kLine() bool { return p.bus == iso9141 || p.bus == kwp }

// frame is what the adapter receives at once, and prints as one line.
type frame struct {
	header []byte // as printed, 11 bit identifiers in two bytes
	data   []byte // on CAN all eight bytes, PCI first
	check  byte   // other buses: checksum or CRC behind the data
}

// legacyAddress is an ECU's address on buses other than CAN, and in 29 bit
// identifiers.
func (e *ecu) legacyAddress() byte { return [...]byte{0x10, 0x18, 0x1A, 0x28, 0xE4}[e.number] }

// header is what an ECU's frames begin with when they go to the tester.
func (p protocol) header(e *ecu, length int) []byte {
	switch p.bus {
	case can11:
		if e.far {
			return []byte{0x07, 0xBB}
		}
		return []byte{0x07, 0xE8 + e.number}
	case can29:
		return []byte{0x18, 0xDA, 0xF1, e.legacyAddress()}
	case kwp:
		return []byte{0x80 | byte(length), 0xF1, e.legacyAddress()}
	case j1850PWM:
		return []byte{0x41, 0x6B, e.legacyAddress()}
	default: // VPW and ISO 9141
		return []byte{0x48, 0x6B, e.legacyAddress()}
	}
}

// sender is how the truth log names an ECU: the identifier of its frames, or its
// address.
func (p protocol) sender(e *ecu) string {
	if p.can() {
		return strings.TrimPrefix(strings.ToUpper(hex.EncodeToString(p.header(e, 0))), "0")
	}
	return strings.ToUpper(hex.EncodeToString([]byte{e.legacyAddress()}))
}

// frames cuts a message into frames, on CAN as ISO 15765-2 says.
func (p protocol) frames(e *ecu, data []byte) []frame {
	h := p.header(e, len(data))
	if !p.can() {
		f := frame{header: h, data: data}
		all := append(append([]byte(nil), h...), data...)
		if p.bus == j1850PWM || p.bus == j1850VPW {
			f.check = crcJ1850(all)
		} else {
			f.check = sum(all)
		}
		return []frame{f}
	}
	if len(data) <= 7 {
		return []frame{{header: h, data: e.fill(append([]byte{byte(len(data))}, data...))}}
	}
	first := append([]byte{0x10 | byte(len(data)>>8), byte(len(data))}, data[:6]...)
	frames := []frame{{header: h, data: first}}
	data = data[6:]
	for n := byte(1); len(data) > 0; n++ {
		part := data[:min(7, len(data))]
		data = data[len(part):]
		frames = append(frames, frame{header: h, data: e.fill(append([]byte{0x20 | n&0x0F}, part...))})
	}
	return frames
}

// fill makes a CAN frame's data eight bytes long.
func (e *ecu) fill(b []byte) []byte {
	for len(b) < 8 {
		b = append(b, e.filler)
	}
	return b
}

// sum is the checksum of ISO 9141 and KWP.
func sum(b []byte) byte {
	var s byte
	for _, x := range b {
		s += x
	}
	return s
}

// crcJ1850 is the CRC of SAE J1850: polynomial 1D, begun with FF, inverted.
func crcJ1850(b []byte) byte {
	crc := byte(0xFF)
	for _, x := range b {
		crc ^= x
		for range 8 {
			if crc&0x80 != 0 {
				crc = crc<<1 ^ 0x1D
			} else {
				crc <<= 1
			}
		}
	}
	return ^crc
}

// addressed reports whether a request with this header (of ATSH, right-aligned)
// reaches the ECU; nil is the protocol's own, to all.
func (p protocol) addressed(e *ecu, header *[4]byte) bool {
	if header == nil {
		return e.number != batteryECU
	}
	kind, target, source := header[1], header[2], header[3]
	switch p.bus {
	case can11:
		id := int(target&0x07)<<8 | int(source)
		if e.far {
			return id == farHeader
		}
		return id == 0x7DF && e.number != batteryECU || id == 0x7E0+int(e.number)
	case can29:
		return source == 0xF1 && (kind == 0xDB && target == 0x33 && e.number != batteryECU || kind == 0xDA && target == e.legacyAddress())
	default:
		return source == 0xF1 && (target == 0x6A || target == 0x33 || target == e.legacyAddress())
	}
}

// identifier is a frame's header as a number, for filters.
func (f frame) identifier() uint32 {
	var id uint32
	for _, b := range f.header {
		id = id<<8 | uint32(b)
	}
	return id
}
