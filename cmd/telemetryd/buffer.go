package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"path/filepath"
	"strings"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

type bufferCommand struct {
	Stat   bufferStat   `cmd:"" help:"How much waits in the buffer, since when, and what is known to be lost."`
	Export bufferExport `cmd:"" help:"What waits in the buffer, one message a line as it would leave. Nothing is taken out."`
}

// viewed is a buffer that is looked at, of a daemon that runs or does not.
type viewed struct {
	StateDir string `placeholder:"DIR" help:"As given to the daemon. Default $$STATE_DIRECTORY, else ~/.local/state/telemetryd."`
}

type (
	bufferStat struct {
		viewed
		JSON bool `name:"json" help:"One JSON object in place of the text."`
	}
	bufferExport struct{ viewed }
)

// warnings is a log of what a person should know.
func warnings(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// open returns the view, what the daemon kept of the time, and where they are.
func (c *viewed) open(log *slog.Logger) (v *spool.Spool, state telemetry.ClockState, dir string, err error) {
	if dir, err = stateDir(c.StateDir); err != nil {
		return nil, state, "", err
	}
	v, err = spool.View(dir, log)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, state, "", &usageError{fmt.Errorf("no buffer in %s; name the daemon's directory with --state-dir (of the installed service: /var/lib/telemetryd)", dir)}
	case errors.Is(err, fs.ErrPermission):
		return nil, state, "", &usageError{fmt.Errorf("no permission to read %s: try again with sudo", dir)}
	case err != nil:
		return nil, state, "", err
	}
	if state, err = telemetry.LoadClock(filepath.Join(dir, "clock")); err != nil {
		log.Warn("guessed times stay as they were recorded", "error", err)
	}
	return v, state, dir, nil
}

// records are those that wait, in order of position. An error is the last of them.
func records(v *spool.Spool) iter.Seq2[spool.Record, error] {
	return func(yield func(spool.Record, error) bool) {
		var heads [2]*spool.Record // the next of each class
		var after [2]uint64
		for {
			var first *spool.Record
			for _, c := range []spool.Class{spool.Telemetry, spool.Event} {
				if heads[c] == nil {
					r, ok, err := v.Next(c, after[c])
					if err != nil {
						yield(r, err)
						return
					}
					if ok {
						heads[c], after[c] = &r, r.LSN
					}
				}
				if h := heads[c]; h != nil && (first == nil || h.LSN < first.LSN) {
					first = h
				}
			}
			if first == nil || !yield(*first, nil) {
				return
			}
			heads[first.Class] = nil
		}
	}
}

// Run prints one message a line.
func (c *bufferExport) Run(s streams) error {
	log := warnings(s.err)
	v, state, _, err := c.open(log)
	if err != nil {
		return err
	}
	defer v.Close()
	out := bufio.NewWriter(s.out)
	defer out.Flush() // what came before an error
	for r, err := range records(v) {
		if err != nil {
			return err
		}
		m, err := telemetry.ParseRecord(r.Payload)
		if err != nil {
			log.Warn("left out: the record cannot be read", "stream_id", r.StreamID, "seq", r.Seq, "error", err)
			continue
		}
		if b := state.Boots[m.BootID]; !b.GuessZero.IsZero() {
			if m, err = m.Corrected(b.GuessZero, b.GuessClock); err != nil {
				log.Warn("a record keeps its guessed time", "stream_id", r.StreamID, "seq", r.Seq, "error", err)
			}
		}
		if _, err := out.Write(append(m.Message(r.StreamID, r.Seq), '\n')); err != nil {
			return err
		}
	}
	return out.Flush()
}

// bufferReport is what stat tells.
type bufferReport struct {
	StateDir  string              `json:"state_dir"`
	Records   uint64              `json:"records"` // that wait
	Telemetry uint64              `json:"telemetry"`
	Events    uint64              `json:"events"`
	DiskBytes int64               `json:"disk_bytes"`
	Aside     int                 `json:"aside"` // pieces that are damaged or refused, in the folder aside
	Oldest    *waiting            `json:"oldest,omitempty"`
	Gaps      []telemetry.DataGap `json:"gaps"` // lost, and not yet told to the broker
}

type waiting struct {
	StreamID string `json:"stream_id"`
	Seq      uint64 `json:"seq"`
	T        string `json:"t,omitempty"` // of its newest sample; absent while the time of its boot is not known
}

// Run prints figures of the buffer.
func (c *bufferStat) Run(s streams) error {
	v, state, dir, err := c.open(warnings(s.err))
	if err != nil {
		return err
	}
	defer v.Close()
	st := v.Stats()
	report := bufferReport{StateDir: dir, Records: st.Records, Telemetry: st.UnackedTelemetry, Events: st.UnackedEvents, DiskBytes: st.Bytes, Aside: st.Aside, Gaps: []telemetry.DataGap{}}
	for r, err := range records(v) {
		if err != nil {
			return err
		}
		report.Oldest = &waiting{StreamID: r.StreamID, Seq: r.Seq}
		if m, err := telemetry.ParseRecord(r.Payload); err == nil {
			if b := state.Boots[m.BootID]; !b.Zero.IsZero() {
				report.Oldest.T = telemetry.FormatTime(b.Zero.Add(m.Newest))
			}
		}
		break // one is enough
	}
	for _, g := range v.Gaps() {
		report.Gaps = append(report.Gaps, telemetry.DataGap(g))
	}
	if c.JSON {
		return json.NewEncoder(s.out).Encode(report)
	}
	_, err = fmt.Fprint(s.out, report.text())
	return err
}

func (r bufferReport) text() string {
	var text strings.Builder
	fmt.Fprintf(&text, "buffer   %s, %.1f MB on disk\nwaiting  %d batches, %d events\n", r.StateDir, float64(r.DiskBytes)/1e6, r.Telemetry, r.Events)
	if o := r.Oldest; o != nil {
		t := o.T
		if t == "" {
			t = "of a time not yet known"
		}
		fmt.Fprintf(&text, "oldest   %s, seq %d of stream %s\n", t, o.Seq, o.StreamID)
	}
	if r.Aside > 0 {
		fmt.Fprintf(&text, "aside    %d pieces, damaged or refused by the broker, in %s\n", r.Aside, filepath.Join(r.StateDir, "aside"))
	}
	for _, g := range r.Gaps {
		fmt.Fprintf(&text, "lost     seq %d to %d of stream %s: %s\n", g.FirstSeq, g.LastSeq, g.StreamID, g.Reason)
	}
	return text.String()
}
