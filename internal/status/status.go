// Package status owns the health of the publisher: which conditions hold now,
// each with a code for machines, and a title and a remedy for people.
//
// A condition is set and cleared where it happens, by the source that owns it;
// it is logged once when it begins and once when it ends, however often it is
// set. The status message and the pages only show what is here.
package status

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"telemetryd/internal/telemetry"
)

// Health holds at most one condition for each source. It is safe for concurrent
// use.
type Health struct {
	log *slog.Logger

	mu      sync.Mutex
	held    map[string]held
	changed chan struct{}
}

type held struct {
	telemetry.Condition
	since time.Time
}

// NewHealth returns a Health in which nothing is wrong.
func NewHealth(log *slog.Logger) *Health {
	return &Health{log: log, held: map[string]held{}, changed: make(chan struct{}, 1)}
}

// Set says that c holds at source, in place of what held there before.
func (h *Health) Set(source string, c telemetry.Condition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, was := h.held[source]
	if was && before.Code == c.Code {
		h.held[source] = held{c, before.since}
		return
	}
	h.held[source] = held{c, time.Now()}
	level := slog.LevelWarn
	if c.Severity == telemetry.Info {
		level = slog.LevelInfo
	}
	h.log.Log(context.Background(), level, c.Title, "source", source, "code", c.Code, "remedy", c.Remedy)
	h.notify()
}

// Clear says that nothing is wrong at source. resolved is logged when something was.
func (h *Health) Clear(source, resolved string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, was := h.held[source]
	if !was {
		return
	}
	delete(h.held, source)
	h.log.Info(resolved, "source", source, "after", time.Since(before.since).Round(time.Second), "was", before.Code)
	h.notify()
}

// Conditions lists what holds now, the worst first.
func (h *Health) Conditions() []telemetry.Condition {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []telemetry.Condition{} // an empty list, not null, in JSON
	for _, c := range h.held {
		list = append(list, c.Condition)
	}
	slices.SortFunc(list, func(a, b telemetry.Condition) int {
		return cmp.Or(cmp.Compare(rank(b.Severity), rank(a.Severity)), cmp.Compare(a.Code, b.Code))
	})
	return list
}

func rank(s telemetry.Severity) int {
	return slices.Index([]telemetry.Severity{telemetry.Info, telemetry.Warning, telemetry.Emergency}, s)
}

// Changed is signalled after a condition began or ended.
func (h *Health) Changed() <-chan struct{} { return h.changed }

func (h *Health) notify() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}
