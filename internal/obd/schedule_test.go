package obd

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Over any rates, ceiling and answer times: the ceiling holds, a request names at most
// six PIDs (one, where the bus takes one), and no task starves.
func TestSchedule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rates := map[byte]float64{}
		for pid := range rapid.IntRange(1, 12).Draw(t, "pids") {
			rates[byte(pid+1)] = rapid.SampledFrom([]float64{0.1, 1, 5, 10}).Draw(t, "rate")
		}
		multi := rapid.Bool().Draw(t, "multi")
		ceiling := rapid.SampledFrom([]float64{0, 5, 20}).Draw(t, "ceiling")
		answer := time.Duration(rapid.IntRange(20, 100).Draw(t, "answer ms")) * time.Millisecond
		s := newSchedule(rates, 0, multi, ceiling, 0)
		served := map[byte]int{}
		last := -time.Hour
		total := 0.0
		for _, rate := range rates {
			total += rate
		}
		// The worst budget: one PID a request, 100 ms and 5 requests a second. Long
		// enough for three turns of the slowest.
		share := min(1, 5/total)
		span := time.Duration(3 / (0.1 * share) * float64(time.Second))
		for now := time.Duration(0); now < span; {
			tasks, at := s.next(now)
			now = max(now, at)
			if n := len(tasks); n == 0 || n > maxPIDs || !multi && n > 1 {
				t.Fatalf("%d tasks", n)
			}
			if gap := now - last; ceiling > 0 && gap < time.Duration(float64(time.Second)/ceiling)-1 {
				t.Fatalf("%v after the last request, the ceiling is %v a second", gap, ceiling)
			}
			last = now
			s.sent(now)
			seen := map[byte]bool{}
			for _, x := range tasks {
				if seen[x.pid] {
					t.Fatalf("PID %02X twice", x.pid)
				}
				seen[x.pid] = true
				served[x.pid]++
				x.done(now, true)
			}
			now += answer
		}
		for pid, rate := range rates {
			if got, fair := float64(served[pid]), rate*share*span.Seconds(); got < max(1, fair/2) {
				t.Errorf("PID %02X at %v Hz was served %v times, fair is %v", pid, rate, got, fair)
			}
		}
	})
}

// What is due soon rides along.
func TestPacking(t *testing.T) {
	s := newSchedule(map[byte]float64{0x0C: 5, 0x0D: 5, 0x05: 0.1}, 0, true, 20, 0)
	tasks, _ := s.next(0)
	if len(tasks) != 3 {
		t.Fatalf("%d tasks at the start", len(tasks))
	}
	for _, x := range tasks {
		x.done(0, true)
	}
	tasks, at := s.next(10 * time.Millisecond)
	if len(tasks) != 2 || at != 200*time.Millisecond {
		t.Errorf("%d tasks at %v", len(tasks), at)
	}
}

// A PID that never answers is asked alone, and seldom.
func TestMissedAlone(t *testing.T) {
	s := newSchedule(map[byte]float64{0x0C: 5, 0x0D: 5}, 0, true, 0, 0)
	for now := time.Duration(0); now < 10*time.Second; {
		tasks, at := s.next(now)
		now = max(now, at)
		for _, x := range tasks {
			x.done(now, x.pid == 0x0C)
		}
		if now > 2*time.Second && len(tasks) > 1 {
			t.Fatal("the silent PID still rides along")
		}
	}
}

// A set that gives nothing is taken apart, and in the end sets are given up.
func TestSuspect(t *testing.T) {
	s := newSchedule(map[byte]float64{0x0C: 5, 0x0D: 5}, 0, true, 0, 0)
	now := time.Duration(0)
	for range 50 {
		tasks, at := s.next(now)
		now = max(now, at)
		if len(tasks) > 1 {
			s.suspect(tasks)
			continue
		}
		tasks[0].done(now, true)
	}
	if s.multi {
		t.Error("sets are still tried")
	}
}
