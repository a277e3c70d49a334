package obd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryd/internal/port"
)

// line is a wire whose other end is a function: what it returns for a text that was
// written arrives, one chunk each.
type line struct {
	chunks  chan port.Chunk
	written []string
	answer  func(text string) []string
	began   time.Time
}

func newLine(answer func(string) []string) *line {
	return &line{chunks: make(chan port.Chunk, 100), answer: answer, began: time.Now()}
}

func (l *line) SetBaud(int) error { return nil }

func (l *line) Receive(ctx context.Context, timeout time.Duration) (port.Chunk, error) {
	// As the port does it: what is there comes first, the end of the line too.
	select {
	case c, ok := <-l.chunks:
		return received(c, ok)
	default:
	}
	if timeout <= 0 {
		return port.Chunk{}, nil
	}
	select {
	case c, ok := <-l.chunks:
		return received(c, ok)
	case <-time.After(timeout):
		return port.Chunk{}, nil
	case <-ctx.Done():
		return port.Chunk{}, ctx.Err()
	}
}

func received(c port.Chunk, ok bool) (port.Chunk, error) {
	if !ok {
		return port.Chunk{}, io.EOF
	}
	return c, nil
}

func (l *line) Write(b []byte, _ time.Duration) error {
	l.written = append(l.written, string(b))
	for _, c := range l.answer(string(b)) {
		l.arrive(c)
	}
	return nil
}

func (l *line) arrive(text string) {
	l.chunks <- port.Chunk{Data: []byte(text), Arrived: time.Since(l.began)}
}

func converse(answer func(string) []string) (*conversation, *line) {
	l := newLine(answer)
	return &conversation{wire: l, counters: new(Counters)}, l
}

// converser is a session without a ceiling.
func converser(c *conversation, l *line) *session {
	return newSession(l, c.counters, func() time.Duration { return time.Since(l.began) }, newPacer(0))
}

// However the bytes are cut into chunks, the answer is what stands before the prompt.
func TestAnswerInAnyChunks(t *testing.T) {
	whole := "41 0C 1A F8\r\r>"
	for at := range whole {
		c, _ := converse(func(string) []string { return []string{whole[:at], whole[at:]} })
		if r, err := c.ask(t.Context(), "010C", time.Second); err != nil || strings.TrimSpace(string(r.raw)) != "41 0C 1A F8" {
			t.Errorf("cut at %d: %q, %v", at, r.raw, err)
		}
	}
}

// A reading is stamped when its last byte arrived, not when the prompt did.
func TestArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, l := converse(func(string) []string { return nil })
		go func() {
			time.Sleep(30 * time.Millisecond)
			l.arrive("41 0D")
			time.Sleep(10 * time.Millisecond)
			l.arrive(" 33")
			time.Sleep(200 * time.Millisecond)
			l.arrive("\r\r>")
		}()
		if r, err := c.ask(t.Context(), "010D", time.Second); err != nil || r.arrived != 40*time.Millisecond {
			t.Errorf("arrived %v, %v", r.arrived, err)
		}
	})
}

// What lay on the line before a request answers nothing.
func TestStrayBytes(t *testing.T) {
	c, l := converse(func(string) []string { return []string{"41 0D 33\r>"} })
	l.arrive("41 0D 99\r>")
	if r, err := c.ask(t.Context(), "010D", time.Second); err != nil || strings.Contains(string(r.raw), "99") {
		t.Errorf("%q, %v", r.raw, err)
	}
	if n := c.counters.Read().StrayBytes; n != 10 {
		t.Errorf("%d stray bytes", n)
	}
}

// After a missed prompt the late answer is thrown away and the next answer belongs to
// the next request.
func TestResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, l := converse(nil)
		l.answer = func(text string) []string {
			switch text {
			case "010C\r":
				return nil // hangs
			case " ":
				return []string{"41 0C 1A F8\r", "STOPPED\r>"}
			case "ATI\r":
				return []string{"ELM327 v1.5\r", "\r>"}
			default:
				return []string{"41 0D 33\r>"}
			}
		}
		s := converser(c, l)
		if a, _, err := s.exchange(t.Context(), query{text: "010C"}, never); err != nil || len(a.Messages) != 0 {
			t.Errorf("%v, %v", a, err)
		}
		a, _, err := s.exchange(t.Context(), query{text: "010D"}, never)
		if err != nil || len(a.Messages) != 1 || a.Messages[0].Data[1] != 0x0D {
			t.Errorf("%v, %v", a, err)
		}
		if want := []string{"010C\r", " ", "ATI\r", "010D\r"}; !slices.Equal(l.written, want) {
			t.Errorf("written %q, want %q", l.written, want)
		}
	})
}

func TestConversationEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, l := converse(func(string) []string { return nil })
		if _, err := c.ask(t.Context(), "010C", time.Second); !errors.Is(err, errTimeout) {
			t.Errorf("silent: %v", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if _, err := c.ask(ctx, "010C", time.Second); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		l.answer = func(string) []string { return slices.Repeat([]string{strings.Repeat("0", 4096)}, 20) }
		if _, err := c.ask(t.Context(), "ATMA", time.Hour); !errors.Is(err, errTimeout) {
			t.Errorf("flood: %v", err)
		}
		l.chunks = make(chan port.Chunk)
		close(l.chunks)
		if _, err := c.ask(t.Context(), "010C", time.Second); !errors.Is(err, io.EOF) {
			t.Errorf("gone: %v", err)
		}
	})
}

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
			a, _, err := s.exchange(t.Context(), query{text: text}, func(a Answer) bool { return len(a.Messages) > 0 })
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
		if _, _, err := s.exchange(t.Context(), query{text: "220105"}, never); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.slow) > 0 {
		t.Errorf("still slow: %v", s.slow)
	}
}

// Bytes lost within a line make no value: a frame has eight bytes, or those that it
// uses, and always the same of one ECU.
func TestLostBytes(t *testing.T) {
	var lines []string
	c, l := converse(nil)
	l.answer = func(string) []string { return []string{strings.Join(lines, "\r") + "\r\r>"} }
	s := converser(c, l)
	s.headers, s.protocol, s.speaker = true, '6', "7E8"
	for _, test := range []struct {
		pids  string
		lines []string
		want  int
	}{
		{"0C", []string{"7E804410C1AF8"}, 1},
		{"0C", []string{"7E804410CF8AAAAAA"}, 0},
		{"0C", []string{"7E804410C1AF8AAAAAA"}, 1}, // it fills its frames
		{"0C", []string{"7E804410CF8AA"}, 0},       // which by itself would be whole
		{"0D", []string{"7E803410DAAAAAAAA"}, 0},
		{"0D0C05", []string{"7E81008410D33057B0C", "7E8211AF8AAAAAAAAAA"}, 3},
		{"0D0C05", []string{"7E81008410D330550", "7E8211AF8AAAAAAAAAA"}, 0},
		{"0D0C05", []string{"7E81008410D33057B0C", "7E821F8AAAAAAAAAA"}, 0},
	} {
		lines = test.lines
		_, measured, _, err := s.poll(t.Context(), unhex(test.pids), func(string) bool { return true })
		if err != nil || len(measured) != test.want {
			t.Errorf("%v: %d measured, want %d, %v", test.lines, len(measured), test.want, err)
		}
	}
}

// A reading is stamped with the last byte of its own answer, whatever other ECUs send
// behind it.
func TestArrivalOfItsOwnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, l := converse(nil)
		l.answer = func(string) []string {
			go func() {
				time.Sleep(20 * time.Millisecond)
				l.arrive("7E803410D33\r")
				time.Sleep(400 * time.Millisecond)
				l.arrive("7E903410D34\r")
				time.Sleep(200 * time.Millisecond)
				l.arrive("\r>")
			}()
			return nil
		}
		s := converser(c, l)
		s.headers, s.protocol, s.speaker, s.ecus = true, '6', "7E8", []string{"7E8", "7E9"}
		for range 3 {
			began := time.Since(l.began)
			r, measured, _, err := s.poll(t.Context(), []byte{0x0D}, func(string) bool { return true })
			if err != nil || len(measured) != 1 || r.Arrived != began+20*time.Millisecond {
				t.Errorf("stamped %v behind the request, %d measured, %v", r.Arrived-began, len(measured), err)
			}
		}
	})
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
