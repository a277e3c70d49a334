package obd

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// Bus is how answers look on the wire, by the adapter's protocol digit (ATDPN,
// ELM327 data sheet "OBD Message Formats").
type Bus uint8

// The shapes of an answer. UnknownBus lets every line be judged by its own looks:
// for recordings, and until the protocol is known.
const (
	UnknownBus Bus = iota
	CAN11          // ISO 15765-4, 11-bit id: 7E8 04 41 0C 1A F8
	CAN29          // ISO 15765-4, 29-bit id: 18 DA F1 10 04 41 0C 1A F8
	J1850          // PWM and VPW: 48 6B 10 41 0C 1A F8 CRC
	KLine          // ISO 9141-2 and KWP2000: 48 6B 10 41 0C 1A F8 sum
)

// busOf maps a protocol digit as ATDPN prints it, without the leading A.
func busOf(protocol byte) Bus {
	switch protocol {
	case '1', '2':
		return J1850
	case '3', '4', '5':
		return KLine
	case '6', '8':
		return CAN11
	case '7', '9':
		return CAN29
	default:
		return UnknownBus
	}
}

func (b Bus) isCAN() bool { return b == CAN11 || b == CAN29 }

// Message is one whole answer of one ECU.
type Message struct {
	ECU     string        // "7E8", "18DAF110", "10"; empty with headers off
	Data    []byte        // from the service byte on: 41 0C 1A F8
	Arrived time.Duration // of its last byte, where the session knows it

	end int // of its last line, in the bytes of the answer
}

// Cause says why bytes gave no message; it is a label for counters.
type Cause string

// The causes. The first group are texts of the adapter, those of STN chips among them
// (STN1100 family reference and programming manual, "Error Messages").
const (
	NoData          Cause = "no_data"
	UnableToConnect Cause = "unable_to_connect"
	BusInitError    Cause = "bus_init_error"
	BusTrouble      Cause = "bus_error" // BUS BUSY, BUS ERROR, CAN ERROR, FB ERROR
	DataError       Cause = "data_error"
	BufferFull      Cause = "buffer_full"
	Stopped         Cause = "stopped"
	NotUnderstood   Cause = "not_understood" // ?
	Restarted       Cause = "restarted"      // LV RESET, ERRnn, a banner
	Alert           Cause = "alert"          // ACT ALERT, LP ALERT

	Negative    Cause = "negative_response" // 7F: the ECU refuses
	AsksForTime Cause = "response_pending"  // 7F xx 78: the ECU still works on it
	Garbage     Cause = "garbage"           // no line of any known shape
	Checksum    Cause = "checksum"
	Incomplete  Cause = "incomplete" // a multi-frame message with a missing or misplaced frame
	WrongShape  Cause = "wrong_shape"
	Misplaced   Cause = "misplaced" // answers another request
	Late        Cause = "late"      // held back on its way: when it was measured is not known
	NoPrompt    Cause = "no_prompt"

	// What costs nothing by itself, but tells something of adapter, wire or car.
	Echo        Cause = "echo"         // of a request, although it was switched off
	Junk        Cause = "junk"         // NUL and bytes outside ASCII
	Progress    Cause = "bus_opened"   // SEARCHING..., BUS INIT: ...OK
	OtherECU    Cause = "other_ecu"    // an answer of another ECU than the wanted
	SparePrompt Cause = "spare_prompt" // a prompt with nothing before it
)

// Trouble is a line that gave no message, and why.
type Trouble struct {
	Cause Cause
	Text  string
	ECU   string // of a Negative or AsksForTime
	Code  byte   // of these (ISO 14229-1, negative response code)
}

func (t Trouble) String() string { return fmt.Sprintf("%s: %q", t.Cause, t.Text) }

// Answer is all that came between a request and the prompt.
type Answer struct {
	Messages []Message
	Trouble  []Trouble
	Noticed  []Cause  // what cost nothing
	Lines    []string // the lines as they came, echo removed: for AT commands
	Frames   int      // lines that carry bytes of a car, whatever they are worth

	late bool // a message was taken out because nobody knows when it was measured
}

// Has reports whether a line was refused for this cause.
func (a Answer) Has(c Cause) bool {
	for _, t := range a.Trouble {
		if t.Cause == c {
			return true
		}
	}
	return false
}

