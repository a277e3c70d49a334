package sim

import (
	"context"
	"time"
)

// receiver is the GPS receiver: each epoch it tells where the vehicle was, if a
// client is there to read it.
type receiver struct {
	line    line
	drive   *drive
	clock   driveClock
	truth   *truthLog
	period  time.Duration
	latency time.Duration
	baud    int
	fixFrom time.Time // no fix before
	late    int       // days that its dates are
}

const (
	gridTime   = 100 * time.Millisecond
	staleAfter = 2 * time.Second // what a client has not read for so long is dropped
	// readAhead is close to the 4095 bytes that can be seen of a pty's queue: so much
	// unread is a sign that its client does not read, however much was written.
	readAhead = 4000
)

func newReceiver(l line, d *drive, clock driveClock, truth *truthLog, c Config) *receiver {
	period := time.Duration(float64(time.Second) / c.GPS.Rate).Round(gridTime)
	late := 0
	if c.GPS.Rollover {
		late = 1024 * 7
	}
	return &receiver{
		late: late,
		line: l, drive: d, clock: clock, truth: truth, period: period, latency: c.GPS.Latency,
		baud: c.GPS.Baud, fixFrom: clock.start.Add(c.GPS.NoFixFor),
	}
}

func (r *receiver) run(ctx context.Context) { serve(ctx, r.line, r.baud, r.session) }

// session sends epochs to one client until it has left. An epoch whose time to
// leave passed while an earlier one was going out is left out.
func (r *receiver) session(ctx context.Context, t *terminal) {
	ctx, cancel := context.WithCancel(ctx)
	drained := make(chan struct{})
	go func() { // what clients write, gpsd's probes, is not for this receiver
		defer close(drained)
		t.drain(ctx)
		cancel() // the client has left
	}()
	defer func() {
		cancel()
		<-drained
	}()
	backlog := newBacklog(t.wire)
	for epoch := r.nextEpoch(time.Now()); ; epoch = epoch.Add(r.period) {
		if now := time.Now(); drift(epoch, now).Abs() > time.Millisecond {
			epoch = r.nextEpoch(now) // the wall clock was set, or disciplined
		}
		due := epoch.Add(r.latency)
		if late := time.Since(due); late > r.period {
			continue
		}
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
			return
		}
		backlog.drop()
		n, err := r.send(ctx, t, epoch)
		if err != nil {
			return
		}
		backlog.sent(n)
	}
}

// nextEpoch is the first epoch after now on the grid of the wall clock. It keeps
// the monotonic reading, so that a step of the clock does not tear the drive.
func (r *receiver) nextEpoch(now time.Time) time.Time {
	wall := now.Round(0)
	return now.Add(wall.Truncate(r.period).Add(r.period).Sub(wall))
}

// drift is how far the wall clock has moved against the monotonic one since
// epoch was computed.
func drift(epoch, now time.Time) time.Duration {
	return now.Round(0).Sub(epoch.Add(now.Sub(epoch)).Round(0))
}

// send sends one epoch and tells how many bytes.
func (r *receiver) send(ctx context.Context, t *terminal, epoch time.Time) (int, error) {
	f := r.measure(epoch)
	essential := f.rmc() + f.vtg() + f.gga() + f.gsa()
	err := t.send(ctx, []byte(essential), false, func(now time.Time) {
		r.truth.add(Truth{T: now, Source: "gps", FixTime: f.time.Format(fixTimeLayout), Valid: &f.valid, Values: f.values()})
	})
	if err != nil {
		return 0, err
	}
	// The satellites in view follow once a second: they take long at 9600 baud.
	if epoch.Nanosecond() >= int(r.period) {
		return len(essential), nil
	}
	view := f.gsv()
	return len(essential) + len(view), t.send(ctx, []byte(view), false, nil)
}

// backlog drops what a client with an open pty does not read, so that it does not
// find minutes of the past when it begins to.
type backlog struct {
	wire    staleDropper // nil where the wire's own buffers cannot be seen
	looked  time.Time
	written int // bytes since
}

func newBacklog(w wire) *backlog {
	d, _ := w.(staleDropper)
	return &backlog{wire: d, looked: time.Now()}
}

func (b *backlog) sent(n int) { b.written += n }

func (b *backlog) drop() {
	if b.wire == nil || time.Since(b.looked) < staleAfter {
		return
	}
	if b.written > 0 {
		b.wire.dropStale(min(b.written, readAhead))
	}
	b.looked, b.written = time.Now(), 0
}
