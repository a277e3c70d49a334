package obd

import "slices"

// sets learns which PIDs this car answers together. A set that fails is split: each
// of its PIDs is asked with one that is known to go well with others. Who fails then
// makes sets fail; when none does, the set was too large.
type sets struct {
	fits    int // the largest set that was answered whole
	tooMany int // the smallest that failed though each of its PIDs goes with another
	trials  []trial
	turn    int     // whose turn it is to show that the car speaks, or to be tried again
	good    []*task // were answered within a set
	odd     int     // failures in a row that nothing explains
}

// trial is what is to be asked next to find something out.
type trial struct {
	tasks []*task
	again bool    // asked a second time: once may be chance
	of    []*task // a set that nobody heard: does the car speak at all?
}

// toleratedOdd failures in a row that nothing explains make sets smaller.
const toleratedOdd = 3

func newSets() *sets { return &sets{tooMany: maxPIDs + 1} }

// size is how many PIDs to ask for at once.
func (s *sets) size() int {
	if s.tooMany > maxPIDs {
		return maxPIDs
	}
	return max(s.fits, (s.fits+s.tooMany)/2, 1)
}

// trial is the set to be asked next; nil when nothing is to be found out.
func (s *sets) trial() []*task {
	if len(s.trials) == 0 {
		return nil
	}
	return s.trials[0].tasks
}

// learn notes what became of a request for tasks, of which n were measured.
func (s *sets) learn(tasks []*task, o outcome, n int) {
	var t trial
	if len(s.trials) > 0 && slices.Equal(s.trials[0].tasks, tasks) {
		t, s.trials = s.trials[0], s.trials[1:]
	}
	switch {
	case len(tasks) == 1:
		if t.of != nil && o != unheard {
			s.failed(t.of)
		}
	case n > 0:
		s.passed(tasks, n)
	case o == rejected:
		s.failed(tasks)
	case !t.again:
		s.trials = slices.Insert(s.trials, 0, trial{tasks: tasks, again: true})
	default:
		s.trials = slices.Insert(s.trials, 0, trial{tasks: []*task{s.witness(tasks)}, of: tasks})
	}
}

// witness is whom of a set to ask alone: its answer shows that the car speaks, and
// that the set is at fault.
func (s *sets) witness(tasks []*task) *task {
	if i := slices.IndexFunc(tasks, func(t *task) bool { return t.packed }); i >= 0 {
		return tasks[i]
	}
	s.turn++
	return tasks[s.turn%len(tasks)]
}

// relax lets sets be one larger, and one that is asked alone be asked with another.
func (s *sets) relax(tasks []*task) {
	if s.tooMany <= maxPIDs {
		s.tooMany = s.fits + 2
	}
	lonely := slices.DeleteFunc(slices.Clone(tasks), func(t *task) bool { return !t.alone || t.refused })
	if g := s.companion(); g != nil && len(lonely) > 0 && len(s.trials) == 0 {
		s.turn++
		s.trials = []trial{{tasks: []*task{g, lonely[s.turn%len(lonely)]}}}
	}
}

// passed notes a set that was answered, n of its PIDs at least.
func (s *sets) passed(tasks []*task, n int) {
	s.odd = 0
	if n == len(tasks) {
		s.fits = max(s.fits, n)
		s.tooMany = max(s.tooMany, n+1) // it was chance, then
		for _, t := range tasks {
			t.alone = false
		}
	}
	first := len(s.good) == 0
	for _, t := range tasks {
		if !t.packed {
			t.packed = true
			s.good = append(s.good, t)
		}
	}
	if first && len(s.trials) > 0 { // pairs were tried to find one that goes
		var left []*task
		for _, t := range s.trials {
			left = append(left, t.tasks...)
		}
		s.trials = nil
		s.try(left)
	}
}

// failed notes a set that gave nothing, and plans how to find out why.
func (s *sets) failed(tasks []*task) {
	unknown := slices.DeleteFunc(slices.Clone(tasks), func(t *task) bool { return t.packed })
	switch n := len(tasks); {
	case len(unknown) == 0 && n > s.fits:
		s.tooMany = n
	case len(unknown) == 0:
		// It went once, or a smaller one did: chance, or two that do not go together.
		if s.odd++; s.odd >= toleratedOdd && n > 1 {
			s.odd, s.fits, s.tooMany = 0, n-1, n
		}
	case n == 2 && len(unknown) == 1:
		unknown[0].alone = true
	case n > 2 || s.companion() != nil:
		s.try(unknown)
	case len(s.trials) == 0:
		s.tooMany = 2 // no two of a set went together
	}
}

// try plans to ask each of tasks with one that goes well, or, while there is none,
// each with each other until two go.
func (s *sets) try(tasks []*task) {
	var pairs []trial
	seen := map[*task]bool{}
	for _, t := range tasks {
		if seen[t] || t.packed {
			continue
		}
		seen[t] = true
		if g := s.companion(); g != nil {
			pairs = append(pairs, trial{tasks: []*task{g, t}})
		}
	}
	for distance := 1; s.companion() == nil && distance < len(tasks); distance++ {
		for i := 0; i+distance < len(tasks); i++ {
			pairs = append(pairs, trial{tasks: []*task{tasks[i], tasks[i+distance]}})
		}
	}
	s.trials = append(pairs, s.trials...)
}

// companion is a PID that goes well with others; nil while none is known.
func (s *sets) companion() *task {
	if i := slices.IndexFunc(s.good, (*task).rides); i >= 0 {
		return s.good[i]
	}
	return nil
}
