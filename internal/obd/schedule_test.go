package obd

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// plan makes a schedule of mode 01 parameters, numbered from 1, with these rates.
func plan(rates []float64, multi bool, ceiling float64) *schedule {
	s := newSchedule(newPacer(ceiling), multi)
	for i, rate := range rates {
		t := newTask(fmt.Sprintf("01%02X", i+1), rate, 0, fmt.Sprintf("signal%02d", i+1))
		t.pid, t.packs = byte(i+1), true
		s.add(t)
	}
	return s
}

// run lets a schedule work for span of fake time with answers that take so long, and
// calls look for each request.
func (s *schedule) run(span, answer time.Duration, answers func(tasks []*task) (outcome, func(*task) bool), look func(tasks []*task, at time.Duration)) {
	for now := time.Duration(0); ; {
		tasks, at := s.next(now)
		if now = max(now, at); len(tasks) == 0 || now >= span {
			return
		}
		s.pace.sent(now)
		o, got := answers(tasks)
		look(tasks, now)
		s.done(tasks, now, o, got)
		now += answer
	}
}

func allAnswer([]*task) (outcome, func(*task) bool) {
	return answered, func(*task) bool { return true }
}

// Over any rates, ceiling and answer times: no second sees more requests than the
// ceiling, a request names at most six PIDs (one, where the bus takes one) and each
// once, and a budget too small for all is shared in proportion.
func TestSchedule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rates := rapid.SliceOfN(rapid.SampledFrom([]float64{0.1, 0.5, 1, 5, 10, 20}), 1, 20).Draw(t, "rates")
		multi := rapid.Bool().Draw(t, "multi")
		ceiling := rapid.SampledFrom([]float64{0, 2.5, 5, 20}).Draw(t, "ceiling")
		answer := time.Duration(rapid.IntRange(5, 100).Draw(t, "answer ms")) * time.Millisecond
		s := plan(rates, multi, ceiling)
		wanted := 0.0
		for _, rate := range rates {
			wanted += rate
		}
		budget := float64(time.Second) / float64(max(answer, s.pace.spacing))
		share := min(1, budget/wanted)
		span := time.Duration(20 / (slices.Min(rates) * share) * float64(time.Second))
		served := make([]int, len(rates)+1)
		var sent []time.Duration
		s.run(span, answer, allAnswer, func(tasks []*task, at time.Duration) {
			if n := len(tasks); n > maxPIDs || !multi && n > 1 {
				t.Fatalf("%d tasks", n)
			}
			sent = append(sent, at)
			if n := int(math.Ceil(ceiling)); n > 0 && len(sent) > n && at-sent[len(sent)-1-n] < time.Second {
				t.Fatalf("%d requests within %v, the ceiling is %v a second", n+1, at-sent[len(sent)-1-n], ceiling)
			}
			seen := map[byte]bool{}
			for _, x := range tasks {
				if seen[x.pid] {
					t.Fatalf("PID %02X twice", x.pid)
				}
				seen[x.pid] = true
				served[x.pid]++
			}
		})
		for i, rate := range rates {
			// At least its share: riding along and rates that others do not use up
			// only add to it. 20 turns are expected of the slowest, and one may be cut.
			if got, fair := float64(served[i+1]), rate*share*span.Seconds(); got < 0.9*fair-1 {
				t.Errorf("signal %d at %v Hz was served %v times, its share is %.1f", i+1, rate, got, fair)
			}
			if got, most := float64(served[i+1]), rate*span.Seconds(); got > 1.02*most+2 {
				t.Errorf("signal %d at %v Hz was served %v times, wanted %.1f", i+1, rate, got, most)
			}
		}
	})
}

