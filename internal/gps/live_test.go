package gps

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
)

// live feeds sentences at set times and notes what is delivered when.
type live struct {
	*decoder
	at    time.Duration
	fixes []string // "12:00:00 at 1.25s: names of the fields"
}

func newLive() *live {
	l := &live{}
	l.decoder = newDecoder(true, time.Time{}, &Counters{}, func(r telemetry.Reading) {
		var names []string
		for _, f := range r.Fields {
			names = append(names, strings.SplitN(f.Name, "_", 2)[0])
		}
		l.fixes = append(l.fixes, fmt.Sprintf("%s at %v of %v: %s", r.FixTime.Format(time.TimeOnly), l.at, r.Arrived, strings.Join(names, " ")))
	}, func(Reason, string) {})
	return l
}

// hear brings bodies, each as a chunk 10 ms after the one before, from at on.
func (l *live) hear(at time.Duration, bodies ...string) {
	for _, b := range bodies {
		l.wait(at)
		l.feed([]byte(say(b)), at)
		at += 10 * ms
	}
}

// wait lets time pass as a listener does.
func (l *live) wait(until time.Duration) {
	for l.at < until {
		step := until - l.at
		if d := l.silence(); d > 0 {
			if left := l.assembler.heard + d - l.at; left > 0 {
				step = min(step, left)
			}
		}
		l.at += step
		if l.at < until {
			l.quiet(l.at)
		}
	}
}

func (l *live) want(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(l.fixes, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(l.fixes, "\n  "), strings.Join(want, "\n  "))
	}
	l.fixes = nil
}

func rmcAt(n int) string { return fmt.Sprintf("GPRMC,1200%02d,A,%s,,,231126,,", n, where) }
func ggaAt(n int) string { return fmt.Sprintf("GPGGA,1200%02d,%s,1,,0.9,519.2,M,47.0,M,,", n, where) }
func gllAt(n int) string { return fmt.Sprintf("GPGLL,%s,1200%02d,A", where, n) }

const (
	vtgBody = "GPVTG,90.0,T,,M,10.0,N,18.5,K"
	gsaBody = "GPGSA,A,3,,,,,,,,,,,,,1.6,0.8,1.3"
)

const sec = time.Second

func TestSilenceEndsAnEpoch(t *testing.T) {
	l := newLive()
	l.hear(1*sec, rmcAt(1), ggaAt(1))
	l.wait(1150 * ms)
	l.want(t)
	l.wait(1990 * ms)
	l.want(t, "12:00:01 at 1.16s of 1.01s: latitude longitude altitude hdop fix")
}

// Bytes of any kind are no silence.
func TestNoSilenceInNoise(t *testing.T) {
	l := newLive()
	l.hear(1*sec, rmcAt(1), "GPTXT,1", "GPTXT,2")
	for i := range 9 {
		l.hear(1100*ms+time.Duration(i)*100*ms, "SDHDG,229.8,,,1.3,E")
	}
	l.want(t)
	l.hear(2*sec, rmcAt(2))
	l.want(t, "12:00:01 at 2s of 1s: latitude longitude")
}

// A cycle that has ended five times alike is known.
func TestCadenceIsLearned(t *testing.T) {
	l := newLive()
	for n := 1; n <= 5; n++ {
		l.hear(time.Duration(n)*sec, rmcAt(n), gsaBody, gsaBody, "GPGSV,1,1,00")
	}
	l.wait(5900 * ms)
	l.fixes = nil
	l.hear(6*sec, rmcAt(6), gsaBody)
	l.want(t) // the first of two GSA
	l.hear(6020*ms, gsaBody)
	l.want(t, "12:00:06 at 6.02s of 6.02s: latitude longitude hdop fix")
	l.hear(6030*ms, "GPGSV,1,1,00")
	l.wait(6900 * ms)
	l.want(t)
	l.hear(7*sec, rmcAt(7), gsaBody, gsaBody)
	l.want(t, "12:00:07 at 7.02s of 7.02s: latitude longitude hdop fix")
}

// A sentence after the known end is delivered and makes the end unknown.
func TestCadenceIsUnlearned(t *testing.T) {
	l := newLive()
	for n := 1; n <= 5; n++ {
		l.hear(time.Duration(n)*sec, rmcAt(n), ggaAt(n))
	}
	l.wait(5900 * ms)
	l.fixes = nil
	l.hear(6*sec, rmcAt(6), ggaAt(6), vtgBody, gsaBody)
	l.wait(6900 * ms)
	l.want(t,
		"12:00:06 at 6.01s of 6.01s: latitude longitude altitude hdop fix",
		"12:00:06 at 6.18s of 6.03s: gps heading")
	for n := 7; n <= 16; n++ { // now ten times alike
		l.hear(time.Duration(n)*sec, rmcAt(n), ggaAt(n))
	}
	l.wait(16900 * ms)
	if got := l.fixes[9]; !strings.HasPrefix(got, "12:00:16 at 16.16s") || len(l.fixes) != 10 {
		t.Errorf("%d fixes, the tenth %s", len(l.fixes), got)
	}
	l.fixes = nil
	l.hear(17*sec, rmcAt(17), ggaAt(17))
	l.want(t, "12:00:17 at 17.01s of 17.01s: latitude longitude altitude hdop fix")
	if got := l.decoder.counters.Fixes(); got != 17 {
		t.Errorf("%d fixes counted, want one for each epoch", got)
	}
}

