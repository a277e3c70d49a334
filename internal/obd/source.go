package obd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

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
	// Rates are the wanted readings per second by signal name; math.Inf(1) means as
	// often as possible. Nil: the rates of the signal table.
	Rates map[string]float64
	// MaxRequests is the ceiling of requests per second on the bus; 0 is none.
	MaxRequests float64
	Uptime      func() time.Duration
	Deliver     func(telemetry.Reading)
	Health      Health
	Log         *slog.Logger
	Counters    *Counters
}

const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
	// carRetry is how often a silent car is asked again.
	carRetry = 5 * time.Second
	// silentAfter requests in a row and silentFor of silence the car counts as off.
	silentAfter = 4
	silentFor   = 2 * time.Second
)

// reader reads one adapter for ever.
type reader struct {
	Config
	protocol byte // of the last session that found a bus
}

// Run reads until ctx ends, and returns then only.
func Run(ctx context.Context, c Config) {
	if c.Counters == nil {
		c.Counters = new(Counters)
	}
	r := &reader{Config: c}
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = firstRetry, lastRetry
	for ctx.Err() == nil {
		started := time.Now()
		err := r.attempt(ctx)
		if ctx.Err() != nil {
			return
		}
		r.report(err)
		if time.Since(started) > lastRetry {
			retry.Reset()
		}
		select {
		case <-time.After(retry.NextBackOff()):
		case <-ctx.Done():
		}
	}
}

// attempt tries each port that may have the adapter, and stays with the first
// that does.
func (r *reader) attempt(ctx context.Context) error {
	addresses := []port.Address{}
	if r.Address != nil {
		addresses = append(addresses, *r.Address)
	} else {
		addresses = r.Find()
	}
	err := errNoPort
	for _, a := range addresses {
		err = r.session(ctx, a)
		if !errors.Is(err, errSilent) && !errors.Is(err, errNotELM) {
			return err
		}
	}
	return err
}

var errNoPort = errors.New("no serial port that may be an adapter")

// report names the state that err means, once.
func (r *reader) report(err error) {
	c := telemetry.Condition{Code: "adapter_missing", Severity: telemetry.Warning,
		Title:  fmt.Sprintf("OBD adapter not reached: %v", err),
		Remedy: "plug the adapter in, or name its port with --obd; it is looked for all the time"}
	switch {
	case errors.Is(err, errSilent):
		c.Code, c.Title = "adapter_silent", "The OBD port is open but nothing answers"
		c.Remedy = "is it the adapter's port, is the adapter powered, is the baud rate right?"
	case errors.Is(err, errNotELM):
		c.Code, c.Title = "adapter_unknown", "What answers on the OBD port is no ELM327 adapter"
		c.Remedy = "name the adapter's port with --obd"
	case errors.Is(err, errRestarted), errors.Is(err, errOutOfStep), errors.Is(err, errLostPrompt):
		c.Code, c.Title = "adapter_restarted", fmt.Sprintf("OBD adapter trouble: %v; it is set up again", err)
		c.Remedy = "if this comes often: check its plug and power, or try another adapter"
	}
	r.Health.Set("obd", c)
}

// session opens the port, wakes the adapter and reads until something is lost.
func (r *reader) session(ctx context.Context, a port.Address) error {
	p, err := port.Open(ctx, a, r.Uptime)
	if err != nil {
		return err
	}
	defer p.Close()
	s := &session{conversation: conversation{wire: p, counters: r.Counters}}
	if a.Scheme == "serial" && a.Baud == 0 {
		baud, err := s.findBaud(ctx)
		if err != nil {
			return err
		}
		r.Log.Debug("adapter answers", "port", a.Path, "baud", baud)
	}
	for {
		name, err := s.wake(ctx)
		if err != nil {
			return err
		}
		r.Log.Info("OBD adapter ready", "port", a.String(), "adapter", name)
		if err := r.drive(ctx, s); !errors.Is(err, errRestarted) {
			r.release(s)
			return err
		}
		r.report(errRestarted)
	}
}

// release closes the bus, or the adapter would keep a K-line awake for ever.
func (r *reader) release(s *session) {
	if busOf(s.protocol) == KLine {
		_ = s.wire.Write([]byte(" "), writeLimit) // interrupts a request under way
		_ = s.wire.Write([]byte("ATPC\r"), writeLimit)
	}
}

