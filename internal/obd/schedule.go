package obd

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// maxPIDs is how many parameters one request may name (SAE J1979, CAN only).
const maxPIDs = 6

// task is one thing to read again and again: a PID, or the adapter's own voltage.
type task struct {
	pid     byte
	voltage bool          // ATRV: puts nothing on the bus
	period  time.Duration // 0 = as often as possible
	due     time.Duration
	alone   bool // never packed with others: not known to be harmless
	misses  int  // requests in a row that gave it no value
}

const (
	// toleratedSets in a row may fail before single requests are the rule.
	toleratedSets = 2
	// toleratedMisses in a row make a PID one that the car does not give, whatever
	// its bitmap says.
	toleratedMisses = 3
	// missedPeriod is how often such a PID is still tried.
	missedPeriod = 30 * time.Second
)

// schedule decides what to ask next. It is a pure structure: time is handed in,
// as time since boot.
type schedule struct {
	tasks   []*task
	multi   bool          // this bus takes several PIDs in a request
	spacing time.Duration // least time from one bus request to the next
	free    time.Duration // when the next bus request may leave
	// setsFailed counts sets in a row that gave nothing, since one gave something.
	setsFailed int
}

// newSchedule plans tasks for rates in hertz by PID; math.Inf(1) means as often as
// possible. ceiling is requests per second on the bus, 0 for none.
func newSchedule(rates map[byte]float64, voltage float64, multi bool, ceiling float64, now time.Duration) *schedule {
	s := &schedule{multi: multi, free: now}
	if ceiling > 0 {
		s.spacing = time.Duration(float64(time.Second) / ceiling)
	}
	for pid, rate := range rates {
		if rate > 0 {
			s.tasks = append(s.tasks, &task{pid: pid, period: period(rate), due: now})
		}
	}
	if voltage > 0 {
		s.tasks = append(s.tasks, &task{voltage: true, period: period(voltage), due: now})
	}
	slices.SortFunc(s.tasks, func(a, b *task) int { return cmp.Compare(a.pid, b.pid) })
	return s
}

func period(rate float64) time.Duration {
	if math.IsInf(rate, 1) {
		return 0
	}
	return time.Duration(float64(time.Second) / rate)
}

// next returns the tasks of the next request and when it may be sent. The most
// overdue leads, measured in periods of its own, so that a budget too small for
// all is shared in proportion; on a bus that allows it others ride along which
// are due, or would be within a quarter of their period. No task: nothing to do.
func (s *schedule) next(now time.Duration) (tasks []*task, at time.Duration) {
	var lead *task
	for _, t := range s.tasks {
		if lead == nil || order(t, lead, now) < 0 {
			lead = t
		}
	}
	if lead == nil {
		return nil, 0
	}
	at = max(lead.due, now)
	if lead.voltage {
		return []*task{lead}, at
	}
	at = max(at, s.free)
	tasks = []*task{lead}
	if !s.multi || lead.alone {
		return tasks, at
	}
	var riders []*task
	for _, t := range s.tasks {
		if t != lead && !t.voltage && !t.alone && t.due-t.period/4 <= at {
			riders = append(riders, t)
		}
	}
	slices.SortStableFunc(riders, func(a, b *task) int { return order(a, b, at) })
	return append(tasks, riders[:min(len(riders), maxPIDs-1)]...), at
}

// order puts what is more late first; what is not due yet comes by its due time.
func order(a, b *task, now time.Duration) int {
	aDue, bDue := a.due <= now, b.due <= now
	switch {
	case aDue && bDue:
		return cmp.Compare(b.lateness(now), a.lateness(now))
	case aDue != bDue && aDue:
		return -1
	case aDue != bDue:
		return 1
	default:
		return cmp.Compare(a.due, b.due)
	}
}

// fastest is the period that a task without one counts with.
const fastest = 10 * time.Millisecond

func (t *task) lateness(now time.Duration) float64 {
	return float64(now-t.due) / float64(max(t.period, fastest))
}

// sent notes that a bus request left at the time now.
func (s *schedule) sent(now time.Duration) { s.free = max(s.free, now) + s.spacing }

// suspect notes that a set of tasks gave nothing: one of them may refuse them all, so
// each is asked alone until it has answered. When a set fails again after all of
// its members answered alone, this car takes no sets.
func (s *schedule) suspect(tasks []*task) {
	if s.setsFailed++; s.setsFailed > toleratedSets {
		s.multi = false
	}
	for _, t := range tasks {
		t.alone = true
	}
}

// done notes the outcome for a task of the request sent at the time now.
func (t *task) done(now time.Duration, measured bool) {
	if t.due += t.period; t.due <= now {
		t.due = now + 1 // behind: no catching up in a burst
	}
	if measured {
		t.misses, t.alone = 0, false
		return
	}
	if t.misses++; t.misses >= toleratedMisses {
		t.alone = true
		t.due = now + missedPeriod
	}
}
