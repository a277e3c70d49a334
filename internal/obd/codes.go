package obd

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Kind says what a trouble code is to the ECU that reports it (SAE J1979).
type Kind string

// The kinds, by the service that reads them.
const (
	Stored    Kind = "stored"    // mode 03: confirmed, lights the lamp
	Pending   Kind = "pending"   // mode 07: seen in this drive or the last
	Permanent Kind = "permanent" // mode 0A: stays until the ECU has seen it mended
)

// codeModes are the services that read trouble codes.
var codeModes = map[byte]Kind{0x03: Stored, 0x07: Pending, 0x0A: Permanent}

// troubleCode spells the two bytes of a code: 03 01 is P0301 (SAE J2012).
func troubleCode(a, b byte) string {
	return fmt.Sprintf("%c%d%X%02X", "PCBU"[a>>6], a>>4&0x03, a&0x0F, b)
}

// troubleCodes reads the codes of a whole answer to mode 03, 07 or 0A. On CAN a
// count comes first; elsewhere each message holds three, the last filled with zeros.
// An answer whose length does not fit is no answer.
func troubleCodes(data []byte, mode byte, can bool) (codes []string, ok bool) {
	if len(data) < 1 || data[0] != mode|0x40 {
		return nil, false
	}
	rest := data[1:]
	if can {
		if len(rest) < 1 || len(rest) != 1+2*int(rest[0]) {
			return nil, false
		}
		rest = rest[1:]
	}
	if len(rest)%2 != 0 {
		return nil, false
	}
	codes = []string{}
	for pair := range slices.Chunk(rest, 2) {
		if pair[0] != 0 || pair[1] != 0 {
			codes = append(codes, troubleCode(pair[0], pair[1]))
		}
	}
	return codes, true
}

// place is a list of trouble codes: an ECU's, of one kind.
type place struct {
	kind Kind
	ecu  string
}

// codeBook knows which trouble codes stand where, since this process reads them.
type codeBook struct {
	known  map[place][]string
	doubts map[place][]string // codes that were not there the last time
}

// codeChange is a trouble code that appeared or went.
type codeChange struct {
	place
	code      string
	gone      bool
	firstRead bool // it may have been there before this process
}

// learn takes the codes that now stand at a place and returns what changed. A code is
// gone when it was missing twice in a row: a message may be lost without a trace.
// unsure asks for the second reading.
func (b *codeBook) learn(p place, codes []string) (changes []codeChange, unsure bool) {
	before, known := b.known[p]
	for _, c := range codes {
		if !slices.Contains(before, c) {
			changes = append(changes, codeChange{place: p, code: c, firstRead: !known})
		}
	}
	var doubts []string
	codes = slices.Clone(codes)
	for _, c := range before {
		switch {
		case slices.Contains(codes, c):
		case slices.Contains(b.doubts[p], c):
			changes = append(changes, codeChange{place: p, code: c, gone: true})
		default:
			doubts = append(doubts, c)
			codes = append(codes, c)
		}
	}
	if b.known == nil {
		b.known, b.doubts = map[place][]string{}, map[place][]string{}
	}
	slices.Sort(codes)
	b.known[p], b.doubts[p] = slices.Compact(codes), doubts
	return changes, len(doubts) > 0
}

// damaged reports whether a part of an answer may be lost: what is not in it may have
// been.
func damaged(a Answer) bool {
	return slices.ContainsFunc(a.Trouble, func(t Trouble) bool { return t.Cause != Negative && t.Cause != AsksForTime && t.Cause != NoData })
}

// codesOf collects the codes of each ECU that answered to mode; where ECUs send
// several messages their codes are put together.
func codesOf(a Answer, mode byte, can bool) map[string][]string {
	found := map[string][]string{}
	for _, m := range a.Messages {
		if codes, ok := troubleCodes(m.Data, mode, can); ok {
			found[m.ECU] = append(found[m.ECU], codes...)
		}
	}
	return found
}

// vinPattern is a vehicle identification number (ISO 3779: no I, O and Q), or the
// shorter chassis number of cars for markets without it.
var vinPattern = regexp.MustCompile(`^([A-HJ-NPR-Z0-9]{17}|[A-Z0-9-]{9,16})$`)

// vehicleText is a text of mode 09: VIN (02), calibration ids (04), ECU name (0A).
// Texts are padded with NUL, on some cars in front. It is empty when the messages do
// not hold it whole.
func vehicleText(messages []Message, ecu string, info byte, can bool) []string {
	var body []byte
	next := byte(1)
	for _, m := range messages {
		if m.ECU != ecu || len(m.Data) < 3 || m.Data[0] != 0x49 || m.Data[1] != info {
			continue
		}
		if can {
			body = m.Data[3:] // behind the number of items
			break
		}
		if m.Data[2] != next {
			return nil // numbered messages, and one is missing
		}
		body = append(body, m.Data[3:]...)
		next++
	}
	size := map[byte]int{0x02: 17, 0x04: 16, 0x0A: 20}[info]
	if info == 0x02 && len(body) > size { // three NUL in front fill five messages
		body = body[len(body)-size:]
	}
	if len(body) < size {
		return nil
	}
	if info == 0x02 && !vinPattern.Match(bytes.Trim(body, "\x00 ")) {
		return nil
	}
	var texts []string
	for part := range slices.Chunk(body, size) {
		text := strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return -1
			}
			return r
		}, strings.ReplaceAll(string(part), "\x00", ""))
		if text = strings.TrimSpace(text); text != "" {
			texts = append(texts, text)
		}
	}
	return texts
}
