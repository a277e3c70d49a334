package obd

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"telemetryd/internal/telemetry"
)

// Rates tell for each signal of the car how often it is wanted and how often it is
// read. They are safe for concurrent use.
type Rates struct {
	mu   sync.Mutex
	list []telemetry.Rate
}

// Read returns the rates over the last full minute; none until the car was read for
// one, and none while it is not read.
func (r *Rates) Read() []telemetry.Rate {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

func (r *Rates) set(list []telemetry.Rate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = list
}

// ratesEvery is how long readings are counted for a rate.
const ratesEvery = time.Minute

// shortBy is how much of a wanted rate has to be reached.
const shortBy = 0.9

// rates counts what was measured in span, and begins anew.
func (s *schedule) rates(span time.Duration) []telemetry.Rate {
	var list []telemetry.Rate
	for _, t := range s.tasks {
		for _, name := range t.signals {
			rate := telemetry.Rate{Signal: name, Achieved: round(float64(t.readings) / span.Seconds())}
			if !t.max {
				rate.Wanted = round(float64(time.Second) / float64(t.period))
			}
			list = append(list, rate)
		}
		t.readings = 0
	}
	slices.SortFunc(list, func(a, b telemetry.Rate) int { return cmp.Compare(a.Signal, b.Signal) })
	return list
}

func round(hertz float64) float64 { return math.Round(hertz*1000) / 1000 }

// short lists the signals that come less often than wanted, for people. One reading
// more or less in a span is no shortage.
func short(list []telemetry.Rate, span time.Duration) []string {
	var names []string
	for _, r := range list {
		if r.Wanted > 0 && r.Achieved < shortBy*r.Wanted && r.Achieved+1/span.Seconds() < r.Wanted {
			names = append(names, fmt.Sprintf("%s %v of %v Hz", r.Signal, r.Achieved, r.Wanted))
		}
	}
	return names
}

// describe lists all rates in one line, for the log.
func describe(list []telemetry.Rate) string {
	var b strings.Builder
	for i, r := range list {
		if i > 0 {
			b.WriteByte(' ')
		}
		wanted := "max"
		if r.Wanted > 0 {
			wanted = fmt.Sprint(r.Wanted)
		}
		fmt.Fprintf(&b, "%s=%v/%s", r.Signal, r.Achieved, wanted)
	}
	return b.String()
}