// drive reads the car whenever it answers, and the adapter's voltage meanwhile.
func (r *reader) drive(ctx context.Context, s *session) error {
	for {
		err := s.findBus(ctx, r.protocol)
		if err == nil {
			err = r.read(ctx, s)
		}
		if errors.Is(err, errNothingWanted) {
			continue
		}
		if !errors.Is(err, errCarSilent) {
			return err
		}
		r.Health.Set("obd", telemetry.Condition{Code: "car_silent", Severity: telemetry.Info,
			Title:  "The car does not answer",
			Remedy: "switch the ignition on; the car is asked again every few seconds"})
		if err := r.wait(ctx, s); err != nil {
			return err
		}
	}
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
	select {
	case <-time.After(carRetry):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rate is the wanted rate of a signal in hertz.
func (r *reader) rate(name string) float64 {
	if r.Rates != nil {
		return r.Rates[name]
	}
	s, _ := telemetry.FindSignal(name)
	return s.Rate
}

func (r *reader) wants(name string) bool { return r.rate(name) > 0 }

func (r *reader) deliver(reading telemetry.Reading) {
	if len(reading.Fields) > 0 {
		r.Deliver(reading)
	}
}

// read discovers what the car has and polls it until the car falls silent or the
// adapter is lost.
func (r *reader) read(ctx context.Context, s *session) error {
	pids, err := s.discover(ctx)
	if err != nil {
		return err
	}
	rates := map[byte]float64{}
	var names []string
	for _, pid := range pids {
		if p := parameters[pid]; p != nil {
			for _, signal := range p.signals {
				if rate := r.rate(signal.Name); rate > 0 {
					rates[pid] = max(rates[pid], rate)
					names = append(names, signal.Name)
				}
			}
		}
	}
	r.protocol = s.protocol
	r.Log.Info("car answers", "protocol", string(max(s.protocol, '0')), "ecu", s.speaker, "signals", strings.Join(names, " "))
	plan := newSchedule(rates, r.rate("battery_voltage_v"), s.bus().isCAN(), r.MaxRequests, r.Uptime())
	for lastHeard, silent := r.Uptime(), 0; ; {
		tasks, at := plan.next(r.Uptime())
		if len(tasks) == 0 { // no wanted signal is there: see now and then whether that has changed
			return r.nothingWanted(ctx)
		}
		if err := r.until(ctx, at); err != nil {
			return err
		}
		if tasks[0].voltage {
			v, err := s.voltage(ctx)
			if err != nil {
				return err
			}
			tasks[0].done(r.Uptime(), true)
			r.deliver(v)
			continue
		}
		answered, err := r.ask(ctx, s, plan, tasks)
		if err != nil {
			return err
		}
		if answered {
			lastHeard, silent = r.Uptime(), 0
			r.Health.Clear("obd", "Values come from the car")
		} else if silent++; silent >= silentAfter && r.Uptime()-lastHeard >= silentFor {
			return errCarSilent
		}
	}
}

// nothingWanted is a car that answers but has none of the wanted signals.
func (r *reader) nothingWanted(ctx context.Context) error {
	r.Health.Set("obd", telemetry.Condition{Code: "no_wanted_signal", Severity: telemetry.Warning,
		Title: "The car offers none of the wanted signals", Remedy: "name others with --signals"})
	if err := r.until(ctx, r.Uptime()+lastRetry); err != nil {
		return err
	}
	return errNothingWanted
}

// ask polls one request of the plan and notes its outcome. A set that gave nothing
// at all is asked one by one from then on, until each has shown that it answers.
func (r *reader) ask(ctx context.Context, s *session, plan *schedule, tasks []*task) (answered bool, err error) {
	pids := make([]byte, len(tasks))
	for i, t := range tasks {
		pids[i] = t.pid
	}
	sent := r.Uptime()
	plan.sent(sent)
	reading, measured, err := s.poll(ctx, pids, r.wants)
	if err != nil {
		return false, err
	}
	if len(measured) == 0 && len(tasks) > 1 {
		plan.suspect(tasks)
	} else {
		if len(tasks) > 1 {
			plan.setsFailed = 0
		}
		for _, t := range tasks {
			t.done(sent, slices.Contains(measured, t.pid))
		}
	}
	r.deliver(reading)
	return len(measured) > 0, nil
}

// until waits for the time since boot at.
func (r *reader) until(ctx context.Context, at time.Duration) error {
	d := at - r.Uptime()
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
