package gps

import (
	"context"
	"time"

	"telemetryd/internal/port"
)

// listener is one connection to a receiver, from open to close.
type listener struct {
	*source
	address port.Address
	port    stream
	decoder *decoder
	hunt    *hunt
	live    bool // not a recording: silence means something
}

// checkEvery is how often health is looked at.
const checkEvery = 500 * time.Millisecond

// follow hands what p receives to take, and the times in which nothing comes to quiet,
// until the connection ends, ctx ends or check, which is asked every checkEvery, ends
// it. wait is how long nothing may come before quiet has something to do; 0 when it has
// not. It returns why the connection ended; nil when it did not.
func follow(ctx context.Context, p stream, wait func() time.Duration, take func(port.Chunk), quiet func(), check func() (end bool)) error {
	for at := time.Now().Add(checkEvery); ; {
		timeout := max(time.Until(at), time.Millisecond)
		if d := wait(); d > 0 {
			timeout = min(timeout, d)
		}
		c, err := p.Receive(ctx, timeout)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case len(c.Data) > 0:
			take(c)
		default:
			quiet()
		}
		if time.Now().Before(at) {
			continue
		}
		if check() {
			return nil
		}
		at = time.Now().Add(checkEvery)
	}
}

// run returns when the port ends, ctx ends, or another port should be tried.
func (l *listener) run(ctx context.Context) {
	cause := follow(ctx, l.port, l.silence, l.take,
		func() { l.decoder.quiet(l.Uptime()) },
		func() bool { return l.live && l.check(ctx) })
	if cause != nil {
		l.ended(cause)
	}
}

// silence is how long nothing may come until that ends an epoch; 0 while none is open.
func (l *listener) silence() time.Duration {
	d := l.decoder.silence()
	if d <= 0 {
		return 0
	}
	return max(l.decoder.assembler.heard+d-l.Uptime(), time.Millisecond)
}

func (l *listener) take(c port.Chunk) {
	before := l.decoder.sentences
	l.watch.heard(c.Data)
	l.retry.Reset()
	l.decoder.feed(c.Data, c.Arrived)
	if n := l.decoder.sentences - before; n > 0 {
		if l.watch.spoke(n); l.decoder.sentences == n && l.live { // the first
			l.spoke(l.address, l.hunt.rate())
		}
		if l.hunt.spoke(n) {
			l.spoke(l.address, l.hunt.rate())
			l.Log.Info("GPS receiver found", "address", l.address.String(), "baud", l.hunt.rate())
		}
	}
}

func (l *listener) ended(cause error) {
	l.decoder.end()
	if l.decoder.sentences == 0 {
		l.tried++ // with --gps auto the next one has its turn
	}
	l.Log.Info("GPS connection ended", "address", l.address.String(), "cause", cause)
	if l.live {
		l.watch.check(l.hunt.running())
	}
}

// check looks at health and at the rate. It reports whether to give up this
// connection.
func (l *listener) check(ctx context.Context) bool {
	if l.decoder.assembler.stuck(l.Uptime()) {
		l.watch.withheld(frozen)
	}
	l.watch.check(l.hunt.running())
	now := time.Now()
	if next := l.hunt.next(now, l.watch.binary(), l.watch.spokenAt); next != 0 {
		l.Log.Debug("trying another rate", "address", l.address.String(), "baud", next)
		l.decoder.framer.reset()
		l.watch.newRate()
		if err := l.port.SetBaud(next); err != nil {
			l.Log.Debug("GPS rate not set", "error", err)
			return true
		}
	}
	switch {
	case l.address.Scheme == "tcp":
		return now.Sub(l.watch.lastBytes()) >= tcpSilence
	case l.Address == nil && l.unfit(ctx, now):
		l.tried++
		return true
	}
	return false
}

// unfit reports that a port that was only found by its name is no receiver, as
// far as one can hear, or one that speaks binary, and that there is another to try.
func (l *listener) unfit(ctx context.Context, now time.Time) bool {
	if l.hunt.running() && !l.watch.binary() || now.Sub(l.watch.since(l.watch.spokenAt)) < huntAgain {
		return false
	}
	return l.others(ctx, l.address)
}
