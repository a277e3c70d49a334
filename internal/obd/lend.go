package obd

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"telemetryd/internal/telemetry"
)

// lent are rates for a time, by signal: they go before those of the settings, in every
// session until they end.
type lent map[string]loan

type loan struct {
	hertz float64
	until time.Duration // since boot
}

// first is when the next rate goes back; 0 for none.
func (l lent) first() (at time.Duration) {
	for _, x := range l {
		if at == 0 || x.until < at {
			at = x.until
		}
	}
	return at
}

// expire ends what has ended by now, and reports whether anything has.
func (l lent) expire(now time.Duration) bool {
	n := len(l)
	maps.DeleteFunc(l, func(_ string, x loan) bool { return x.until <= now })
	return len(l) < n
}

const (
	// MostHertz is the highest rate that is a number.
	MostHertz = 1000.0
	// LongestRates is how long other rates may be asked for.
	LongestRates = time.Hour
	// lentEvery is how long readings are counted for a rate while rates are lent, and for a
	// minute after a change.
	lentEvery = 10 * time.Second
)

// SetRates reads signals at other rates (hertz; math.Inf(1) for as often as possible, 0
// for never) for so long, then as before. It counts on if the adapter is lost and comes
// back meanwhile, not over a restart of the daemon.
func (c *Control) SetRates(ctx context.Context, rates map[string]float64, d time.Duration) error {
	if !(d > 0) || d > LongestRates {
		return fmt.Errorf("for %v; allowed: up to %v", d, LongestRates)
	}
	if len(rates) == 0 {
		return fmt.Errorf("no signal is named")
	}
	rates = maps.Clone(rates)
	for _, name := range slices.Sorted(maps.Keys(rates)) {
		if x := rates[name]; !(x >= 0 && x <= MostHertz) && !math.IsInf(x, 1) {
			return fmt.Errorf("%s at %v Hz; allowed: 0 to %v, or max", name, x, MostHertz)
		}
	}
	_, err := ask(ctx, c, func(_ context.Context, r *reading, out *result[struct{}]) (func() bool, error) {
		for _, name := range slices.Sorted(maps.Keys(rates)) {
			if out.err = r.offers(name); out.err != nil {
				return nil, nil
			}
		}
		if r.lent == nil {
			r.reader.lent = lent{}
		}
		for name, x := range rates {
			r.lent[name] = loan{x, r.Uptime() + d}
		}
		r.retune()
		return nil, nil
	})
	return err
}

// offers is the error of a signal that cannot be read from this car.
func (d *reading) offers(name string) error {
	signal, known := telemetry.FindSignal(name)
	own := slices.IndexFunc(d.Own, func(o OwnSignal) bool { return o.Name == name })
	switch {
	case known && signal.Source == telemetry.FromReceiver:
		return fmt.Errorf("%s comes from the GPS receiver, at the receiver's own rate", name)
	case known && signal.Source == telemetry.FromAdapter:
		return nil
	case known && slices.Contains(d.pids, signal.PID):
		return nil
	case own >= 0 && d.Own[own].fits(busOf(d.s.protocol)):
		return nil
	case known || own >= 0:
		return fmt.Errorf("this car does not have %s", name)
	}
	return fmt.Errorf("no signal is called %q; this car has: %s", name, strings.Join(d.planned(), " "))
}

// planned are the signals that are read, sorted.
func (d *reading) planned() (names []string) {
	for _, t := range d.plan.tasks {
		names = append(names, t.signals...)
	}
	slices.Sort(names)
	return names
}

// retune brings the plan to the rates that hold now.
func (d *reading) retune() {
	now := d.Uptime()
	d.plan.retune(d.signalTasks(), now)
	shown := map[string]float64{}
	for _, r := range d.Rates.Read() {
		shown[r.Signal] = r.Achieved
	}
	list := d.plan.rates(now - d.counted + 1) // begins to count anew
	for i := range list {
		list[i].Achieved = shown[list[i].Signal]
	}
	d.counted, d.retuned = now, now
	if len(shown) > 0 {
		d.Rates.set(list)
	}
}

// countFor is how long readings are counted for a rate now.
func (d *reading) countFor() time.Duration {
	if len(d.lent) > 0 || d.retuned > 0 && d.Uptime()-d.retuned < ratesEvery {
		return lentEvery
	}
	return ratesEvery
}

// retune changes the rates of what is planned to those of wanted, adds what is not, and
// drops what is wanted no more. What was learned of a parameter stays.
func (s *schedule) retune(wanted []*task, now time.Duration) {
	for _, old := range slices.Clone(s.tasks) {
		if !old.packs && len(old.signals) == 0 {
			continue // trouble codes and the like
		}
		i := slices.IndexFunc(wanted, func(t *task) bool {
			return t.request == old.request && t.packs == old.packs && t.query.to == old.query.to
		})
		if i < 0 || !old.packs && !slices.Equal(wanted[i].signals, old.signals) {
			s.drop(old)
			continue
		}
		old.pace(wanted[i], now)
		wanted = slices.Delete(wanted, i, i+1)
	}
	for _, t := range wanted {
		s.add(t)
	}
}

// pace takes the signals and the rate of another task for the same thing.
func (t *task) pace(as *task, now time.Duration) {
	t.signals = as.signals
	if t.period == as.period && t.max == as.max {
		return
	}
	t.period, t.max = as.period, as.max
	if !t.refused {
		t.due = min(t.due, now+t.period)
	}
}

// drop forgets a task.
func (s *schedule) drop(t *task) {
	same := func(x *task) bool { return x == t }
	s.tasks = slices.DeleteFunc(s.tasks, same)
	if s.sets == nil {
		return
	}
	s.sets.good = slices.DeleteFunc(s.sets.good, same)
	s.sets.trials = slices.DeleteFunc(s.sets.trials, func(x trial) bool { return slices.ContainsFunc(x.tasks, same) || slices.ContainsFunc(x.of, same) })
}
