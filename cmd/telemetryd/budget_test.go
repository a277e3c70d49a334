package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
)

// A budget that is used up at once: the backlog stays in the buffer and live values are
// few, over a restart, too; events and status go. With a larger one all that waited comes,
// and nothing is missing.
func TestDataBudget(t *testing.T) {
	t.Parallel()
	v := startVehicle(t)
	v.setWallClock(t, "0s synced")
	state := t.TempDir()
	away := startDaemon(t, &mosquitto{t: t, port: freePort(t)}, v, state)
	time.Sleep(12 * time.Second) // a backlog
	away.end(syscall.SIGTERM)

	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	lastStatus := func(ms []message) (st telemetry.Status) {
		if list := onTopic(ms, "status"); len(list) > 0 {
			if err := json.Unmarshal([]byte(list[len(list)-1].Payload), &st); err != nil {
				t.Error(err)
			}
		}
		return st
	}
	told := func(st telemetry.Status) bool {
		for _, c := range st.Health {
			if c.Code == "data_budget_spent" {
				return true
			}
		}
		return false
	}
	// The month of the plan has begun some days ago at most: a day has little of the budget.
	day := strconv.Itoa(min(time.Now().UTC().Day(), 28))
	d := startDaemon(t, m, v, state, "--data-budget", "10kB", "--data-budget-day", day)
	ms := s.await("a budget that is used up", 60*time.Second, func(ms []message) bool { return told(lastStatus(ms)) })
	// A day's part, 0.4 kB at most, and what was under way until that was counted: 4 KiB at
	// first (publish), and the batch that passes it.
	if n := len(joined(onTopic(ms, "backfill"))); n > 6000 {
		t.Errorf("%d bytes of the backlog came", n)
	}
	if took := d.end(syscall.SIGTERM); took > 2*time.Second || d.err != nil {
		t.Errorf("SIGTERM: %v after %v", d.err, took)
	}

	before := len(s.messages())
	d = startDaemon(t, m, v, state, "--data-budget", "10kB", "--data-budget-day", day)
	s.await("the event of the new stream, and its status", 20*time.Second, func(ms []message) bool {
		e := onTopic(ms[before:], "events")
		return len(e) > 0 && e[len(e)-1].Type == "stream_start" && told(lastStatus(ms))
	})
	time.Sleep(25 * time.Second) // what is proven is what does not come
	d.end(syscall.SIGTERM)
	ms = s.await("offline status", 10*time.Second, func(ms []message) bool { return lastStatus(ms).State == telemetry.Offline })
	if st := lastStatus(ms); st.Data == nil || st.Data.BudgetBytes != 10e3 || st.Data.SentBytes+st.Data.ReceivedBytes < 10e3 || st.Data.ForecastBytes < 10e3 || st.Data.Since == "" {
		t.Errorf("%+v", st.Data)
	}
	live := joined(onTopic(ms[before:], "telemetry"))
	for _, name := range []string{`"vehicle_speed_kmh"`, `"fuel_level_pct"`, `"latitude"`} {
		if n := strings.Count(live, name); n < 1 || n > 3 {
			t.Errorf("%d of %s in 30 s:\n%s", n, name, live)
		}
	}
	if n := len(onTopic(ms[before:], "backfill")); n > 0 {
		t.Errorf("%d batches of the backlog came", n)
	}

	d = startDaemon(t, m, v, state, "--data-budget", "100MB", "--data-budget-day", day)
	s.await("the backlog", 30*time.Second, func(ms []message) bool { return len(joined(onTopic(ms, "backfill"))) > 10000 })
	time.Sleep(3 * time.Second) // some that is live
	d.end(syscall.SIGTERM)
	ms = s.await("offline status", 10*time.Second, func(ms []message) bool {
		st := lastStatus(ms)
		return st.State == telemetry.Offline && st.Data != nil && st.Data.BudgetBytes == 100e6 && !told(st)
	})
	if n := checkLedger(t, ms, lastStatus(ms).LastSeq); n != 4 {
		t.Errorf("%d streams, want 4", n)
	}
}
