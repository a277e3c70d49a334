package obd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"telemetryd/internal/port"
	"telemetryd/internal/telemetry"
)

// Health is where conditions are reported.
type Health interface {
	Set(source string, c telemetry.Condition)
	Clear(source, resolved string)
}

// Config says what to read and where it goes.
type Config struct {
	Address *port.Address         // nil: ask Find each time
	Find    func() []port.Address // the ports that may have an adapter
	// Candidates are ports that may be named to the user; nil for none.
	Candidates func() []port.Address
	// Stable is the name that a serial port keeps over unplugging (port.StableName);
	// nil: the one that it was given.
	Stable func(path string) string
	Tap    port.Tap // records what goes over the port; nil for none
	// Wanted are the readings per second by signal name; math.Inf(1) means as
	// often as possible. Nil: the rates of the signal table.
	Wanted map[string]float64
	Own    []OwnSignal // besides those of the table
	// MaxRequests is the ceiling of requests per second on the bus; 0 is none.
	MaxRequests float64
	Uptime      func() time.Duration
	Deliver     func(telemetry.Reading)
	Event       func(telemetry.Event)
	Health      Health
	Log         *slog.Logger
	Counters    *Counters // nil: nobody looks
	Rates       *Rates    // nil: nobody looks
	Control     *Control  // nil: nobody asks
	// Parked tells whether the vehicle is parked, and when that has changed: nothing goes on its
	// bus then. Rest tells how often its voltage may be looked at meanwhile, and the car be asked
	// whether it is awake; 0: never. Sleep puts the adapter into low power between the two.
	// What tells whether the vehicle is parked is read then though nobody wants it. Nil: it
	// never is.
	Parked func() (parked bool, changed <-chan struct{})
	Rest   func() (voltage, probe time.Duration)
	Sleep  bool
	// Open opens a port; nil: port.Open.
	Open func(ctx context.Context, a port.Address) (*port.Port, error)
}

const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 3 * time.Second
	// carRetry is how often a silent car is asked again.
	carRetry = 5 * time.Second
)

// reader reads one adapter for ever. What it learned of adapter and car outlives a
// session.
type reader struct {
	Config
	protocol byte          // of the last session that found a bus
	speaker  string        // of that session
	baud     int           // at which the adapter answered last
	stable   *port.Address // where it answered last, by the name that stays
	codes    codeBook
	told     lamp      // of the lamp's state
	identity *identity // that was told last
	pace     *pacer
	looks    int  // for a part of what the car has that did not come
	owed     bool // a freeze frame that was not read to its end
	lent     lent
}

// Run reads until ctx ends, and returns then only.
func Run(ctx context.Context, c Config) {
	if c.Counters == nil {
		c.Counters = new(Counters)
	}
	if c.Rates == nil {
		c.Rates = new(Rates)
	}
	if c.Control == nil {
		c.Control = new(Control)
	}
	defer c.Control.leave(errStopped)
	if c.Event == nil {
		c.Event = func(telemetry.Event) {}
	}
	if c.Open == nil {
		c.Open = func(ctx context.Context, a port.Address) (*port.Port, error) {
			return port.Open(ctx, a, c.Uptime, c.Tap)
		}
	}
	r := &reader{Config: c, pace: newPacer(c.MaxRequests)}
	retry := firstRetry
	for ctx.Err() == nil {
		started := time.Now()
		err := r.attempt(ctx)
		r.Rates.set(nil)
		if ctx.Err() != nil {
			return
		}
		r.Control.leave(err)
		r.report(err)
		if time.Since(started) > lastRetry {
			retry = firstRetry
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
		}
		retry = min(2*retry, lastRetry)
	}
}

