package obd

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A count digit ends a wait where the number of frames is known, is dropped where the
// adapter does not know it, and is learned where other ECUs answer, too.
func TestCountDigit(t *testing.T) {
	var c counting
	sole := query{text: "010C", frames: 1}
	if d := c.digit(sole, 0); d != 1 {
		t.Errorf("one ECU: %d", d)
	}
	shared := query{text: "010D", frames: 1, others: "0D"}
	for range believed {
		if d := c.digit(shared, 0); d != 0 {
			t.Errorf("two ECUs, not learned: %d", d)
		}
		c.judge(shared, 0, Answer{Frames: 2}, true, 0)
	}
	if d := c.digit(shared, 0); d != 2 {
		t.Errorf("two ECUs, learned: %d", d)
	}
	c.judge(shared, 2, Answer{Frames: 1}, true, 0) // the other ECU fell silent
	if d := c.digit(shared, 0); d != 0 {
		t.Errorf("after the other ECU fell silent: %d", d)
	}
	for range believed {
		c.judge(shared, 0, Answer{Frames: 2}, true, 0)
	}
	// Fewer frames than counted: the adapter's wait ended, the digit did no harm.
	for range 2 * toleratedStrikes {
		c.judge(shared, 2, Answer{Frames: 1}, false, 0)
	}
	if d := c.digit(shared, 0); d != 2 || c.refused {
		t.Errorf("after a PID was left out: %d, refused %v", d, c.refused)
	}
	// Two frames came, but not the wanted one: learned anew.
	c.judge(shared, 2, Answer{Frames: 2}, false, 0)
	if d := c.digit(shared, 0); d != 0 || c.refused {
		t.Errorf("after a strike: %d", d)
	}
	c.judge(sole, 1, Answer{Frames: 1}, true, 0)
	for n := range toleratedStrikes {
		if d := c.digit(sole, 0); d != 1 {
			t.Errorf("refused %d times: %d", n, d)
		}
		c.judge(sole, 1, Answer{Trouble: []Trouble{{Cause: NotUnderstood}}}, false, time.Minute)
	}
	if d := c.digit(sole, 2*time.Minute); d != 0 {
		t.Errorf("refused by the adapter: %d", d)
	}
	if d := c.digit(sole, time.Minute+countAgain); d != 1 {
		t.Errorf("some minutes later: %d", d)
	}
	if d := new(counting).digit(query{frames: 16}, 0); d != 0 {
		t.Errorf("more frames than a digit holds: %d", d)
	}
}

// An answer that comes much later than usual is dropped; what is slow for good becomes
// usual, for each request by itself.
func TestLate(t *testing.T) {
	const fast, slow = 20 * time.Millisecond, 300 * time.Millisecond
	d, now := delays{}, time.Duration(0)
	late := func(kind string, took time.Duration) bool {
		now += 100 * time.Millisecond
		return d.late(kind, took, now)
	}
	for range 20 {
		if late(polls, fast) {
			t.Error("the usual is late")
		}
	}
	if !late(polls, 2*time.Second) {
		t.Error("two seconds are not late")
	}
	if late(polls, 60*time.Millisecond) {
		t.Error("a little more than usual is late")
	}
	// A link that holds back nine of ten does not become the measure of itself.
	for n := range 300 {
		took := slow
		if n%10 == 0 {
			took = fast
		}
		if late(polls, took) != (took == slow) {
			t.Errorf("answer %d after %v", n, took)
		}
	}
	dropped := 0
	for range 100 {
		if late(polls, slow) {
			dropped++
		}
	}
	if dropped < 20 || dropped > 55 {
		t.Errorf("%d of 100 in 10 s dropped before %v was usual", dropped, slow)
	}
	// One ECU is slow at one thing: only its first answer may have been held back.
	d = delays{}
	for n := range 20 {
		now += 10 * time.Second
		if late("220105", slow) != (n == 0) {
			t.Errorf("answer %d of a slow ECU", n)
		}
		if late(polls, fast) {
			t.Error("the fast is late beside the slow")
		}
	}
	// The first answer of all was held back: it sets no measure.
	d = delays{}
	for n, took := range []time.Duration{2 * time.Second, fast, time.Second, fast} {
		if late(polls, took) != (took > lateness) {
			t.Errorf("answer %d after %v", n, took)
		}
	}
}

// An adapter that keeps SEARCHING... to itself until it has an answer, as some on WLAN
// do, is waited for; one that hangs on a known CAN bus is not.
func TestQuietSearch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, l := converse(nil)
		l.answer = func(text string) []string {
			switch text {
			case "0100\r":
				time.AfterFunc(9*time.Second, func() { l.arrive("SEARCHING...\r7E8064100BE3FA813\r\r>") })
				return nil
			case "ATDPN\r":
				return []string{"A6\r>"}
			}
			return []string{"OK\r>"}
		}
		s := converser(c, l)
		s.headers = true
		if err := s.findBus(t.Context(), 0); err != nil || s.speaker != "7E8" || s.protocol != '6' {
			t.Errorf("%v, %s speaks on %c", err, s.speaker, s.protocol)
		}
		l.answer = func(text string) []string {
			return map[string][]string{"0100\r": nil, " ": {">"}, "ATI\r": {"ELM327 v1.5\r>"}, "ATTP6\r": {"OK\r>"}}[text]
		}
		began := time.Now()
		if err := s.findBus(t.Context(), '6'); !errors.Is(err, errCarSilent) || time.Since(began) > 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// An ECU that asks for time gets it, from the second request on; all others are asked
// with the adapter's own timing again.
func TestAsksForTime(t *testing.T) {
	c, l := converse(nil)
	timing := "ATST32 ATAT1"
	l.answer = func(text string) []string {
		command := strings.TrimSuffix(text, "\r")
		switch command {
		case "ATST32", "ATAT1", "ATAT0", "ATSTFF":
			timing = strings.TrimPrefix(timing+" "+command, strings.Fields(timing)[0]+" ")
			return []string{"OK\r>"}
		case "220105":
			if timing == "ATAT0 ATSTFF" {
				return []string{"7EC037F2278\r7EC0462010550\r>"}
			}
			return []string{"7EC037F2278\r>"}
		}
		if timing != "ATST32 ATAT1" {
			t.Errorf("%s under %s", command, timing)
		}
		return []string{"7E803410D33\r>"}
	}
	s := converser(c, l)
	s.headers, s.adaptive, s.protocol = true, true, '6'
	var got []int
	for range 3 {
		for _, text := range []string{"220105", "010D"} {
			a, err := s.exchange(t.Context(), query{text: text}, func(a Answer) bool { return len(a.Messages) > 0 })
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, len(a.Messages))
		}
	}
	if !slices.Equal(got, []int{0, 1, 1, 1, 1, 1}) {
		t.Errorf("messages %v", got)
	}
	if n := c.counters.Read().Trouble[AsksForTime]; n != 3 {
		t.Errorf("counted %d times", n)
	}
	for range quickAgain { // it was only waking up
		l.answer = func(string) []string { return []string{"7EC0462010550\r>"} }
		if _, err := s.exchange(t.Context(), query{text: "220105"}, never); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.slow) > 0 {
		t.Errorf("still slow: %v", s.slow)
	}
}
