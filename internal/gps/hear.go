package gps

import (
	"context"
	"time"

	"telemetryd/internal/port"
	"telemetryd/internal/telemetry"
)

// Heard is what a port brought while it was listened to. Nothing was written.
type Heard struct {
	Bytes     int
	Sentences uint64 // NMEA, with a good checksum
	Fixes     int
	Baud      int  // at which the sentences or frames came; 0 where no rate matters
	Binary    bool // UBX frames and no sentences
}

// hearFix is how long a port that speaks NMEA is listened to for a fix.
const hearFix = 2500 * time.Millisecond

// Hear opens a port and listens at the usual rates until it knows what speaks there:
// 2.5 s when nothing does, 18 s at most. It returns an error when the port cannot be
// opened or is gone.
func Hear(ctx context.Context, a port.Address, uptime func() time.Duration) (Heard, error) {
	p, err := openPort(ctx, firstRate(a), uptime, nil)
	if err != nil {
		return Heard{}, err
	}
	defer p.Close()
	return hear(ctx, a, p)
}

func hear(ctx context.Context, a port.Address, p stream) (h Heard, err error) {
	d := newDecoder(true, time.Time{}, &Counters{}, func(telemetry.Reading) { h.Fixes++ }, func(Reason, string) {})
	w := newWatch(nil)
	w.begin()
	rates := newHunt(a)
	for began := time.Now(); ctx.Err() == nil; {
		c, err := p.Receive(ctx, 100*time.Millisecond)
		if err != nil {
			return h, err
		}
		h.Bytes += len(c.Data)
		w.heard(c.Data)
		before := d.sentences
		d.feed(c.Data, c.Arrived)
		if n := d.sentences - before; n > 0 {
			w.spoke(n)
			rates.spoke(n)
		}
		now := time.Now()
		h.Sentences, h.Binary = d.sentences, d.sentences == 0 && w.binary()
		switch {
		case h.Binary, h.Sentences >= huntProof && (h.Fixes > 0 || now.Sub(w.resumedAt) >= hearFix):
			h.Baud = rates.given(a)
			return h, nil
		case rates.found || now.Sub(rates.since) < huntWindow:
			continue
		case h.Bytes == 0, rates.rates == nil, rates.at == len(rates.rates)-1:
			return h, nil
		}
		next := rates.next(now, false, began)
		d.framer.reset()
		w.newRate()
		if err := p.SetBaud(next); err != nil {
			return h, err
		}
	}
	return h, ctx.Err()
}

// given is the rate listened at, found or named in a.
func (h *hunt) given(a port.Address) int {
	if r := h.rate(); r != 0 {
		return r
	}
	return a.Baud
}