// texts maps what an adapter says to its cause, matched from the start of a line,
// a longer text before its own beginning.
var texts = []struct {
	text  string
	cause Cause
}{
	{"NO DATA", NoData}, {"UNABLE TO CONNECT", UnableToConnect}, {"ERROR", BusInitError},
	{"BUS BUSY", BusTrouble}, {"BUS ERROR", BusTrouble}, {"CAN ERROR", BusTrouble}, {"FB ERROR", BusTrouble},
	{"DATA ERROR", DataError}, {"<DATA ERROR", DataError}, {"<RX ERROR", DataError}, {"RX ERROR", DataError},
	{"BUFFER FULL", BufferFull}, {"OUT OF MEMORY", BufferFull}, {"FC RX TIMEOUT", BusTrouble}, {"UART RX OVERFLOW", DataError}, {"STOPPED", Stopped}, {"?", NotUnderstood},
	{"LV RESET", Restarted}, {"ERR", Restarted}, {"ELM327", Restarted}, {"ELM329", Restarted},
	{"ACT ALERT", Alert}, {"!ACT ALERT", Alert}, {"LP ALERT", Alert}, {"!LP ALERT", Alert},
}

// textCause finds the cause of a line of words; lines of hex have none.
func textCause(line string) (Cause, bool) {
	for _, t := range texts {
		if strings.HasPrefix(line, t.text) {
			return t.cause, true
		}
	}
	// An error may follow the bytes it spoils: "41 0C 1A <DATA ERROR".
	for _, mark := range []string{"<DATA ERROR", "<RX ERROR", "DATA ERROR", "BUS ERROR", "CAN ERROR", "BUFFER FULL", "FC RX TIMEOUT", "OUT OF MEMORY", "STOPPED"} {
		if strings.Contains(line, mark) {
			c, _ := textCause(mark)
			return c, true
		}
	}
	return "", false
}

// parseAnswer judges what arrived up to a prompt. request is what was sent, to
// know its echo; bus is the shape to expect. Only complete and verified messages
// become Messages, all else is Trouble.
func parseAnswer(raw []byte, request string, bus Bus) Answer { return parse(raw, request, bus, nil) }

// parse is parseAnswer with what is known of the ECUs: padded are those that fill
// their CAN frames, and is added to.
func parse(raw []byte, request string, bus Bus, padded map[string]bool) Answer {
	var a Answer
	p := parser{bus: bus, answer: &a, padded: padded}
	for line, end := range lines(raw) {
		if request != "" && isEcho(line, request) {
			a.Noticed = append(a.Noticed, Echo)
			continue
		}
		a.Lines = append(a.Lines, line)
		p.end = end
		p.line(line)
	}
	p.finish()
	if slices.ContainsFunc(raw, isJunk) {
		a.Noticed = append(a.Noticed, Junk)
	}
	return a
}

func isJunk(c byte) bool { return (c < ' ' || c > '~') && c != '\r' && c != '\n' }

// lines yields the printable lines of raw and where each ends: split at CR, LF and
// prompt, whatever ATL says; NUL and bytes outside ASCII may stand anywhere and are
// left out.
func lines(raw []byte) iter.Seq2[string, int] {
	return func(yield func(string, int) bool) {
		for begin := 0; begin < len(raw); {
			end := begin + bytes.IndexAny(raw[begin:], "\r\n>")
			if end < begin {
				end = len(raw)
			}
			clean := make([]byte, 0, end-begin)
			for _, c := range raw[begin:end] {
				if c >= ' ' && c <= '~' {
					clean = append(clean, c)
				}
			}
			if line := strings.ToUpper(strings.TrimSpace(string(clean))); line != "" && !yield(line, end) {
				return
			}
			begin = end + 1
		}
	}
}

func isEcho(line, request string) bool {
	return strings.ReplaceAll(line, " ", "") == strings.ToUpper(strings.ReplaceAll(request, " ", ""))
}

// cutProgress removes what an adapter prints while it looks for the bus, in front
// of the answer itself.
func cutProgress(line string) string {
	for {
		before := line
		line = strings.TrimLeft(strings.TrimPrefix(line, "SEARCHING"), ". ")
		if rest, ok := strings.CutPrefix(line, "BUS INIT:"); ok {
			line = strings.TrimPrefix(strings.TrimLeft(rest, ". "), "OK")
			line = strings.TrimLeft(line, " ")
		}
		if line == before {
			return line
		}
	}
}

// parser turns lines into messages.
type parser struct {
	bus    Bus
	answer *Answer
	open   []*assembly // multi-frame messages under way, one an ECU
	loose  *assembly   // the same with headers off
	padded map[string]bool
	end    int // of the line at hand
}

