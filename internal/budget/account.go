package budget

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"telemetryd/internal/telemetry"
)

// Health is where conditions are reported.
type Health interface {
	Set(source string, c telemetry.Condition)
	Clear(source, resolved string)
}

// Count is what a process has sent and received since it began, in bytes.
type Count struct {
	Sent, Received uint64 // headers of TCP and IP included; they only grow
}

func (c Count) total() uint64 { return c.Sent + c.Received }

// Config says what to keep account of.
type Config struct {
	Path   string // of the file that keeps it
	Budget uint64 // bytes a month, both ways; 0 for none
	Day    int    // of the month, 1 to 28, on which the plan's begins, at 0 h UTC
	Now    func() (time.Time, telemetry.Quality)
	Count  func() Count // is asked before each message of backlog
	Health Health
	Log    *slog.Logger
}

const (
	// judgeEvery is how often is looked at what was used. Between, backlog is bounded by
	// the room that there was.
	judgeEvery = 10 * time.Second
	// saveEvery and saveBytes bound what a power cut makes the account forget: whichever
	// comes first. More often would wear the card.
	saveEvery = 3 * time.Minute
	saveBytes = 1 << 20
)

// Account is the account of a month. It is safe for concurrent use.
type Account struct {
	Config
	backlogUntil atomic.Uint64 // what Count may come to before backlog has to wait
	spent        atomic.Bool

	mu      sync.Mutex
	months  months
	counted Count // of this process, in months already
	step    Step
	saved   Use // the month as it was saved last
	savedAt time.Time
}

// Open goes on where the file at Path ended. One that is missing or damaged is begun anew.
func Open(c Config) *Account {
	a := &Account{Config: c, savedAt: time.Now()}
	var err error
	if a.months, err = load(c.Path); err != nil {
		c.Log.Warn("what this month has used is lost; it is counted anew", "error", err)
	}
	a.saved = a.months.Month
	a.judge()
	return a
}

// Run keeps the account until ctx ends.
func (a *Account) Run(ctx context.Context) {
	every := time.NewTicker(judgeEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
			if a.judge() {
				a.save()
			}
		case <-ctx.Done():
			return
		}
	}
}

// Close saves the account, when nothing is sent any more.
func (a *Account) Close() {
	a.judge()
	a.save()
}

// Backlog reports whether backlog may be sent now. It costs little: it can be asked before
// each message.
func (a *Account) Backlog() bool { return a.Count().total() < a.backlogUntil.Load() }

// Spent reports whether the budget is used up: live data are to be few.
func (a *Account) Spent() bool { return a.spent.Load() }

// Status is the account for the status message; nil without a budget.
func (a *Account) Status() *telemetry.Data {
	if a.Budget == 0 {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.countLocked()
	u := a.months.Month
	d := &telemetry.Data{SentBytes: u.Sent, ReceivedBytes: u.Received, BudgetBytes: a.Budget, ForecastBytes: u.Forecast(now)}
	if !u.Since.IsZero() {
		d.Since = telemetry.FormatTime(u.Since)
	}
	return d
}

// judge brings the account up to date and decides what is held back. It reports whether
// it is time to save.
func (a *Account) judge() (save bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.countLocked()
	u := a.months.Month
	forecast := u.Forecast(now)
	a.step = Judge(a.Budget, u.Total(), forecast, a.step)
	a.backlogUntil.Store(a.counted.total() + u.room(a.Budget, a.step, now))
	a.spent.Store(a.step == Spent)
	if c, ok := condition(a.step, a.Budget, forecast, u.To); ok {
		a.Health.Set("data_budget", c)
	} else {
		a.Health.Clear("data_budget", "There is room in the data budget again")
	}
	unsaved := u.Total()
	if u.From.Equal(a.saved.From) {
		unsaved -= a.saved.Total()
	}
	return unsaved >= saveBytes || unsaved > 0 && time.Since(a.savedAt) >= saveEvery
}

// countLocked adds what was counted since it was last called, and turns the month when it
// is over. While nobody has set the clock, what is used belongs to the last month that is
// known.
func (a *Account) countLocked() (now time.Time) {
	c := a.Count()
	u := &a.months.Month
	u.Sent += c.Sent - a.counted.Sent
	u.Received += c.Received - a.counted.Received
	a.counted = c
	now, quality := a.Now()
	if quality != telemetry.Unsynced {
		a.months.turn(now, a.Day)
	}
	return now
}

func (a *Account) save() {
	a.mu.Lock()
	m := a.months
	a.mu.Unlock()
	err := m.save(a.Path)
	if err != nil {
		a.Health.Set("data_use", telemetry.Condition{Code: "data_use_not_kept", Severity: telemetry.Warning,
			Title:  fmt.Sprintf("What the data budget has used cannot be kept: %v", err),
			Remedy: "is the disk full or read-only? After a restart what was used since is forgotten"})
		return
	}
	a.Health.Clear("data_use", "What the data budget has used is kept")
	a.mu.Lock()
	a.saved, a.savedAt = m.Month, time.Now()
	a.mu.Unlock()
}
