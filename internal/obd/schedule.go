package obd

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// maxPIDs is how many parameters one request may name (SAE J1979, CAN only).
const maxPIDs = 6

// task is one thing to read again and again.
type task struct {
	signals []string      // that it gives; none for trouble codes and the like
	request string        // in hex, without a count digit; empty for what the adapter measures itself
	pid     byte          // of a mode 01 parameter, which may ride along with others
	packs   bool          // it is one
	period  time.Duration // between two readings; of `max` what it counts with beside others
	max     bool          // as often as possible
	due     time.Duration
	once    bool   // read once, and given up when it is refused
	ended   func() // called then

	// Of what is no mode 01 parameter:
	query query
	take  func(a Answer) bool // uses the answer; reports whether it was one

	alone    bool   // makes a set fail, or is left out of it: asked by itself from then on
	packed   bool   // was measured in a set of two or more
	misses   int    // requests in a row that gave it no value
	missedAt uint64 // what the car had said by the last of them
	refused  bool   // gives nothing by itself either: asked seldom
	asked    bool   // since it was last wanted at once
	again    bool   // its answer asks for another one at once
	answered bool   // once at least
	readings int    // values since the last report
}

const (
	// maxCountsAs is the period a `max` task counts with where the budget is too
	// small for all: it shares as one of 1 Hz would. What is left over is its own.
	maxCountsAs = time.Second
	// slack is how far a deadline may be missed. What is more puts the whole plan off:
	// so a budget too small for all is shared in proportion to the wanted rates, and
	// after a pause nothing is made up for in a burst.
	slack = 300 * time.Millisecond
	// toleratedMisses in a row end a task's riding, and then its regular reading,
	// whatever the car's bitmap says. While the car answers nothing at all none counts:
	// that is no fault of the parameter's.
	toleratedMisses = 3
	// relaxEvery is how often it is tried whether the car takes more in one request
	// than was learned: what was learned may have been chance.
	relaxEvery = 5 * time.Minute
	// refusedPeriod is how often what the car refuses is tried again.
	refusedPeriod = 30 * time.Second
)

// newTask plans request at rate hertz; math.Inf(1) means as often as possible.
func newTask(request string, rate float64, now time.Duration, signals ...string) *task {
	t := &task{signals: signals, request: request, due: now, period: maxCountsAs, max: math.IsInf(rate, 1)}
	if !t.max {
		t.period = time.Duration(float64(time.Second) / rate)
	}
	return t
}

// onBus reports whether asking it puts something on the car's bus.
func (t *task) onBus() bool { return t.request != "" }

// rides reports whether it may share a request.
func (t *task) rides() bool { return t.packs && !t.alone }

// deadline is when the next reading is due: before it this one should be done. The
// first is wanted at once: what is read once a minute is not to wait a minute for it.
func (t *task) deadline() time.Duration {
	if !t.asked {
		return t.due
	}
	return t.due + t.period
}

// soon wants the task at once, whatever its rate.
func (t *task) soon(now time.Duration) { t.due, t.asked = now, false }

// pacer keeps the ceiling of requests on the bus.
type pacer struct {
	spacing time.Duration // least time from one request to the next
	free    time.Duration // when the next may leave
}

// newPacer makes a pacer for so many requests per second, 0 for no ceiling. The
// spacing is 1 % wider than it has to be: so no second sees one more, though a
// request may leave some milliseconds late and the next one in time.
func newPacer(ceiling float64) *pacer {
	if ceiling <= 0 {
		return &pacer{}
	}
	return &pacer{spacing: time.Duration(1.01 * float64(time.Second) / ceiling)}
}

// sent notes that a request left.
func (p *pacer) sent(now time.Duration) { p.free = now + p.spacing }

// schedule decides what to ask next. It is a pure structure: time is handed in,
// as time since boot. A turn is what next returns: the tasks of one request.
type schedule struct {
	tasks []*task
	pace  *pacer
	sets  *sets  // nil where the bus takes one PID in a request
	spoke uint64 // answers of the car, refusals too

	relaxed time.Duration
}

func newSchedule(pace *pacer, multi bool) *schedule {
	s := &schedule{pace: pace}
	if multi {
		s.sets = newSets()
	}
	return s
}

// add puts a task under the plan.
func (s *schedule) add(t *task) { s.tasks = append(s.tasks, t) }