// assembly is an ISO 15765-2 message of which frames are still to come.
type assembly struct {
	ecu  string
	data []byte
	want int
	next byte // sequence number of the next frame, modulo 16
	text string
}

// maxMessage is the length of the longest ISO 15765-2 message.
const maxMessage = 4095

func (p *parser) trouble(c Cause, text string) {
	p.answer.Trouble = append(p.answer.Trouble, Trouble{Cause: c, Text: text})
}

// message accepts one whole message.
func (p *parser) message(ecu string, data []byte, text string) {
	switch {
	case len(data) >= 3 && data[0] == 0x7F:
		cause := Negative
		if data[2] == responsePending {
			cause = AsksForTime
		}
		p.answer.Trouble = append(p.answer.Trouble, Trouble{Cause: cause, Text: text, ECU: ecu, Code: data[2]})
	case len(data) >= 1 && isResponse(data[0]):
		p.answer.Messages = append(p.answer.Messages, Message{ECU: ecu, Data: data, end: p.end})
	default:
		p.trouble(Garbage, text)
	}
}

// isResponse reports whether a service byte is that of a positive answer to modes
// 01 to 0A (SAE J1979), 21 or 22 (ISO 14230-3, ISO 14229-1).
func isResponse(service byte) bool {
	return service >= 0x41 && service <= 0x4A || service == 0x61 || service == 0x62
}

// responsePending is the negative response code of an ECU that still works on it
// (ISO 14229-1, requestCorrectlyReceived-ResponsePending).
const responsePending = 0x78

func (p *parser) line(text string) {
	line := cutProgress(text)
	if line != text {
		p.answer.Noticed = append(p.answer.Noticed, Progress)
	}
	if line == "" {
		return // only progress
	}
	if c, ok := textCause(line); ok {
		p.trouble(c, text)
		return
	}
	digits := strings.ReplaceAll(line, " ", "")
	if p.looseFrame(digits, text) {
		return
	}
	if strings.IndexFunc(digits, notHex) >= 0 {
		p.trouble(Garbage, text)
		return
	}
	p.answer.Frames++
	bus := p.bus
	if bus == UnknownBus {
		bus = guess(digits)
	}
	switch bus {
	case CAN11:
		p.canFrame(digits, 3, text)
	case CAN29:
		p.canFrame(digits, 8, text)
	case J1850, KLine:
		p.legacyFrame(digits, bus, text)
	default:
		if data, err := hex.DecodeString(digits); err == nil {
			p.message("", data, text)
			return
		}
		p.trouble(Garbage, text)
	}
}

func notHex(r rune) bool { return (r < '0' || r > '9') && (r < 'A' || r > 'F') }

// guess judges a line by its looks. UnknownBus means headers are off.
func guess(digits string) Bus {
	if len(digits)%2 == 1 {
		return CAN11
	}
	data, err := hex.DecodeString(digits)
	if err != nil {
		return UnknownBus
	}
	if strings.HasPrefix(digits, "18DAF1") || strings.HasPrefix(digits, "18DB33F1") {
		return CAN29
	}
	// A legacy line shows itself by its checksum: `41 6B ...` (PWM) and `48 6B ...`
	// begin like answers without headers.
	if len(data) >= 5 && legacyService(data) {
		switch last := data[len(data)-1]; last {
		case crcJ1850(data[:len(data)-1]):
			return J1850
		case sum(data[:len(data)-1]):
			return KLine
		}
	}
	return UnknownBus
}

// legacyService reports whether a service byte of an answer follows three header bytes.
func legacyService(data []byte) bool {
	return isResponse(data[3]) || data[3] == 0x7F
}

// legacyFrame reads three header bytes, data and a checksum.
func (p *parser) legacyFrame(digits string, bus Bus, text string) {
	data, err := hex.DecodeString(digits)
	if err != nil || len(data) < 5 {
		p.trouble(Garbage, text)
		return
	}
	body, last := data[:len(data)-1], data[len(data)-1]
	if bus == J1850 && crcJ1850(body) != last || bus == KLine && sum(body) != last {
		p.trouble(Checksum, text)
		return
	}
	p.message(fmt.Sprintf("%02X", data[2]), body[3:], text)
}

// sum is the checksum of ISO 9141-2 and ISO 14230-2.
func sum(data []byte) byte {
	var s byte
	for _, b := range data {
		s += b
	}
	return s
}

// crcJ1850 is the CRC of SAE J1850: polynomial 1D, start FF, inverted.
func crcJ1850(data []byte) byte {
	crc := byte(0xFF)
	for _, b := range data {
		crc ^= b
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
