package gps

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/cenkalti/backoff/v5"

	"telemetryd/internal/port"
	"telemetryd/internal/telemetry"
)

// Health is told what is wrong with the receiver, and when it is over.
type Health interface {
	Set(source string, c telemetry.Condition)
	Clear(source, resolved string)
}

// Config is what Run needs. Uptime and Deliver are required.
type Config struct {
	// Address is where the receiver is. Nil means auto: whatever Find names.
	Address *port.Address
	// Find lists candidates when Address is nil (port.FindReceivers). It is asked
	// before every attempt.
	Find func() []port.Address
	// Tap records what goes over the port; nil for none.
	Tap port.Tap
	// Uptime is the time since boot.
	Uptime func() time.Duration
	// Deliver takes the fixes, one after the other from one goroutine. Arrived is
	// when the last byte of the epoch came. A receiver that sent more of an epoch
	// after it was delivered gives a second reading of the same FixTime that holds
	// only what is new.
	Deliver func(telemetry.Reading)
	// Time takes the receiver's UTC of each fix that tells its own date (a valid RMC, or
	// ZDA beside a position), and the time since boot at which the first byte of its
	// cycle came; not of files, whose times are history. May be nil.
	Time   func(utc time.Time, firstByte time.Duration)
	Health Health // may be nil
	Log    *slog.Logger
	// BuildDate is a day that has passed: a receiver's date before it is late by
	// 1024 weeks or a multiple (the GPS week rollover) and moved on; one more than
	// 10 years after it is refused. Zero takes every date as it is.
	BuildDate time.Time
	// Counters count for metrics; may be nil.
	Counters *Counters
}

const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
	// tcpSilence is how long a connection may bring nothing before it is made
	// anew: a peer that lost power never closes it.
	tcpSilence = 30 * time.Second
)

// stream is a port.Port as far as a receiver is concerned: nothing is written.
type stream interface {
	Receive(ctx context.Context, timeout time.Duration) (port.Chunk, error)
	SetBaud(baud int) error
	Close() error
}

// source keeps one receiver connected.
type source struct {
	Config
	open  func(ctx context.Context, a port.Address) (stream, error)
	watch *watch
	retry backoff.ExponentialBackOff
	tried int // candidates of Find, counted on when one turned out to be no receiver
}

// Run reads a receiver for ever: it waits for the port, listens, and connects
// again after any loss, with pauses from 1 s doubling to 30 s. It returns nil, and
// only when ctx ends; every goroutine it started has ended then.
func Run(ctx context.Context, c Config) error {
	newSource(c).run(ctx)
	return nil
}

func newSource(c Config) *source {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Counters == nil {
		c.Counters = &Counters{}
	}
	s := &source{Config: c, watch: newWatch(c.Health)}
	s.open = func(ctx context.Context, a port.Address) (stream, error) {
		return openPort(ctx, firstRate(a), c.Uptime, c.Tap)
	}
	s.retry = backoff.ExponentialBackOff{
		InitialInterval: firstRetry, MaxInterval: lastRetry, Multiplier: 2, RandomizationFactor: 0.2,
	}
	s.retry.Reset()
	return s
}

func (s *source) run(ctx context.Context) {
	for ctx.Err() == nil {
		a, found := s.address()
		if !found {
			s.watch.set(nothingFound)
			s.pause(ctx)
			continue
		}
		p, err := s.open(ctx, a)
		if err != nil {
			if ctx.Err() == nil {
				s.Log.Debug("no GPS receiver", "address", a.String(), "error", err)
				s.watch.set(missing(a, err))
				s.pause(ctx)
			}
			continue
		}
		s.Log.Info("listening for a GPS receiver", "address", a.String())
		whole := isRecording(a)
		s.listen(ctx, a, p, !whole)
		if whole && ctx.Err() == nil {
			s.watch.set(fileEnded(a, s.watch.sentences))
			<-ctx.Done()
			return
		}
		s.pause(ctx)
	}
}

// address is where to look this time.
func (s *source) address() (port.Address, bool) {
	if s.Address != nil {
		return *s.Address, true
	}
	if s.Find == nil {
		return port.Address{}, false
	}
	found := s.Find()
	if len(found) == 0 {
		return port.Address{}, false
	}
	return found[s.tried%len(found)], true
}

func (s *source) pause(ctx context.Context) {
	timer := time.NewTimer(min(s.retry.NextBackOff(), lastRetry))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// isRecording tells a file that has an end from a FIFO or a device.
func isRecording(a port.Address) bool {
	if a.Scheme != "file" {
		return false
	}
	info, err := os.Stat(a.Path)
	return err == nil && info.Mode().IsRegular()
}

// openPort opens a without being held by a FIFO that nobody writes to yet: that
// open waits for a writer, so the end of ctx has to be one.
func openPort(ctx context.Context, a port.Address, uptime func() time.Duration, tap port.Tap) (stream, error) {
	info, err := os.Stat(a.Path)
	if a.Scheme != "file" || err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		return opened(port.Open(ctx, a, uptime, tap))
	}
	release := freeFIFO(ctx, a.Path)
	defer release()
	return opened(port.Open(ctx, a, uptime, tap))
}

// opened keeps a nil *port.Port from becoming a stream that is not nil.
func opened(p *port.Port, err error) (stream, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

// listen decodes what p brings until it ends, ctx ends or there is reason to open
// it again, and closes it.
func (s *source) listen(ctx context.Context, a port.Address, p stream, live bool) {
	l := &listener{source: s, address: a, port: p, live: live, hunt: newHunt(a)}
	l.decoder = newDecoder(live, s.BuildDate, s.Counters,
		func(r telemetry.Reading) {
			s.watch.fixed()
			s.Deliver(r)
		},
		func(why Reason, text string) {
			s.Log.Debug("GPS input refused", "reason", string(why), "text", text)
		})
	if a.Scheme != "file" {
		l.decoder.assembler.dated = s.Time
	}
	s.watch.begin()
	l.run(ctx)
	if err := p.Close(); err != nil {
		s.Log.Debug("GPS port closed", "address", a.String(), "error", err)
	}
}
