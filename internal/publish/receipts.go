package publish

import (
	"slices"
	"sync"
)

// receiptsKept is how many are kept: more than come while somebody looks away.
const receiptsKept = 1024

// Receipts are the PUBACKs of the last events, for whoever waits for one: of an event that
// is gone from the buffer they tell whether the broker has it, or it was given up. The zero
// Receipts is ready; it is safe for concurrent use.
type Receipts struct {
	mu   sync.Mutex
	lsns []uint64 // a ring once it is full
	next int
}

// note keeps that the broker has acknowledged an event. Nobody may want to know.
func (r *Receipts) note(lsn uint64) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lsns) < receiptsKept {
		r.lsns = append(r.lsns, lsn)
		return
	}
	r.lsns[r.next] = lsn
	r.next = (r.next + 1) % receiptsKept
}

// Has tells whether the broker has acknowledged an event. It is asked soon: only the last
// are known.
func (r *Receipts) Has(lsn uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.lsns, lsn)
}
