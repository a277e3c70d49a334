package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"sync"
	"time"

	"telemetryd/internal/telemetry"
)

// keptRetry is when a disk that did not take what is to be kept is tried again.
const keptRetry = 30 * time.Second

// keepSaved calls save after each change, and again later where the disk did not take it,
// until ctx ends. What changed just before is saved then.
func keepSaved(ctx context.Context, changed <-chan struct{}, save func() (saved bool)) {
	var again <-chan time.Time
	for {
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			select {
			case <-changed:
				save()
			default:
			}
			return
		}
		if again = nil; !save() {
			again = time.After(keptRetry)
		}
	}
}

// newest is the last state of something that must not wait for a disk; for keepSaved.
type newest struct {
	mu      sync.Mutex
	state   []byte
	changed chan struct{}
}

func newNewest() *newest { return &newest{changed: make(chan struct{}, 1)} }

func (n *newest) set(state []byte) {
	n.mu.Lock()
	n.state = state
	n.mu.Unlock()
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

func (n *newest) get() []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state
}

// loadKept reads what saveKept kept at path into v. That there is nothing is no error.
func loadKept(path string, v any) error {
	b, err := telemetry.LoadKept(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// saveKept keeps v at path as JSON; it is durable then.
func saveKept(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return telemetry.SaveKept(path, b)
}
