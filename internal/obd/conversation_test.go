package obd

import (
	"context"
	"errors"
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
		if a, err := s.exchange(t.Context(), query{text: "010C"}, never); err != nil || len(a.Messages) != 0 {
			t.Errorf("%v, %v", a, err)
		}
		a, err := s.exchange(t.Context(), query{text: "010D"}, never)
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
