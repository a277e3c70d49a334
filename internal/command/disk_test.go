package command

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The audit log tells each state, and neither payloads, nor output, nor secrets.
func TestAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := startIn(t, dir, func(c *Config) {
			c.Allow["say"] = rule(t, map[string]Arg{"a": {Pattern: ".*"}, "pin": {Pattern: ".*", Secret: true}}, "echo", "{a}", "{pin}")
		})
		if said := r.send(`{"id":"1","command":"say","args":{"a":"hello","pin":"hunter2"}}`); short(said) != "accepted say, done say" || said[1].Output.(map[string]any)["output"] != "hello hunter2\n" {
			t.Errorf("%+v", said)
		}
		r.send(`{"id":"2","command":"say","args":{"a":"hunter3"}}`)
		r.send("hunter4 is no name")
		r.stop()
		lines := append(auditLines(t, dir, "audit.log"), auditLines(t, dir, "refused.log")...)
		var states []State
		for _, l := range lines {
			states = append(states, l.State)
			if at, err := time.Parse(time.RFC3339, l.T); err != nil || at.IsZero() || !l.Known {
				t.Errorf("%+v", l)
			}
		}
		if !slices.Equal(states, []State{Accepted, Done, Refused, Refused}) || lines[0].Args["a"] != "hello" || lines[0].Args["pin"] != "***" || lines[0].Topic != r.Base {
			t.Errorf("%+v", lines)
		}
		for _, name := range []string{"audit.log", "refused.log", "ids"} {
			if content := string(must(os.ReadFile(filepath.Join(dir, name)))); strings.Contains(content, "hunter") {
				t.Errorf("%s: %s", name, content)
			}
		}
	})
}

// However much is written, two files are left, of whole lines, the newest last.
func TestAuditIsBounded(t *testing.T) {
	dir := t.TempDir()
	var health conditions
	a := &audit{dir: dir, name: "audit.log", source: "command_log", health: &health}
	const n = 5000
	for i := range n {
		a.write(auditLine{ID: fmt.Sprint(i), Reason: strings.Repeat("x", 256), State: Refused})
		if i%1000 == 7 { // a restart
			a.close()
			a = &audit{dir: dir, name: "audit.log", source: "command_log", health: &health}
		}
	}
	a.close()
	lines := append(auditLines(t, dir, "audit.log.1"), auditLines(t, dir, "audit.log")...)
	for i, l := range lines {
		if l.ID != fmt.Sprint(n-len(lines)+i) {
			t.Fatalf("line %d of %d is of %s", i, len(lines), l.ID)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("%v %v", files, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Size() > mostLog || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", f.Name(), info, err)
		}
	}
	// A line that a power cut shortened spoils no other.
	file, err := os.OpenFile(filepath.Join(dir, "audit.log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(`{"t":"20`); err != nil {
		t.Fatal(err)
	}
	file.Close()
	a = &audit{dir: dir, name: "audit.log", source: "command_log", health: &health}
	a.write(auditLine{ID: "after", State: Done})
	a.close()
	content := string(must(os.ReadFile(filepath.Join(dir, "audit.log"))))
	var last auditLine
	if err := json.Unmarshal([]byte(content[strings.LastIndex(content[:len(content)-1], "\n")+1:]), &last); err != nil || last.ID != "after" {
		t.Errorf("%v: %s", err, content[len(content)-200:])
	}
}

// A disk that fails stops no command, and is told; afterwards ids are kept again, those of
// the meantime too.
func TestFailingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "commands")
		if err := os.WriteFile(dir, nil, 0o600); err != nil { // where the directory has to be
			t.Fatal(err)
		}
		r := startIn(t, dir, nil)
		if said := r.send(`{"id":"1","command":"status"}`); short(said) != "accepted status, done status" {
			t.Errorf("%+v", said)
		}
		if said := r.send(`{"id":"1","command":"status"}`); short(said) != "refused status" || said[0].Became == nil {
			t.Errorf("repeated: %+v", said)
		}
		if !r.health.holds("command_ids") || !r.health.holds("command_log") {
			t.Errorf("conditions %v", r.health.held)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		r.send(`{"id":"2","command":"status"}`)
		if r.health.holds("command_ids") || r.health.holds("command_log") {
			t.Errorf("conditions %v", r.health.held)
		}
		r.stop()
		r = startIn(t, dir, nil)
		defer r.stop()
		for _, id := range []string{"1", "2"} {
			if said := r.send(`{"id":"` + id + `","command":"status"}`); short(said) != "refused status" || said[0].Became == nil {
				t.Errorf("%s: %+v", id, said)
			}
		}
	})
}

// Ids that could still be repeated are never forgotten for others; the rest are bounded, and
// so is their file.
func TestMemoryIsBounded(t *testing.T) {
	var health conditions
	now := time.Now()
	filled := func(until time.Time) *memory { // as an earlier run left it
		dir := t.TempDir()
		var lines strings.Builder
		for i := range mostIDs {
			b, err := json.Marshal(outcome{ID: fmt.Sprint(i), State: Done, At: now, Until: until})
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&lines, "%s\n", b)
		}
		if err := os.WriteFile(filepath.Join(dir, "ids"), []byte(lines.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		m := openMemory(dir, &health)
		t.Cleanup(m.close)
		return m
	}
	add := func(m *memory, id string) error {
		err := m.begin(outcome{ID: id, State: Accepted, At: now}, now)
		m.end(id, Done, "", json.RawMessage(`{}`), now)
		return err
	}

	m := filled(time.Time{})
	for i := range mostOutputs + 1 {
		if err := add(m, fmt.Sprint("new", i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, known := m.find("16"); known || len(m.order) != mostIDs || len(m.byID) != mostIDs {
		t.Errorf("%d, %d ids", len(m.order), len(m.byID))
	}
	if _, known := m.find("17"); !known {
		t.Error("more than the oldest are forgotten")
	}
	first, _ := m.find("new0")
	second, known := m.find("new1")
	if first.output != nil || second.output == nil || !known {
		t.Errorf("outputs %q %q", first.output, second.output)
	}
	m.lines = 2 * mostIDs // of history
	if err := add(m, "last"); err != nil || m.lines > mostIDs+1 {
		t.Errorf("%d lines, %v", m.lines, err)
	}
	m.close()
	m = openMemory(filepath.Dir(m.path), &health)
	defer m.close()
	if o, known := m.find("last"); !known || o.State != Done {
		t.Errorf("after a restart: %+v", o)
	}

	m = filled(now.Add(time.Hour))
	if err := add(m, "more"); !strings.Contains(errorText(err), "could still be repeated") {
		t.Errorf("full: %v", err)
	}
	if _, known := m.find("0"); !known {
		t.Error("an id that could be repeated is forgotten")
	}
	now = now.Add(time.Hour)
	if err := add(m, "more"); err != nil || len(m.order) != 1 {
		t.Errorf("when they have expired: %v, %d", err, len(m.order))
	}
}