// While the budget is enough, a reading is taken before the next one is due, but for
// what two other requests take. (It comes early by a quarter of its period at most.)
func TestDeadlines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rates := rapid.SliceOfN(rapid.SampledFrom([]float64{0.1, 0.5, 1, 2, 5}), 1, 20).Draw(t, "rates")
		multi := rapid.Bool().Draw(t, "multi")
		wanted := 0.0
		for _, rate := range rates {
			wanted += rate
		}
		answer := time.Duration(0.8 / wanted * float64(time.Second))
		s := plan(rates, multi, 0)
		s.run(60*time.Second, answer, allAnswer, func(tasks []*task, at time.Duration) {
			for _, x := range tasks {
				if !x.answered {
					continue // at the start all are due at once
				}
				if late := at - x.due; late > x.period+2*answer || late < -x.period/4 {
					t.Fatalf("PID %02X of period %v was asked %v late, an answer takes %v, wanted %v", x.pid, x.period, late, answer, rates)
				}
			}
		})
	})
}

// What is due soon rides along.
func TestPacking(t *testing.T) {
	s := plan([]float64{5, 5, 0.1}, true, 20)
	var got []string
	s.run(time.Second, 0, allAnswer, func(tasks []*task, at time.Duration) {
		got = append(got, fmt.Sprintf("%d at %v", len(tasks), at))
	})
	want := []string{"3 at 0s", "2 at 200ms", "2 at 400ms", "2 at 600ms", "2 at 800ms"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// `max` takes what the others leave, and as much as a signal of 1 Hz when they leave
// nothing.
func TestMax(t *testing.T) {
	for _, test := range []struct {
		rates []float64
		want  []int // in 100 s of 20 requests a second, one PID each
	}{
		{[]float64{math.Inf(1), 5, 1}, []int{1380, 500, 100}},
		{[]float64{math.Inf(1), math.Inf(1), 10}, []int{490, 490, 1000}},
		{[]float64{math.Inf(1), 20, 20}, []int{48, 966, 966}},
	} {
		s := plan(test.rates, false, 20)
		served := map[byte]int{}
		s.run(100*time.Second, 0, allAnswer, func(tasks []*task, _ time.Duration) { served[tasks[0].pid]++ })
		for i, want := range test.want {
			if got := served[byte(i+1)]; math.Abs(float64(got-want)) > 0.02*float64(want)+1 {
				t.Errorf("%v: signal %d was served %d times, want %d", test.rates, i+1, got, want)
			}
		}
	}
}

// What the adapter measures itself has its rate, whatever goes over the bus.
func TestAdaptersOwn(t *testing.T) {
	for _, rates := range [][]float64{{0.1}, {5, 5, 1}, {math.Inf(1)}} {
		s := plan(rates, true, 20)
		s.add(newTask("", 5, 0, "battery_voltage_v"))
		n := 0
		s.run(100*time.Second, time.Millisecond, allAnswer, func(tasks []*task, _ time.Duration) {
			if !tasks[0].onBus() {
				n++
			}
		})
		if n < 490 || n > 501 {
			t.Errorf("beside %v: %d times, want 500", rates, n)
		}
	}
}

// What is read once leaves the plan; what the car never gives is asked seldom.
func TestOnceAndRefused(t *testing.T) {
	s := plan([]float64{5, 5}, true, 0)
	vin := newTask("0902", 0.1, 0)
	vin.once = true
	s.add(vin)
	asked := map[string]int{}
	s.run(100*time.Second, time.Millisecond, func([]*task) (outcome, func(*task) bool) {
		return answered, func(x *task) bool { return x.pid != 1 }
	}, func(tasks []*task, at time.Duration) {
		for _, x := range tasks {
			asked[x.request]++
			if at > 5*time.Second && x.pid == 1 && len(tasks) > 1 {
				t.Errorf("the silent PID rides along at %v", at)
			}
		}
	})
	if asked["0902"] != 1 {
		t.Errorf("the VIN was asked %d times", asked["0902"])
	}
	if n := asked["0101"]; n < 8 || n > 10 { // six times until it is known, then every 30 s
		t.Errorf("the silent PID was asked %d times", n)
	}
	if n := asked["0102"]; n != 500 {
		t.Errorf("the other PID was asked %d times, want 500", n)
	}
	if r := s.refused(); len(r) != 1 || r[0].request != "0101" {
		t.Errorf("refused: %v", r)
	}
}

// Whatever a car takes in one request and whichever PIDs make a set fail: soon every
// other PID rides, the culprits are asked alone, sets are as large as the car takes,
// and nothing more fails.
func TestSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 16).Draw(t, "pids")
		most := rapid.IntRange(1, maxPIDs).Draw(t, "most")
		culprits := rapid.SliceOfNDistinct(rapid.IntRange(1, n), 0, min(3, n-1), rapid.ID).Draw(t, "culprits")
		refusal := rapid.SampledFrom([]outcome{rejected, unheard}).Draw(t, "refusal")
		rates := slices.Repeat([]float64{5}, n)
		s := plan(rates, true, 0)
		refuses := func(tasks []*task) bool {
			return len(tasks) > most || len(tasks) > 1 && slices.ContainsFunc(tasks, func(x *task) bool { return slices.Contains(culprits, int(x.pid)) })
		}
		failures, largest := 0, 0
		s.run(30*time.Second, time.Millisecond, func(tasks []*task) (outcome, func(*task) bool) {
			if refuses(tasks) {
				return refusal, func(*task) bool { return false }
			}
			return allAnswer(tasks)
		}, func(tasks []*task, at time.Duration) {
			if refuses(tasks) {
				if failures++; at > 20*time.Second {
					t.Fatalf("a set of %d still fails at %v", len(tasks), at)
				}
			} else if at > 20*time.Second {
				largest = max(largest, len(tasks))
			}
		})
		if failures > 60 {
			t.Errorf("%d requests failed", failures)
		}
		riders := n - len(culprits)
		if want := max(1, min(most, riders)); largest < want {
			t.Errorf("the largest set is of %d, could be %d", largest, want)
		}
		for _, x := range s.tasks {
			if x.refused {
				t.Errorf("PID %02X counts as refused", x.pid)
			}
		}
	})
}

