package gps

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"telemetryd/internal/port"
)

// rates are the rates of serial receivers, the most common first: 9600 u-blox to
// M10 and MTK, 38400 u-blox M9 and F9, 115200 Teseo and modems, 4800 SiRF.
var rates = []int{9600, 38400, 115200, 4800, 57600, 19200}

const (
	// huntWindow is how long each rate is listened at.
	huntWindow = 2500 * time.Millisecond
	// huntProof is how many sentences with a good checksum decide.
	huntProof = 2
	// huntAgain is after how long without a sentence the rates are tried anew: the
	// receiver may have been reset or exchanged.
	huntAgain = 30 * time.Second
)

// hunt looks for the rate of a serial receiver by listening alone.
type hunt struct {
	rates []int // nil when there is nothing to hunt for
	at    int
	since time.Time
	heard uint64 // sentences at this rate
	found bool
	round bool // every rate has been tried at least once
}

// newHunt starts at the first rate, which firstRate has opened the port with.
func newHunt(a port.Address) *hunt {
	h := &hunt{since: time.Now()}
	if a.Scheme == "serial" && a.Baud == 0 && !anyRate(a.Path) {
		h.rates = rates
	}
	return h
}

// startAt begins with a rate that the port was opened with, 0 for the usual first.
func (h *hunt) startAt(baud int) {
	if i := slices.Index(h.rates, baud); i > 0 {
		h.rates = slices.Insert(slices.Delete(slices.Clone(h.rates), i, i+1), 0, baud)
	}
}

// firstRate is a with the rate to open it at.
func firstRate(a port.Address) port.Address {
	if a.Scheme == "serial" && a.Baud == 0 {
		a.Baud = rates[0]
	}
	return a
}

// anyRate reports whether the port ignores its rate: a USB CDC device or a
// pseudo terminal.
func anyRate(path string) bool {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return strings.HasPrefix(path, "/dev/ttyACM") || strings.HasPrefix(path, "/dev/pts/")
}

// rate is the one listened at; 0 when it was given or does not matter.
func (h *hunt) rate() int {
	if h.rates == nil {
		return 0
	}
	return h.rates[h.at]
}

// running reports whether the first round is still under way: until it is over,
// nonsense means nothing.
func (h *hunt) running() bool { return h.rates != nil && !h.found && !h.round }

// spoke notes n more sentences. It reports true when they decide.
func (h *hunt) spoke(n uint64) bool {
	h.heard += n
	if h.rates == nil || h.found || h.heard < huntProof {
		return false
	}
	h.found, h.round = true, false
	return true
}

// next returns the rate to listen at from now on, 0 to stay. A receiver that
// speaks a binary protocol has been found, too. spoken is when it last spoke.
func (h *hunt) next(now time.Time, binary bool, spoken time.Time) int {
	switch {
	case h.rates == nil || binary:
		return 0
	case h.found:
		if now.Sub(spoken) < huntAgain {
			return 0
		}
		h.found, h.round = false, true
	case now.Sub(h.since) < huntWindow:
		return 0
	}
	h.at = (h.at + 1) % len(h.rates)
	h.round = h.round || h.at == 0
	h.since, h.heard = now, 0
	return h.rates[h.at]
}
