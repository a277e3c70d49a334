package command

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"telemetryd/internal/telemetry"
)

// The file ids holds a JSON line for each state of a command that has an id. The line of its
// beginning is synced before the command runs: after a power cut its id is known, so that it
// does not run twice. That of its end is not: then it is unknown whether it ran. Ids are kept
// until they expire and, those without expiry, until mostIDs newer ones came. While the disk
// fails they are in memory alone: commands go on, but those sent again after a restart may
// run again.

const (
	// mostIDs are remembered; when that many have not expired, further ones are refused.
	mostIDs = 4096
	// mostOutputs are kept for those who missed the answer.
	mostOutputs = 16
)

// outcome is how far a command with an id came.
type outcome struct {
	ID      string    `json:"id"`
	Command string    `json:"command"`
	State   State     `json:"state"`
	Reason  string    `json:"reason,omitempty"`
	At      time.Time `json:"at"`
	Until   time.Time `json:"until,omitzero"` // it cannot come again after this
	output  json.RawMessage
}

// memory is what is known of ids. It is safe for concurrent use.
type memory struct {
	health Health
	path   string

	mu    sync.Mutex
	byID  map[string]*outcome
	order []*outcome // by their beginning
	last  []*outcome // with their output
	file  *os.File   // nil: it is opened at the next line
	lines int        // in it
}

// openMemory reads what earlier runs knew. A line that is damaged is left out.
func openMemory(dir string, health Health) *memory {
	m := &memory{health: health, path: filepath.Join(dir, "ids"), byID: map[string]*outcome{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		m.failed(err)
		return m
	}
	content, err := os.ReadFile(m.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.failed(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		var o outcome
		if json.Unmarshal(lines.Bytes(), &o) != nil || o.ID == "" {
			continue
		}
		if known, ok := m.byID[o.ID]; ok && o.State != Accepted {
			*known = o
			continue
		}
		m.put(o)
	}
	for _, o := range m.order {
		if o.State == Accepted {
			o.State, o.Reason = Failed, "the daemon ended before it did: it is not known whether it ran"
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rewrite()
	return m
}

func (m *memory) put(o outcome) *outcome {
	kept := &o
	m.byID[o.ID] = kept
	m.order = append(m.order, kept)
	return kept
}

// find tells what became of an id.
func (m *memory) find(id string) (outcome, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o, ok := m.byID[id]; ok {
		return *o, true
	}
	return outcome{}, false
}

// begin remembers an id before its command runs.
func (m *memory) begin(o outcome, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.order) >= mostIDs && !m.forget(now) {
		return refused("too_many", "%d commands are remembered that could still be repeated; try again when some have expired", mostIDs)
	}
	m.note(*m.put(o), true)
	return nil
}

// forget makes room: what has expired, else the oldest without expiry.
func (m *memory) forget(now time.Time) bool {
	before := len(m.order)
	m.drop(func(o *outcome) bool { return o.State != Accepted && !o.Until.IsZero() && !now.Before(o.Until) })
	if len(m.order) == before {
		oldest := slices.IndexFunc(m.order, func(o *outcome) bool { return o.State != Accepted && o.Until.IsZero() })
		if oldest < 0 {
			return false
		}
		id := m.order[oldest].ID
		m.drop(func(o *outcome) bool { return o.ID == id })
	}
	return true
}

func (m *memory) drop(which func(*outcome) bool) {
	m.order = slices.DeleteFunc(m.order, func(o *outcome) bool {
		if !which(o) {
			return false
		}
		delete(m.byID, o.ID)
		return true
	})
}

// end notes what became of an id; one that was not remembered has none.
func (m *memory) end(id string, s State, reason string, output json.RawMessage, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.byID[id]
	if !ok {
		return
	}
	o.State, o.Reason, o.At, o.output = s, reason, at, output
	m.last = append(m.last, o)
	if len(m.last) > mostOutputs {
		m.last[0].output = nil
		m.last = slices.Delete(m.last, 0, 1)
	}
	m.note(*o, false)
}

// note appends a line. The file is written anew when most of it is history.
func (m *memory) note(o outcome, sync bool) {
	if m.lines >= 2*mostIDs || m.file == nil {
		m.rewrite()
		return
	}
	line, err := json.Marshal(o)
	if err == nil {
		_, err = m.file.Write(append(line, '\n'))
	}
	if err == nil && sync {
		err = m.file.Sync()
	}
	if err != nil {
		m.failed(err)
		m.shut()
		return
	}
	m.lines++
}

// rewrite writes what is known into a new file, which is durable when it takes its name.
func (m *memory) rewrite() {
	m.shut()
	var all bytes.Buffer
	lines := json.NewEncoder(&all)
	for _, o := range m.order {
		if err := lines.Encode(o); err != nil {
			m.failed(err) // a mistake in this program
		}
	}
	file, err := os.OpenFile(m.path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		m.failed(err)
		return
	}
	_, err = file.Write(all.Bytes())
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(m.path+".new", m.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(m.path))
	}
	if err != nil {
		_ = file.Close() // what matters has failed before
		m.failed(err)
		return
	}
	m.file, m.lines = file, len(m.order)
	m.health.Clear("command_ids", "The ids of commands are kept again")
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (m *memory) shut() {
	if m.file != nil {
		_ = m.file.Close() // what mattered was synced
		m.file = nil
	}
}

func (m *memory) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shut()
}

func (m *memory) failed(err error) {
	m.health.Set("command_ids", telemetry.Condition{Code: "command_ids_failing", Severity: telemetry.Warning,
		Title:  fmt.Sprintf("The ids of commands cannot be kept: %v", err),
		Remedy: "check the card or disk that the state directory is on; until then a command that is sent again after a restart may run again"})
}
