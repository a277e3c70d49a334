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

// run returns when the port ends, ctx ends, or another port should be tried.
func (l *listener) run(ctx context.Context) {
	for check := time.Now().Add(checkEvery); ; {
		c, err := l.port.Receive(ctx, min(l.silence(), max(time.Until(check), time.Millisecond)))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			l.ended(err)
			return
		case len(c.Data) > 0:
			l.take(c)
		default:
			l.decoder.quiet(l.Uptime())
		}
		if time.Now().Before(check) {
			continue
		}
		if l.live && l.check(ctx) {
			return
		}
		check = time.Now().Add(checkEvery)
	}
}

// silence is how long nothing may come until that ends an epoch.
func (l *listener) silence() time.Duration {
	d := l.decoder.silence()
	if d <= 0 {
		return checkEvery
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
// far as one can hear, and that there is another to try.
func (l *listener) unfit(ctx context.Context, now time.Time) bool {
	if l.hunt.running() || l.watch.binary() || now.Sub(l.watch.since(l.watch.spokenAt)) < huntAgain {
		return false
	}
	return l.others(ctx, l.address)
}
