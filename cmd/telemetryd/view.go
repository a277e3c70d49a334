package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"

	"telemetryd/internal/telemetry"
)

// view shows messages from the broker: a live table in a terminal, one line a sample
// elsewhere. Log lines written to it stand above the table.
type view struct {
	out io.Writer
	tty bool

	mu       sync.Mutex
	latest   map[string]string
	t        string
	batches  int
	samples  int
	messages []string // the last lines that are no samples
	drawn    int      // lines of the table on the screen
}

func newView(out io.Writer) *view {
	f, ok := out.(*os.File)
	return &view{out: out, tty: ok && term.IsTerminal(int(f.Fd())), latest: map[string]string{}}
}

// Write takes log lines.
func (v *view) Write(line []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note(strings.TrimRight(string(line), "\n"))
	return len(line), nil
}

// message takes one message as it came from the broker.
func (v *view) message(topic string, payload []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	kind := topic[strings.LastIndexByte(topic, '/')+1:]
	if kind != "telemetry" && kind != "backfill" {
		var m struct{ Type, State string }
		if err := json.Unmarshal(payload, &m); err == nil {
			v.note(kind + " " + m.Type + m.State)
		}
		return
	}
	var batch struct{ Samples []json.RawMessage }
	if err := json.Unmarshal(payload, &batch); err != nil {
		v.note(fmt.Sprintf("%s: %v", topic, err))
		return
	}
	v.batches++
	for _, sample := range batch.Samples {
		v.samples++
		v.sample(sample)
	}
	if v.tty {
		v.draw()
	}
}

// sample notes the fields of a sample, or prints them in their order.
func (v *view) sample(sample []byte) {
	d := json.NewDecoder(bytes.NewReader(sample))
	d.UseNumber()
	var fields []string
	if _, err := d.Token(); err != nil {
		return
	}
	for d.More() {
		name, _ := d.Token()
		value, err := d.Token()
		if err != nil {
			return
		}
		if name == "t" {
			v.t = fmt.Sprint(value)
			continue
		}
		fields = append(fields, fmt.Sprintf("%v=%v", name, value))
		v.latest[fmt.Sprint(name)] = fmt.Sprint(value)
	}
	if !v.tty {
		fmt.Fprintln(v.out, v.t, strings.Join(fields, " "))
	}
}

const notesShown = 5

func (v *view) note(line string) {
	if !v.tty {
		fmt.Fprintln(v.out, line)
		return
	}
	v.messages = append(v.messages, line)
	if len(v.messages) > notesShown {
		v.messages = v.messages[1:]
	}
	v.draw()
}

// draw puts the table where it stood before.
func (v *view) draw() {
	var b strings.Builder
	if v.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", v.drawn)
	}
	lines := 0
	add := func(format string, args ...any) {
		fmt.Fprintf(&b, format+"\n", args...)
		lines++
	}
	add("%d samples in %d batches from the broker, newest %s   (Ctrl-C ends)", v.samples, v.batches, v.t)
	for _, s := range telemetry.Signals() {
		if value, ok := v.latest[s.Name]; ok {
			add("  %-34s %12s %s", s.Name, value, s.Unit)
		}
	}
	for _, m := range v.messages {
		add("%.100s", m)
	}
	v.drawn = lines
	_, _ = io.WriteString(v.out, b.String())
}
