package budget

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"telemetryd/internal/telemetry"
)

const mb = 1_000_000

// car is a vehicle on a link that costs: what is live always goes, backlog when it may.
type car struct {
	config  Config
	account *Account
	stop    func()

	mu      sync.Mutex
	count   Count         // of the process
	lump    time.Duration // what is sent comes so often
	backlog int           // bytes that wait
	synced  telemetry.Quality
	wrong   time.Duration // of the clock
	codes   []string      // of conditions, as they came
	log     bytes.Buffer
}

// newCar is on the road since 2000-01-01, where the time of synctest begins.
func newCar(t *testing.T, budget uint64) *car {
	c := &car{synced: telemetry.GPS, lump: time.Hour}
	c.config = Config{Path: filepath.Join(t.TempDir(), "usage"), Budget: budget, Day: 1, Health: c, Log: slog.New(slog.NewTextHandler(&c.log, nil)),
		Now: func() (time.Time, telemetry.Quality) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return time.Now().Add(c.wrong), c.synced
		},
		Count: func() Count {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.count
		}}
	c.start()
	return c
}

// start is a start of the daemon.
func (c *car) start() {
	c.count = Count{}
	c.account = Open(c.config)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.account.Run(ctx) })
	c.stop = func() {
		cancel()
		running.Wait()
	}
}

// Set implements Health.
func (c *car) Set(source string, x telemetry.Condition) { c.said(source, x.Code) }

// Clear implements Health.
func (c *car) Clear(source, _ string) { c.said(source, "") }

func (c *car) said(source, code string) {
	if source == "data_budget" && (len(c.codes) == 0 && code != "" || len(c.codes) > 0 && c.codes[len(c.codes)-1] != code) {
		c.codes = append(c.codes, code)
	}
}

// drive is so many hours in which so much is sent live, and backlog as fast as it may.
func (c *car) drive(hours int, live uint64) {
	for range time.Duration(hours) * time.Hour / c.lump {
		c.mu.Lock()
		now := live * uint64(c.lump/time.Minute) / 60
		c.count.Sent += now - now/10
		c.count.Received += now / 10
		c.mu.Unlock()
		for c.backlog > 0 && c.account.Backlog() {
			c.mu.Lock()
			c.count.Sent += 1000
			c.backlog -= 1000
			c.mu.Unlock()
		}
		time.Sleep(c.lump)
		synctest.Wait()
	}
}

// A month: what is live needs 31 of 62 MB, 100 MB of backlog wait. The backlog gets what
// is left, a part each day, the budget holds, and the rest goes on in the next month.
func TestBacklogGetsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCar(t, 62*mb)
		defer func() { c.stop() }()
		c.backlog = 100 * mb
		for day := range 31 {
			before := c.backlog
			c.drive(8, mb/8)
			c.drive(16, 0)
			if sent := before - c.backlog; sent > 4*mb || day == 0 && sent < mb/2 {
				t.Errorf("%d bytes of backlog on day %d", sent, day)
			}
			if c.account.Spent() {
				t.Fatalf("used up on day %d", day)
			}
			if s := c.account.Status(); day == 29 && (s.SentBytes+s.ReceivedBytes > 62*mb || s.SentBytes+s.ReceivedBytes < 57*mb) {
				t.Errorf("%+v", s)
			}
		}
		if n := len(c.codes); n > 140 || slices.Contains(c.codes, "data_budget_spent") {
			t.Errorf("%d changes: %q", n, c.codes)
		}
		before := c.backlog
		c.drive(24, 0)
		if sent := before - c.backlog; sent < mb || sent > 3*mb {
			t.Errorf("%d bytes of backlog on the first day of the next month", sent)
		}
		if s := c.account.Status(); s.Since != "2000-02-01T00:00:00.000Z" {
			t.Errorf("%+v", s)
		}
	})
}

// The order, told once each: first the backlog waits, then live values are few, and all
// returns at the month's turn.
func TestOrderOfSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCar(t, 60*mb)
		defer func() { c.stop() }()
		var steps []string
		for range 40 * 24 {
			c.backlog = 1000
			c.drive(1, 4*mb/24)
			step := "free"
			switch {
			case c.account.Spent():
				step = "few"
			case !c.account.Backlog():
				step = "no backlog"
			}
			if len(steps) == 0 || steps[len(steps)-1] != step {
				steps = append(steps, step)
			}
		}
		if want := []string{"free", "no backlog", "few", "free", "no backlog"}; !slices.Equal(steps, want) {
			t.Errorf("%q", steps)
		}
		if want := []string{"data_budget_ahead", "data_budget_spent", "", "data_budget_ahead"}; !slices.Equal(c.codes, want) {
			t.Errorf("%q", c.codes)
		}
	})
}

