package gps

import (
	"cmp"
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
	// Address is where the receiver is. Nil means auto: GPSD if it has a receiver,
	// else whatever Find names.
	Address *port.Address
	// GPSD is the gpsd to ask first when Address is nil; nil asks none.
	GPSD *port.Address
	// Find lists candidates when Address is nil (port.FindReceivers). It is asked
	// before every attempt. They are only listened to; what GPSD reads is left out.
	Find func() []port.Address
	// Stable is the name that a serial port keeps over unplugging (port.StableName);
	// nil: the one that it was given.
	Stable func(path string) string
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
	// ZDA beside a position), the time since boot at which the first byte of its cycle
	// came, and how late that may be; not of files, whose times are history. May be nil.
	Time func(utc time.Time, firstByte, err time.Duration)
	// WheelSpeed is the speed of the wheels in km/h and when (time since boot) it was
	// measured; false while none is known. A fix that stands still while they turn is
	// not delivered. May be nil.
	WheelSpeed func() (kmh float64, at time.Duration, ok bool)
	// Fastest is the speed in km/h that the vehicle cannot reach: a fix farther from
	// the one before is not delivered. 0 means 500.
	Fastest float64
	Health  Health // may be nil
	Log     *slog.Logger
	// Discreet keeps what a receiver says out of the log: it tells where the vehicle is.
	Discreet bool
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
	guard guard
	retry backoff.ExponentialBackOff
	tried int // candidates, counted on when one turned out to be no receiver

	stable *port.Address // where the receiver spoke last, by the name that stays
	baud   int           // at which rate

	taken     []string  // device paths that GPSD reads
	takenAt   time.Time // when that was known
	askedGPSD time.Time // for them
	watchedAt time.Time // last ?WATCH to a gpsd
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
	s := &source{Config: c, watch: newWatch(c.Health), guard: guard{wheels: c.WheelSpeed, fastest: cmp.Or(c.Fastest, fastestCar)}}
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
		a, found := s.address(ctx)
		if !found {
			s.watch.set(nothingFound)
			s.pause(ctx)
			continue
		}
		p, err := s.open(ctx, s.atLastRate(a))
		if err != nil {
			if ctx.Err() == nil {
				s.Log.Debug("no GPS receiver", "address", a.String(), "error", err)
				s.watch.set(missing(a, err))
				s.tried++ // with --gps auto the next one has its turn
				s.pause(ctx)
			}
			continue
		}
		if w, ok := p.(writer); ok && a.Scheme == "gpsd" {
			if !s.followGPSD(ctx, a, w) {
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

// wireRest is how long bytes of a receiver may gather: much less than a fix may wait
// for its last one, and clearly less than pause, or each rest would look like one.
const wireRest = 50 * time.Millisecond

// opened keeps a nil *port.Port from becoming a stream that is not nil.
func opened(p *port.Port, err error) (stream, error) {
	if err != nil {
		return nil, err
	}
	if p.Address().Scheme != "file" { // a recording is read as fast as it can be
		p.Rest(wireRest)
	}
	return p, nil
}

// listen decodes what p brings until it ends, ctx ends or there is reason to open
// it again, and closes it.
func (s *source) listen(ctx context.Context, a port.Address, p stream, live bool) {
	l := &listener{source: s, address: a, port: p, live: live, hunt: newHunt(a)}
	l.hunt.startAt(s.baud)
	l.decoder = newDecoder(live, s.BuildDate, s.Counters,
		func(r telemetry.Reading) {
			if live {
				s.deliver(r)
				return
			}
			s.watch.fixed()
			s.Deliver(r)
		}, s.logRefused)
	if a.Scheme != "file" {
		l.decoder.assembler.dated = s.Time
	}
	s.watch.begin()
	l.run(ctx)
	if err := p.Close(); err != nil {
		s.Log.Debug("GPS port closed", "address", a.String(), "error", err)
	}
}

// deliver delivers a fix unless it cannot be true.
func (s *source) deliver(r telemetry.Reading) {
	why := s.guard.judge(&r)
	switch why {
	case "":
		s.watch.fixed()
		s.Deliver(r)
		return
	case Frozen:
		s.watch.withheld(frozen)
	case Jumped:
		s.watch.withheld(jumped)
	}
	s.refused(why, string(r.AppendSample(nil, r.FixTime)))
}

// refused counts and logs what did not become a fix.
func (s *source) refused(why Reason, text string) {
	s.Counters.drop(why)
	s.logRefused(why, text)
}

func (s *source) logRefused(why Reason, text string) {
	if s.Discreet {
		text = "not logged: section privacy"
	}
	s.Log.Debug("GPS input refused", "reason", string(why), "text", text)
}