// next returns the tasks of the next request and when it may be sent. The nearest
// deadline leads; where the bus allows it, others ride along that are due, or would
// be within a quarter of their period, and those that can never be read too often.
// No task: nothing to do.
func (s *schedule) next(now time.Duration) (tasks []*task, at time.Duration) {
	when := max(now, s.pace.free)
	var lead, own *task
	for _, t := range s.tasks {
		switch {
		case t.onBus():
			if lead == nil || before(t, lead, when) {
				lead = t
			}
		case own == nil || t.due < own.due:
			own = t
		}
	}
	if lead != nil && when-lead.deadline() > slack {
		s.putOff(when - lead.deadline() - slack)
	}
	if s.sets != nil {
		if now-s.relaxed >= relaxEvery {
			s.relaxed = now
			s.sets.relax(s.tasks)
		}
		if part := s.sets.trial(); part != nil && (own == nil || own.due > now) {
			return part, when
		}
	}
	if lead == nil && own == nil {
		return nil, 0
	}
	if lead != nil {
		at = when
		if !lead.max {
			at = max(when, lead.due)
		}
	}
	if lead == nil || own != nil && own.due <= at {
		return []*task{own}, max(own.due, now)
	}
	tasks = []*task{lead}
	if s.sets == nil || !lead.rides() {
		return tasks, at
	}
	var riders []*task
	for _, t := range s.tasks {
		if t != lead && t.rides() && (t.max || t.due-t.period/4 <= at) {
			riders = append(riders, t)
		}
	}
	slices.SortStableFunc(riders, func(a, b *task) int {
		if before(a, b, at) {
			return -1
		}
		return 1
	})
	return append(tasks, riders[:min(len(riders), s.sets.size()-1)]...), at
}

// putOff moves all that goes over the bus by d.
func (s *schedule) putOff(d time.Duration) {
	for _, t := range s.tasks {
		if t.onBus() {
			t.due += d
		}
	}
}

// before reports whether a goes before b at the time now: what is due, the nearest
// deadline first, then what may be read at any time, then what is due next.
func before(a, b *task, now time.Duration) bool {
	switch aDue, bDue := a.due <= now, b.due <= now; {
	case aDue && bDue:
		return a.deadline() < b.deadline()
	case !aDue && !bDue && a.max != b.max:
		return a.max
	default:
		return a.due < b.due
	}
}

// outcome is what became of a request.
type outcome uint8

const (
	answered outcome = iota // the wanted ECU gave values
	rejected                // the wanted ECU said no
	unheard                 // nothing, or nothing whole
	overdue                 // held back on its way: says nothing of what was asked
)

// done notes the outcome of a turn sent at the time now. got tells which tasks were
// answered.
func (s *schedule) done(tasks []*task, now time.Duration, o outcome, got func(*task) bool) {
	if o != unheard {
		s.spoke++
	}
	if o == overdue {
		return // they are still due
	}
	n := 0
	for _, t := range tasks {
		if got(t) {
			n++
		}
	}
	if s.sets != nil && tasks[0].packs {
		s.sets.learn(tasks, o, n)
	}
	for _, t := range tasks {
		if len(tasks) > 1 && n == 0 {
			continue // its parts are asked next: no miss of the task's
		}
		t.next(now)
		switch {
		case got(t):
			t.misses, t.refused, t.answered = 0, false, true
		case t.misses > 0 && t.missedAt == s.spoke: // the car has said nothing since
		default:
			t.miss(now, s.spoke)
		}
		if t.once && (got(t) || t.refused) {
			s.tasks = slices.DeleteFunc(s.tasks, func(x *task) bool { return x == t })
			if t.ended != nil {
				t.ended()
			}
		}
	}
}

// next plans the next reading.
func (t *task) next(now time.Duration) {
	if t.max && t.due > now || !t.onBus() {
		t.due = now // read early, out of what others left; the adapter's own has no plan to keep
	}
	t.due += t.period
	t.asked = true
	if t.again {
		t.again = false
		t.soon(now)
	}
}

// miss notes a request that gave the task nothing though the car speaks.
func (t *task) miss(now time.Duration, spoke uint64) {
	t.missedAt = spoke
	if t.misses++; t.misses < toleratedMisses {
		return
	}
	if t.rides() {
		t.alone, t.misses = true, 0 // perhaps it answers by itself
		return
	}
	t.refused = true
	t.due = now + max(refusedPeriod, t.period)
}

// refused lists the tasks that the car gives no value for.
func (s *schedule) refused() []*task {
	var list []*task
	for _, t := range s.tasks {
		if t.refused && len(t.signals) > 0 {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b *task) int { return cmp.Compare(a.request, b.request) })
	return list
}