// Without a budget nothing is held back, and what is used is counted all the same.
func TestNoBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCar(t, 0)
		defer func() { c.stop() }()
		c.backlog = 500 * mb
		c.drive(1, 100*mb)
		if c.backlog != 0 || c.account.Spent() || c.codes != nil || c.account.Status() != nil {
			t.Errorf("%d wait, %q", c.backlog, c.codes)
		}
		c.stop()
		c.account.Close()
		c.config.Budget = 1000 * mb
		c.start()
		if s := c.account.Status(); s.SentBytes+s.ReceivedBytes < 599*mb {
			t.Errorf("%+v", s)
		}
	})
}

// A stop loses nothing, a power cut three minutes or 1 MiB at most; a damaged file is said.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCar(t, 60*mb)
		c.lump = time.Minute
		c.drive(5, mb)
		want := *c.account.Status()
		c.stop()
		c.account.Close()
		time.Sleep(100 * time.Hour)
		c.start()
		if got := *c.account.Status(); got.SentBytes != want.SentBytes || got.ReceivedBytes != want.ReceivedBytes || got.Since != want.Since {
			t.Errorf("%+v after a restart, before %+v", got, want)
		}
		for _, perHour := range []uint64{mb, 600 * mb} {
			before := c.account.Status()
			c.drive(1, perHour/10) // a little at first, so that the time of saving is any
			c.drive(1, perHour)
			now := c.account.Status()
			c.stop() // as a power cut does, without Close
			c.start()
			lost := now.SentBytes + now.ReceivedBytes - c.account.Status().SentBytes - c.account.Status().ReceivedBytes
			// Saved every three minutes, or at the first look after 1 MiB; in drive a minute's
			// bytes come at once.
			if bound := perHour / 60 * 4; lost > bound || now.SentBytes == before.SentBytes {
				t.Errorf("%d bytes lost at %d an hour, bound %d", lost, perHour, bound)
			}
			if perHour > 100*mb && lost > saveBytes {
				t.Errorf("%d bytes lost at %d an hour", lost, perHour)
			}
		}
		c.stop()
		if err := os.WriteFile(c.config.Path, []byte(`{"format":1,"month":{"se`), 0o600); err != nil {
			t.Fatal(err)
		}
		c.start()
		if s := c.account.Status(); s.SentBytes != 0 || !strings.Contains(c.log.String(), "it is counted anew") {
			t.Errorf("%+v, said %s", s, c.log.String())
		}
		c.stop()
	})
}

// While nobody has set the clock, the month stays; what was counted before any month was
// known is of the first.
func TestUnsyncedClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCar(t, 60*mb)
		defer func() { c.stop() }()
		c.synced, c.wrong = telemetry.Unsynced, -30*365*24*time.Hour // 1970
		c.stop()
		if err := os.RemoveAll(c.config.Path); err != nil {
			t.Fatal(err)
		}
		c.start()
		c.drive(2, mb)
		if s := c.account.Status(); s.Since != "" || s.SentBytes+s.ReceivedBytes < 19*mb/10 {
			t.Errorf("%+v", s)
		}
		c.mu.Lock()
		c.synced, c.wrong = telemetry.GPS, 0
		c.mu.Unlock()
		c.drive(1, mb)
		if s := c.account.Status(); !strings.HasPrefix(s.Since, "2000-01-01T02:00:") || s.SentBytes+s.ReceivedBytes < 29*mb/10 {
			t.Errorf("%+v", s)
		}
		c.mu.Lock()
		c.synced, c.wrong = telemetry.Unsynced, 400*24*time.Hour
		c.mu.Unlock()
		c.drive(1, mb)
		if s := c.account.Status(); !strings.HasPrefix(s.Since, "2000-01-01T02:00:") || s.SentBytes+s.ReceivedBytes < 39*mb/10 || s.ForecastBytes != s.SentBytes+s.ReceivedBytes {
			t.Errorf("%+v", s)
		}
	})
}

// A disk that takes nothing is said, and the account goes on in memory.
func TestNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCar(t, 60*mb)
		defer func() { c.stop() }()
		c.stop()
		var kept []string
		c.config.Path = filepath.Join(t.TempDir(), "none", "usage")
		c.config.Health = healthFunc(func(source, code string) {
			if source == "data_use" {
				kept = append(kept, code)
			}
		})
		c.start()
		c.drive(1, mb)
		if len(kept) == 0 || kept[0] != "data_use_not_kept" || c.account.Status().SentBytes == 0 {
			t.Errorf("%q, %+v", kept, c.account.Status())
		}
		if err := os.Mkdir(filepath.Dir(c.config.Path), 0o700); err != nil {
			t.Fatal(err)
		}
		c.drive(1, mb)
		if kept[len(kept)-1] != "" {
			t.Errorf("%q", kept)
		}
	})
}

type healthFunc func(source, code string)

func (f healthFunc) Set(source string, c telemetry.Condition) { f(source, c.Code) }
func (f healthFunc) Clear(source, _ string)                   { f(source, "") }
