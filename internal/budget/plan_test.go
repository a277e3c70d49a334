package budget

import (
	"strings"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	x, err := time.Parse("2006-01-02 15:04", s)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestMonthOf(t *testing.T) {
	for _, test := range []struct {
		now      string
		day      int
		from, to string
	}{
		{"2026-11-25 15:00", 1, "2026-11-01 00:00", "2026-12-01 00:00"},
		{"2026-11-01 00:00", 1, "2026-11-01 00:00", "2026-12-01 00:00"},
		{"2026-11-30 23:59", 1, "2026-11-01 00:00", "2026-12-01 00:00"},
		{"2026-12-31 23:59", 1, "2026-12-01 00:00", "2027-01-01 00:00"},
		{"2027-01-05 12:00", 15, "2026-12-15 00:00", "2027-01-15 00:00"},
		{"2027-03-27 23:59", 28, "2027-02-28 00:00", "2027-03-28 00:00"},
		{"2027-03-28 00:00", 28, "2027-03-28 00:00", "2027-04-28 00:00"},
	} {
		now := at(t, test.now).In(time.FixedZone("far east", 11*3600))
		if from, to := monthOf(now, test.day); !from.Equal(at(t, test.from)) || !to.Equal(at(t, test.to)) {
			t.Errorf("%s, day %d: %v to %v", test.now, test.day, from, to)
		}
	}
}

func TestForecast(t *testing.T) {
	const mb = 1e6
	for name, test := range map[string]struct {
		since          string
		sent, received uint64
		now            string
		want           uint64
	}{
		"half of the month":            {"2026-11-01 00:00", 90 * mb, 10 * mb, "2026-11-16 00:00", 200 * mb},
		"first hour: as a day":         {"2026-11-01 00:00", 1 * mb, 0, "2026-11-01 01:00", 30_958_333},
		"end of the first day":         {"2026-11-01 00:00", 1 * mb, 0, "2026-11-02 00:00", 30 * mb},
		"nothing yet":                  {"2026-11-01 00:00", 0, 0, "2026-11-01 00:00", 0},
		"counted since the 21st":       {"2026-11-21 00:00", 10 * mb, 0, "2026-11-26 00:00", 20 * mb},
		"the last moment":              {"2026-11-01 00:00", 90 * mb, 10 * mb, "2026-12-01 00:00", 100 * mb},
		"a guess after the end":        {"2026-11-01 00:00", 90 * mb, 10 * mb, "2027-12-01 00:00", 100 * mb},
		"a guess before the beginning": {"2026-11-01 00:00", 1 * mb, 0, "1970-01-01 00:00", 31 * mb},
	} {
		u := Use{From: at(t, "2026-11-01 00:00"), To: at(t, "2026-12-01 00:00"), Since: at(t, test.since), Sent: test.sent, Received: test.received}
		if got := u.Forecast(at(t, test.now)); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
	unknown := Use{Sent: 5, Received: 2} // before the time was known once
	if got := unknown.Forecast(time.Unix(100, 0)); got != 7 {
		t.Errorf("%d without a month", got)
	}
}

// The order: backlog is paced by the forecast, and only what is really used makes live
// values few. What is near a limit does not flap.
func TestJudge(t *testing.T) {
	for _, test := range []struct {
		budget, used, forecast uint64
		before, want           Step
	}{
		{0, 1e12, 1e15, Free, Free},
		{1000, 0, 0, Free, Free},
		{1000, 100, 999, Free, Free},
		{1000, 100, 1000, Free, Paced},
		{1000, 100, 5000, Free, Paced},
		{1000, 100, 960, Paced, Paced},
		{1000, 100, 950, Paced, Free},
		{1000, 999, 999, Free, Free},
		{1000, 999, 999, Paced, Paced},
		{1000, 1000, 1000, Free, Spent},
		{1000, 2000, 2000, Paced, Spent},
		{1000, 2000, 2000, Spent, Spent},
		{2000, 1000, 1500, Spent, Free}, // raised
		{2000, 1000, 1950, Spent, Paced},
		{1000, 0, 0, Spent, Free}, // a new month
	} {
		if got := Judge(test.budget, test.used, test.forecast, test.before); got != test.want {
			t.Errorf("%+v: %d", test, got)
		}
	}
}

// The room for backlog is what brings the forecast to the budget, and not over it.
func TestRoom(t *testing.T) {
	u := Use{From: at(t, "2026-11-01 00:00"), To: at(t, "2026-12-01 00:00"), Since: at(t, "2026-11-01 00:00"), Sent: 40_000}
	for _, test := range []struct {
		now    string
		budget uint64
		step   Step
		want   uint64
	}{
		{"2026-11-11 00:00", 0, Free, 1 << 62},
		{"2026-11-11 00:00", 600_000, Free, 160_000}, // 200,000 a third of the month
		{"2026-11-11 00:00", 600_000, Paced, 0},
		{"2026-11-11 00:00", 600_000, Spent, 0},
		{"2026-11-11 00:00", 120_000, Free, 0},
		{"2026-11-01 00:00", 3_100_000, Free, 60_000}, // a day's part at once
		{"2026-12-01 00:00", 600_000, Free, 560_000},
	} {
		now := at(t, test.now)
		got := u.room(test.budget, test.step, now)
		if got != test.want {
			t.Errorf("%+v: %d", test, got)
		}
		after := u
		after.Received += got
		if f := after.Forecast(now); test.budget > 0 && f > test.budget {
			t.Errorf("%+v: forecast %d behind it", test, f)
		}
	}
}

// What is told at each step: what holds, until when, and what to do.
func TestCondition(t *testing.T) {
	end := at(t, "2026-12-01 00:00")
	if c, ok := condition(Free, 1e9, 1, end); ok {
		t.Errorf("%+v", c)
	}
	c, ok := condition(Paced, 500e6, 612e6, end)
	if !ok || c.Code != "data_budget_ahead" || c.Severity != telemetry.Info || c.Title != "At this rate the data budget of 500 MB will not last until 2026-12-01: 612 MB by then" {
		t.Errorf("%+v", c)
	}
	c, ok = condition(Spent, 1.5e9, 2e9, end)
	if !ok || c.Code != "data_budget_spent" || c.Severity != telemetry.Warning || c.Title != "The data budget of 1.5 GB is used up until 2026-12-01" || !strings.Contains(c.Remedy, "--data-budget") {
		t.Errorf("%+v", c)
	}
	if c, _ = condition(Spent, 50e3, 0, time.Time{}); c.Title != "The data budget of 50 kB is used up until the month of the plan ends" {
		t.Errorf("%+v", c)
	}
}

// The month turns forward only when it is over; what a wrong date or another day of the
// plan mixes up counts in the month that is.
func TestTurn(t *testing.T) {
	use := func(from, to, since string, n uint64) Use {
		return Use{From: at(t, from+" 00:00"), To: at(t, to+" 00:00"), Since: at(t, since), Sent: n, Received: n}
	}
	november := use("2026-11-01", "2026-12-01", "2026-11-01 00:00", 5)
	for name, test := range map[string]struct {
		before months
		now    string
		day    int
		want   months
	}{
		"the same month":   {months{Month: november}, "2026-11-30 23:59", 1, months{Month: november}},
		"the first":        {months{Month: Use{Sent: 5, Received: 5}}, "2026-11-20 10:00", 1, months{Month: use("2026-11-01", "2026-12-01", "2026-11-20 10:00", 5)}},
		"the next":         {months{Month: november}, "2026-12-01 00:00", 1, months{Month: use("2026-12-01", "2027-01-01", "2026-12-01 00:00", 0), Before: november}},
		"off for a year":   {months{Month: november}, "2027-11-10 00:00", 1, months{Month: use("2027-11-01", "2027-12-01", "2027-11-01 00:00", 0), Before: november}},
		"a date was wrong": {months{Month: use("2030-01-01", "2030-02-01", "2030-01-01 00:00", 2), Before: november}, "2026-11-20 10:00", 1, months{Month: use("2026-11-01", "2026-12-01", "2026-11-01 00:00", 7)}},
		"it was wrong from the beginning": {months{Month: use("2030-01-01", "2030-02-01", "2030-01-10 00:00", 2)}, "2026-11-20 10:00", 1,
			months{Month: use("2026-11-01", "2026-12-01", "2026-11-01 00:00", 2)}},
		"another day of the plan": {months{Month: november}, "2026-11-20 10:00", 15, months{Month: use("2026-11-15", "2026-12-15", "2026-11-01 00:00", 5)}},
	} {
		m := test.before
		m.turn(at(t, test.now), test.day)
		if m != test.want {
			t.Errorf("%s:\n%+v, want\n%+v", name, m, test.want)
		}
	}
}
