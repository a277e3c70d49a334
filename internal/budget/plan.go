package budget

import (
	"fmt"
	"time"

	"telemetryd/internal/telemetry"
)

// Everything here is a function of its arguments: the budget, what is used, and the time.

// Use is what one month of the plan has taken, in bytes.
type Use struct {
	From     time.Time `json:"from,omitzero"`  // of the month; zero until the time was known once
	To       time.Time `json:"to,omitzero"`    // the first moment of the next
	Since    time.Time `json:"since,omitzero"` // when counting began, where that was later than From
	Sent     uint64    `json:"sent"`           // headers of TCP and IP included, as are all
	Received uint64    `json:"received"`
}

// Total is what the plan counts: both ways.
func (u Use) Total() uint64 { return u.Sent + u.Received }

// monthOf is the month of a plan that begins on a day (1 to 28), in UTC, at t.
func monthOf(t time.Time, day int) (from, to time.Time) {
	t = t.UTC()
	from = time.Date(t.Year(), t.Month(), day, 0, 0, 0, 0, time.UTC)
	if from.After(t) {
		from = from.AddDate(0, -1, 0)
	}
	return from, from.AddDate(0, 1, 0)
}

// firstDay is the least time that a rate is taken over: else the first drive of a month
// would be taken for the whole of it.
const firstDay = 24 * time.Hour

// Forecast is what the month comes to: what is used, and for the rest of the month the
// same per time as since counting began, parked hours and all, but over a day at least.
func (u Use) Forecast(now time.Time) uint64 { return uint64(float64(u.Total()) * u.scale(now)) }

// scale is what a byte used until now adds to the forecast.
func (u Use) scale(now time.Time) float64 {
	if now.Before(u.Since) { // a guess
		now = u.Since
	}
	elapsed, rest := max(now.Sub(u.Since), firstDay), max(u.To.Sub(now), 0)
	return 1 + rest.Seconds()/elapsed.Seconds()
}

// room is how much backlog may be sent at a step until it is judged again: what the
// forecast has room for. So the budget is spread over the month evenly, and what is live
// finds its part of it on the last day, too.
func (u Use) room(budget uint64, s Step, now time.Time) uint64 {
	switch {
	case s != Free:
		return 0
	case budget == 0:
		return 1 << 62
	}
	return uint64(float64(budget-min(budget, u.Forecast(now))) / u.scale(now))
}

// Step is how much is held back. Events and status never are.
type Step int

// The steps, in their order.
const (
	Free  Step = iota // nothing
	Paced             // backlog: the month is ahead of an even spread of the budget
	Spent             // backlog; and of what is live, all but a value now and then
)

// again is the part of the budget that the forecast has to be under for backlog to go on:
// else it would go a message at a time.
const again = 0.95

// Judge is the step for a month that has used so much and will come to forecast, where
// before is the step until now. A budget of 0 is none.
func Judge(budget, used, forecast uint64, before Step) Step {
	switch {
	case budget == 0:
		return Free
	case used >= budget:
		return Spent
	case forecast >= budget, before != Free && float64(forecast) > again*float64(budget):
		return Paced
	}
	return Free
}

// condition is what a person is told at a step; ok is false where there is nothing to tell.
func condition(s Step, budget, forecast uint64, to time.Time) (c telemetry.Condition, ok bool) {
	until := "the month of the plan ends"
	if !to.IsZero() {
		until = to.Format(time.DateOnly)
	}
	switch s {
	case Paced:
		return telemetry.Condition{Code: "data_budget_ahead", Severity: telemetry.Info,
			Title: fmt.Sprintf("At this rate the data budget of %s will not last until %s: %s by then", size(budget), until, size(forecast)),
			Remedy: "live data and events go on, the backlog waits until there is room. To need less: --compress zstd, --batch-form columns, a longer --batch-interval, " +
				"fewer or slower --signals; to allow more: --data-budget"}, true
	case Spent:
		return telemetry.Condition{Code: "data_budget_spent", Severity: telemetry.Warning,
			Title: fmt.Sprintf("The data budget of %s is used up until %s", size(budget), until),
			Remedy: "until then the backlog waits in the buffer, and live data are few: a value of each signal every quarter of a minute, in batches of a minute; " +
				"events go on. To end it: a larger --data-budget"}, true
	}
	return c, false
}

// size is a number of bytes for people, as --data-budget takes it.
func size(n uint64) string {
	for _, unit := range []struct {
		bytes uint64
		name  string
	}{{1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
		if n >= unit.bytes {
			return fmt.Sprintf("%.3g %s", float64(n)/float64(unit.bytes), unit.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