// A late sentence that says nothing new makes no second reading.
func TestLateWithoutNews(t *testing.T) {
	l := newLive()
	for n := 1; n <= 5; n++ {
		l.hear(time.Duration(n)*sec, rmcAt(n))
	}
	l.wait(5900 * ms)
	l.fixes = nil
	l.hear(6*sec, rmcAt(6), gllAt(6))
	l.wait(6900 * ms)
	l.want(t, "12:00:06 at 6s of 6s: latitude longitude fix")
}

// A receiver that pauses within its cycle: nothing is lost, and the silence that
// ends an epoch grows until it is heard out.
func TestPauseWithinACycle(t *testing.T) {
	l := newLive()
	for n := 1; n <= 3; n++ {
		l.hear(time.Duration(n)*sec, rmcAt(n))
		l.hear(time.Duration(n)*sec+250*ms, vtgBody, ggaAt(n))
	}
	l.wait(3900 * ms)
	l.want(t,
		"12:00:01 at 1.15s of 1s: latitude longitude",
		"12:00:01 at 1.56s of 1.26s: altitude gps heading hdop fix",
		"12:00:02 at 2.56s of 2.26s: latitude longitude altitude gps heading hdop fix",
		"12:00:03 at 3.56s of 3.26s: latitude longitude altitude gps heading hdop fix")
}

// After a silence a sentence without a time leads the next cycle.
func TestLeadingVTG(t *testing.T) {
	l := newLive()
	for n := 1; n <= 2; n++ {
		l.hear(time.Duration(n)*sec, vtgBody, rmcAt(n))
	}
	l.wait(2900 * ms)
	l.want(t,
		"12:00:01 at 1.16s of 1.01s: latitude longitude", // the first one's time may have been missed
		"12:00:02 at 2.16s of 2.01s: latitude longitude gps heading fix")
	l.hear(3*sec, vtgBody)
	l.hear(5*sec, rmcAt(5)) // no longer of its cycle
	l.wait(5900 * ms)
	l.want(t, "12:00:05 at 5.15s of 5s: latitude longitude fix")
}

// What comes behind a pause and before a longer one ends the cycle before it.
func TestTrailingVTG(t *testing.T) {
	l := newLive()
	for n := 1; n <= 4; n++ {
		l.hear(time.Duration(n)*sec, rmcAt(n), ggaAt(n))
		l.hear(time.Duration(n)*sec+210*ms, vtgBody)
	}
	l.wait(4900 * ms)
	l.want(t,
		"12:00:01 at 1.16s of 1.01s: latitude longitude altitude hdop fix",
		"12:00:01 at 2s of 1.21s: gps heading",
		"12:00:02 at 2.51s of 2.21s: latitude longitude altitude gps heading hdop fix",
		"12:00:03 at 3.51s of 3.21s: latitude longitude altitude gps heading hdop fix",
		"12:00:04 at 4.51s of 4.21s: latitude longitude altitude gps heading hdop fix")
}

// Sentences without a time do not pile up while no time comes.
func TestWaitingIsBounded(t *testing.T) {
	l := newLive()
	l.hear(1*sec, rmcAt(1))
	for n := 2; n < 100; n++ {
		l.hear(time.Duration(n)*sec, vtgBody)
	}
	if n := len(l.assembler.waiting); n > waitingMost {
		t.Errorf("%d sentences wait", n)
	}
}

// An epoch that is refused is counted once, however often it is looked at.
func TestRefusedOnce(t *testing.T) {
	l := newLive()
	for n := 1; n <= 8; n++ {
		l.hear(time.Duration(n)*sec, ggaAt(n))
	}
	l.wait(9 * sec)
	if got := l.counters.Drops()[NoDate]; got != 8 {
		t.Errorf("%d dropped without a date, want 8", got)
	}
}

// What has come of an epoch says nothing of the mode while the GSA is still missing; it
// comes with it.
func TestModeIsNotGuessed(t *testing.T) {
	l := newLive()
	l.hear(1*sec, rmcAt(1), ggaAt(1), gsaBody)
	l.hear(2*sec, rmcAt(2))
	l.wait(2400 * ms)
	l.hear(2400*ms, gsaBody)
	l.hear(3*sec, rmcAt(3), ggaAt(3), gsaBody)
	l.wait(3900 * ms)
	l.want(t,
		"12:00:01 at 1.17s of 1.02s: latitude longitude altitude hdop fix",
		"12:00:02 at 2.15s of 2s: latitude longitude",
		"12:00:02 at 3s of 2.4s: hdop fix",
		"12:00:03 at 3.32s of 3.02s: latitude longitude altitude hdop fix")
}
