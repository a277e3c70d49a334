package obd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A silent car is asked again on its own bus, now and then on all, and the adapter's
// memory is never written to.
func TestSilentCar(t *testing.T) {
	protocol, on := "6", false
	c, l := converse(nil)
	l.answer = func(text string) []string {
		command := strings.TrimSuffix(text, "\r")
		if digit, ok := strings.CutPrefix(command, "ATTP"); ok {
			protocol = strings.Replace(digit, "0", "A0", 1)
		}
		switch {
		case command == "ATDPN":
			return []string{protocol + "\r>"}
		case command == "0100" && on:
			return []string{"7E8064100BE3FA813\r>"}
		case command == "0100":
			return []string{"NO DATA\r>"}
		default:
			return []string{"OK\r>"}
		}
	}
	s := converser(c, l)
	s.headers = true
	for range 3 * searchEvery {
		if err := s.findBus(t.Context(), '6'); !errors.Is(err, errCarSilent) {
			t.Fatal(err)
		}
	}
	searches := 0
	for _, text := range l.written {
		if strings.HasPrefix(text, "ATSP") {
			t.Errorf("%q writes the adapter's memory", text)
		}
		if text == "ATTP0\r" {
			searches++
		}
	}
	if searches != 3 {
		t.Errorf("%d searches in %d attempts", searches, 3*searchEvery)
	}
	on = true
	if err := s.findBus(t.Context(), '6'); err != nil || s.protocol != '6' || s.speaker != "7E8" {
		t.Errorf("%v, protocol %c, %s", err, s.protocol, s.speaker)
	}
}

// Without headers two ECUs cannot be told apart: what comes twice is nobody's value.
func TestTwiceIsNobodys(t *testing.T) {
	c, l := converse(func(string) []string { return []string{"410D30\r410D31\r\r>"} })
	s := converser(c, l)
	_, measured, _, err := s.poll(t.Context(), []byte{0x0D}, func(string) bool { return true })
	if err != nil || len(measured) != 0 {
		t.Errorf("%d measured, %v", len(measured), err)
	}
}

// Where the engine's ECU is known, or may only have missed one question, no other
// speaks for the car; where there is none, the other does.
func TestWhoSpeaks(t *testing.T) {
	const engine, other = "7E8064100BE3FA813\r", "7E906410080080000\r"
	for _, test := range []struct {
		known   string
		answers []string // to the questions
		want    string
		fails   error
	}{
		{"", []string{engine + other}, "7E8", nil},
		{"", []string{other, other + engine}, "7E8", nil},
		{"", []string{other, other, other}, "7E9", nil},
		{"7E8", []string{other, other, other}, "", errCarSilent},
		{"7E9", []string{other, other, other}, "7E9", nil},
		{"", []string{"4100BE3FA813\r"}, "", errLostSettings},
		{"", []string{"NO DATA\r"}, "", errCarSilent},
		{"", []string{"7E8037F0111\r"}, "", errCarSilent},
		{"", []string{"UNABLE TO CONNECT\r"}, "", errCarOff},
		{"", []string{"41F1E84100FFFFFFFFB0\r"}, "", errCarGarbled}, // the checksum is wrong
	} {
		c, l := converse(nil)
		asked := 0
		l.answer = func(text string) []string {
			if text != "0100\r" {
				return []string{"A6\r>"}
			}
			asked++
			return []string{test.answers[asked-1] + ">"}
		}
		s := converser(c, l)
		s.headers, s.known = true, test.known
		err := s.hello(t.Context(), searchLimit)
		if !errors.Is(err, test.fails) || err == nil && s.speaker != test.want {
			t.Errorf("%+v: %v, speaks %q", test, err, s.speaker)
		}
	}
}

// Without headers, on a car with several ECUs: what all say alike counts, what they say
// differently, or only one says of what both have, does not.
func TestSeveralWithoutHeaders(t *testing.T) {
	c, l := converse(nil)
	answers := map[string][]string{
		"0100\r":  {"4100001C0000\r410000080000\r>"}, // 0C, 0D and 0E; 0D
		"ATDPN\r": {"A6\r>"},
	}
	l.answer = func(text string) []string { return answers[text] }
	s := converser(c, l)
	if err := s.hello(t.Context(), searchLimit); err != nil {
		t.Fatal(err)
	}
	pids, _, err := s.discover(t.Context())
	if err != nil || !slices.Equal(pids, []byte{0x0C, 0x0D, 0x0E}) {
		t.Errorf("PIDs %X, %v", pids, err)
	}
	for _, test := range []struct {
		pid    byte
		answer string
		want   int
	}{
		{0x0C, "410C1AF8\r>", 1}, {0x0D, "410D33\r>", 0}, {0x0D, "410D33\r410D34\r>", 0}, {0x0D, "410D33\r410D33\r>", 1}, {0x0C, "410C1AF8\r410C1AF8\r>", 0},
	} {
		request := fmt.Sprintf("01%02X", test.pid)
		answers[request+"\r"] = []string{test.answer}
		if q := s.pidQuery([]byte{test.pid}); s.count.digit(q, 0) != 0 {
			t.Errorf("%s is asked with a count digit", request)
		}
		if _, measured, _, err := s.poll(t.Context(), []byte{test.pid}, func(string) bool { return true }); err != nil || len(measured) != test.want {
			t.Errorf("%q: %d measured, %v", test.answer, len(measured), err)
		}
	}
}
