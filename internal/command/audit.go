package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"telemetryd/internal/telemetry"
)

// The audit log is JSON lines: in audit.log one for each state of each command that ran, in
// refused.log for each refusal that was answered. They are apart, so that who floods a vehicle
// with what it refuses does not wash out what it did. A line is handed to the system at once, and not synced: a power
// cut may take those of the last half minute. At mostLog bytes a file becomes audit.log.1 or
// refused.log.1, in place of the one before. It holds neither tokens nor payloads nor what programs print,
// and no argument that is declared secret. A disk that fails stops no command: lines are
// lost, and a condition says so.

const mostLog = 256 << 10

// auditLine is one line.
type auditLine struct {
	T       string            `json:"t"`
	Known   bool              `json:"time_known"`
	Topic   string            `json:"topic,omitempty"`
	ID      string            `json:"id,omitempty"`
	Command string            `json:"command,omitempty"`
	Args    map[string]string `json:"args,omitempty"`
	State   State             `json:"state"`
	Reason  string            `json:"reason,omitempty"`
	Count   map[string]int    `json:"refused,omitempty"` // of many, by code
}

func (d *Dispatcher) line(topic string, r request, s State, reason string) auditLine {
	now, known := d.Now()
	return auditLine{T: telemetry.FormatTime(now), Known: known, Topic: clip(topic), ID: r.id, Command: r.command, Args: r.args, State: s, Reason: reason}
}

// audit writes the log. It is safe for concurrent use.
type audit struct {
	dir    string
	name   string // of the file
	source string // of its condition
	health Health

	mu   sync.Mutex
	file *os.File
	size int64
}

func (a *audit) write(l auditLine) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, err := json.Marshal(l)
	if err == nil {
		err = a.append(append(b, '\n'))
	}
	if err != nil {
		a.health.Set(a.source, telemetry.Condition{Code: "command_log_failing", Severity: telemetry.Warning,
			Title:  fmt.Sprintf("The audit log of commands cannot be written: %v", err),
			Remedy: "check the card or disk that the state directory is on; commands go on, and leave no record until then"})
		return
	}
	a.health.Clear(a.source, "The audit log of commands is written again")
}

func (a *audit) append(line []byte) error {
	if a.file != nil && a.size+int64(len(line)) > mostLog {
		err := errors.Join(a.shut(), os.Rename(a.path(), a.path()+".1"))
		if err != nil {
			return err
		}
	}
	if a.file == nil {
		if err := a.open(); err != nil {
			return err
		}
	}
	n, err := a.file.Write(line)
	a.size += int64(n)
	if err != nil {
		return errors.Join(err, a.shut())
	}
	return nil
}

func (a *audit) open() error {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(a.path(), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	a.file, a.size = file, info.Size()
	if last := []byte{'\n'}; a.size > 0 {
		if _, err := file.ReadAt(last, a.size-1); err == nil && last[0] != '\n' { // cut by a power cut
			_, err = file.WriteString("\n")
			return err
		}
	}
	return nil
}

func (a *audit) path() string { return filepath.Join(a.dir, a.name) }

func (a *audit) shut() error {
	file := a.file
	a.file = nil
	if file == nil {
		return nil
	}
	return file.Close()
}

func (a *audit) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.shut() // nothing waits in it
}