// A car that falls silent for a while costs nothing lasting: neither sets nor
// parameters are at fault. It is silent in the middle and at the start.
func TestGlitches(t *testing.T) {
	for _, multi := range []bool{true, false} {
		for _, begin := range []int{0, 50, 120} {
			s := plan(slices.Repeat([]float64{5}, 6), multi, 0)
			count, late := 0, map[int]int{}
			s.run(100*time.Second, time.Millisecond, func(tasks []*task) (outcome, func(*task) bool) {
				if count++; count >= begin && count < begin+40 || count%97 < 6 && count < begin+200 {
					return unheard, func(*task) bool { return false }
				}
				return allAnswer(tasks)
			}, func(tasks []*task, at time.Duration) {
				if at > 90*time.Second {
					late[len(tasks)]++
				}
			})
			if want := map[bool]int{true: 6, false: 1}[multi]; late[want] < 45 || len(late) > 1 {
				t.Errorf("silent from request %d on, sets %v: sizes in the end %v", begin, multi, late)
			}
			for _, x := range s.tasks {
				if x.refused || x.alone {
					t.Errorf("PID %02X counts as refused %v, alone %v", x.pid, x.refused, x.alone)
				}
			}
		}
	}
}

// What was learned by mistake is tried again after some minutes.
func TestRelax(t *testing.T) {
	s := plan(slices.Repeat([]float64{5}, 6), true, 0)
	s.sets.fits, s.sets.tooMany = 1, 2
	for _, x := range s.tasks[:2] {
		x.alone = true
	}
	last := 0
	s.run(40*time.Minute, 10*time.Millisecond, allAnswer, func(tasks []*task, _ time.Duration) { last = len(tasks) })
	if last != 6 {
		t.Errorf("sets of %d in the end", last)
	}
}

// A set that fails by chance once costs nothing lasting.
func TestChance(t *testing.T) {
	s := plan(slices.Repeat([]float64{5}, 6), true, 0)
	count, sizes := 0, map[int]int{}
	s.run(10*time.Second, time.Millisecond, func(tasks []*task) (outcome, func(*task) bool) {
		if count++; count%10 == 0 {
			return unheard, func(*task) bool { return false }
		}
		return allAnswer(tasks)
	}, func(tasks []*task, _ time.Duration) { sizes[len(tasks)]++ })
	if len(sizes) != 1 || sizes[6] < 50 {
		t.Errorf("sizes of sets: %v", slices.Collect(maps.Keys(sizes)))
	}
}
