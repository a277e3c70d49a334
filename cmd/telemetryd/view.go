package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/term"

	"telemetryd/internal/telemetry"
	"telemetryd/ledger"
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
	above    string   // a line above the table; empty for none
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
func (v *view) message(topic string, payload []byte, _ bool) {
	m, err := ledger.Parse(payload)
	v.show(topic, m, err, "")
}

// show takes a message, or why it is none, and a line to put above the table.
func (v *view) show(topic string, m ledger.Message, err error, above string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.above = above
	switch {
	case err != nil:
		v.note(fmt.Sprintf("%s: %v", topic, err))
		return
	case m.Samples == nil:
		v.note(topic[strings.LastIndexByte(topic, '/')+1:] + " " + m.Type + m.State)
		return
	}
	v.batches++
	for _, sample := range m.Samples {
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

// columnWidth is the width of a signal with its value and unit.
const columnWidth = 54

// draw puts the table where it stood before, in as many columns as the window has
// room for; what does not fit is counted.
func (v *view) draw() {
	width, height := 80, 24
	if f, ok := v.out.(*os.File); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
			width, height = w, h
		}
	}
	lines := []string{fmt.Sprintf("%d samples in %d batches from the broker, newest %s   (Ctrl-C ends)", v.samples, v.batches, v.t)}
	if v.above != "" {
		lines = append(lines, v.above)
	}
	lines = append(lines, v.table(width, height-len(v.messages)-len(lines)-3)...)
	lines = append(lines, v.messages...)

	var b strings.Builder
	if v.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", v.drawn)
	}
	for _, line := range lines {
		line = strings.Map(visible, line)
		if r := []rune(line); len(r) >= width { // a wrapped line would be two
			line = string(r[:width-1])
		}
		fmt.Fprintln(&b, line)
	}
	v.drawn = len(lines)
	_, _ = io.WriteString(v.out, b.String())
}

// visible replaces what would move the cursor: anybody may have written to the broker.
func visible(r rune) rune {
	if unicode.IsControl(r) {
		return '?'
	}
	return r
}

// table sets the newest values in columns, down before across.
func (v *view) table(width, height int) []string {
	var cells []string
	for _, s := range telemetry.Signals() {
		if value, ok := v.latest[s.Name]; ok {
			cells = append(cells, fmt.Sprintf("  %-32s %12s %-5s", s.Name, value, s.Unit))
		}
	}
	columns := max(1, width/columnWidth)
	rows := min((len(cells)+columns-1)/columns, max(1, height))
	lines := make([]string, rows)
	for i, cell := range cells[:min(len(cells), rows*columns)] {
		lines[i%rows] += cell
	}
	if hidden := len(cells) - rows*columns; hidden > 0 {
		lines = append(lines, fmt.Sprintf("  and %d more: a larger window shows them", hidden))
	}
	return lines
}