// attempt tries each port that may have the adapter, and stays with the first
// that does.
func (r *reader) attempt(ctx context.Context) error {
	err := r.noPort()
	for _, a := range r.addresses() {
		var found bool
		if found, err = r.session(ctx, a); found || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// addresses are the ports to try. A port that was named as /dev/ttyUSB0 may come back
// as /dev/ttyUSB1, and another device as the first: the name that stays goes first.
func (r *reader) addresses() []port.Address {
	if r.Address == nil {
		return r.Find()
	}
	if r.stable != nil && r.stable.Path != r.Address.Path {
		return []port.Address{*r.stable, *r.Address}
	}
	return []port.Address{*r.Address}
}

var errNoPort = errors.New("no serial port that is known to be an adapter")

// noPort is the error of no port to try, with those that the user may mean.
func (r *reader) noPort() error {
	if r.Candidates == nil || r.Address != nil {
		return errNoPort
	}
	var names []string
	for _, a := range r.Candidates() {
		names = append(names, "--obd "+a.String())
	}
	if len(names) == 0 {
		return errNoPort
	}
	return fmt.Errorf("%w; if one of these is it, say so: %s", errNoPort, strings.Join(names, ", "))
}

// report names the state that err means, once.
func (r *reader) report(err error) { r.Health.Set("obd", adapterCondition(err)) }

// adapterCondition names the state of an adapter that is not reached or lost.
func adapterCondition(err error) telemetry.Condition {
	c := telemetry.Condition{Code: "adapter_missing", Severity: telemetry.Warning,
		Title:  fmt.Sprintf("OBD adapter not reached: %v", err),
		Remedy: "plug the adapter in, or name its port with --obd; it is looked for all the time"}
	switch {
	case errors.Is(err, errSilent):
		c.Code, c.Title = "adapter_silent", "The OBD port is open but nothing answers"
		c.Remedy = "is it the adapter's port, is the adapter powered, is the baud rate right? (without ?baud= the usual ones are tried)"
	case errors.Is(err, errNotELM):
		c.Code, c.Title = "adapter_unknown", fmt.Sprintf("The OBD port has no adapter that behaves as an ELM327: %v", err)
		c.Remedy = "name the adapter's port with --obd; is the baud rate right? (without ?baud= the usual ones are tried)"
	case errors.Is(err, errRestarted), errors.Is(err, errLostSettings), errors.Is(err, errOutOfStep), errors.Is(err, errLostPrompt):
		c.Code, c.Title = "adapter_restarted", fmt.Sprintf("OBD adapter trouble: %v; it is set up again", err)
		c.Remedy = "if this comes often: check its plug and power, or try another adapter"
	}
	return c
}

// session opens the port, wakes the adapter and reads until something is lost. found
// reports whether there was an adapter.
func (r *reader) session(ctx context.Context, a port.Address) (found bool, err error) {
	p, err := r.Open(ctx, a)
	if err != nil {
		return false, err
	}
	defer p.Close()
	s := newSession(p, r.Counters, r.Uptime, r.pace)
	s.parked = r.isParked
	defer s.release()
	baud := 0
	if a.Scheme == "serial" && a.Baud == 0 {
		if baud, err = s.findBaud(ctx, r.baud); err != nil {
			return false, err
		}
		r.Log.Debug("adapter answers", "port", a.Path, "baud", baud)
	}
	for failures := 0; ; {
		woken := r.Uptime()
		name, err := s.wake(ctx)
		if err != nil {
			return found, err
		}
		r.baud = baud
		if !found && r.Stable != nil && a.Scheme == "serial" {
			r.stable = &port.Address{Scheme: a.Scheme, Path: r.Stable(a.Path), Baud: a.Baud}
		}
		found = true
		r.Log.Info("OBD adapter ready", "port", a.String(), "adapter", name)
		err = r.drive(ctx, s)
		if !errors.Is(err, errRestarted) && !errors.Is(err, errLostSettings) {
			return found, err
		}
		r.report(err)
		if failures++; r.Uptime()-woken > lastRetry {
			failures = 0
		}
		if err := s.until(ctx, r.Uptime()+min(time.Duration(failures)*firstRetry, lastRetry)); err != nil && !errors.Is(err, errRestarted) {
			return found, err
		}
	}
}

// release closes the bus, or the adapter would keep a K-line awake for ever; also while it
// still looks for one, which it would go on to open. It waits for the prompt of what it
// interrupts: before that an adapter may lose what it is sent.
func (s *session) release() {
	if b := busOf(s.protocol); !s.asked || b.isCAN() || b == J1850 {
		return
	}
	ctx := context.Background() // the session's own may have ended
	if s.send(ctx, " ") != nil {
		return
	}
	brief, cancel := context.WithTimeout(ctx, interruptLimit) // whatever it says of searching
	defer cancel()
	_, _ = s.collect(brief, interruptLimit)
	_ = s.send(ctx, "ATPC\r")
}

// drive reads the car whenever it answers, and the adapter's voltage meanwhile.
func (r *reader) drive(ctx context.Context, s *session) error {
	var told, before error // of the car's silence
	for {
		if r.isParked() {
			if err := r.rest(ctx, s); err != nil {
				return err
			}
			told, before = nil, nil
		}
		s.known = r.speaker
		err := s.findBus(ctx, r.protocol)
		if isSilence(err) {
			err = r.findOwn(ctx, s, err)
		}
		if err == nil {
			told, before = nil, nil
			err = r.read(ctx, s)
		}
		r.Rates.set(nil)
		r.Control.leave(err)
		switch {
		case errors.Is(err, errNothingWanted), errors.Is(err, errLookAgain), errors.Is(err, errParked):
			continue
		case !isSilence(err):
			return err
		}
		// Some cars give now this, now that reason: only one that lasts is told.
		if told == nil || err != told && err == before {
			told = err
			r.Health.Set("obd", carCondition(err))
		}
		before = err
		if err := r.wait(ctx, s); err != nil {
			return err
		}
	}
}

// carCondition names the state of a car that does not answer.
func carCondition(err error) telemetry.Condition {
	c := telemetry.Condition{Code: "car_silent", Severity: telemetry.Info, Title: "The car answers nothing",
		Remedy: "switch the ignition on; the car is asked again every few seconds"}
	switch {
	case errors.Is(err, errCarOff):
		c.Code, c.Title = "car_off", "The adapter answers, but the car is off or not connected"
		c.Remedy = "switch the ignition on; is the adapter's plug seated? The car is asked again every few seconds"
	case errors.Is(err, errCarGarbled):
		c.Code, c.Title, c.Severity = "car_garbled", "What comes from the car cannot be read", telemetry.Warning
		c.Remedy = "is the adapter's plug seated? If it stays so, the adapter does not master this car's bus: try another, and send a recording (--record)"
	}
	return c
}

// wait passes the time until the silent car is asked again.
func (r *reader) wait(ctx context.Context, s *session) error {
	if r.rate("battery_voltage_v") > 0 {
		v, err := s.voltage(ctx)
		if err != nil {
			return err
		}
		r.deliver(v)
	}
	return r.idle(ctx, s, r.Uptime()+carRetry)
}

// rate is how often a signal is to be read, in hertz.
func (r *reader) rate(name string) float64 {
	hertz := r.wanted(name)
	if x, lent := r.lent[name]; lent {
		hertz = x.hertz
	}
	if r.Parked != nil {
		hertz = max(hertz, judged[name])
	}
	return hertz
}

// wanted is the wanted rate of a signal in hertz.
func (r *reader) wanted(name string) float64 {
	if rate, named := r.Wanted[name]; named || r.Wanted != nil {
		return rate
	}
	s, _ := telemetry.FindSignal(name)
	return s.Rate
}

// ownRate is the wanted rate of a signal of the user's own.
func (r *reader) ownRate(own *OwnSignal) float64 {
	if x, lent := r.lent[own.Name]; lent {
		return x.hertz
	}
	if rate, named := r.Wanted[own.Name]; named {
		return rate
	}
	return own.Rate
}

func (r *reader) wants(name string) bool { return r.rate(name) > 0 }

func (r *reader) deliver(reading telemetry.Reading) {
	if len(reading.Fields) > 0 {
		r.Deliver(reading)
	}
}
