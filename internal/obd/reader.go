package obd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"telemetryd/internal/telemetry"
)

const (
	// silentAfter requests in a row and silentFor of silence the car counts as off.
	silentAfter = 4
	silentFor   = 2 * time.Second
	// nothingRetry is how often a car without any wanted signal is asked again.
	nothingRetry = 30 * time.Second
)

// reading is the time between a car's first answer and its silence.
type reading struct {
	*reader
	s    *session
	plan *schedule

	counted time.Duration // since when rates are counted
	refused string        // what Health was told of refused signals
	lamp    lamp
	codes   map[Kind]*task // that read trouble codes
	frame   *freezeFrame   // being read
}

// read discovers what the car has and polls it until the car falls silent or the
// adapter is lost.
func (r *reader) read(ctx context.Context, s *session) error {
	var pids []byte
	if s.speaker != "" || !s.headers {
		var err error
		if pids, err = s.discover(ctx); err != nil {
			return err
		}
	}
	r.protocol, r.speaker = s.protocol, s.speaker
	d := &reading{reader: r, s: s, plan: newSchedule(s.pace, busOf(s.protocol).isCAN()), counted: r.Uptime()}
	names := d.planSignals(pids)
	if len(names) == 0 { // see now and then whether that has changed
		return d.nothingWanted(ctx)
	}
	d.planCodes()
	r.Log.Info("car answers", "protocol", string(max(s.protocol, '0')), "ecu", s.speaker, "signals", strings.Join(names, " "))
	for lastHeard, silent := r.Uptime(), 0; ; {
		tasks, at := d.plan.next(r.Uptime())
		if err := s.until(ctx, at); err != nil {
			return err
		}
		heard, err := d.ask(ctx, tasks)
		if err != nil {
			return err
		}
		if heard {
			lastHeard, silent = r.Uptime(), 0
		} else if silent++; silent >= silentAfter && r.Uptime()-lastHeard >= silentFor {
			return errCarSilent
		}
		if err := s.tune(ctx); err != nil {
			return err
		}
		d.report()
	}
}

// planSignals plans what is wanted of what the car has, and returns its names.
func (d *reading) planSignals(pids []byte) (names []string) {
	now := d.Uptime()
	for _, pid := range pids {
		p := parameters[pid]
		if p == nil {
			continue
		}
		rate := 0.0
		if pid == lampPID {
			rate = lampRate
		}
		var signals []string
		for _, signal := range p.signals {
			if wanted := d.rate(signal.Name); wanted > 0 {
				rate = max(rate, wanted)
				signals = append(signals, signal.Name)
			}
		}
		if rate > 0 {
			t := newTask(fmt.Sprintf("01%02X", pid), rate, now, signals...)
			t.pid, t.packs = pid, true
			d.plan.add(t)
			names = append(names, signals...)
		}
	}
	for i := range d.Own {
		own := &d.Own[i]
		rate, named := d.Wanted[own.Name]
		if !named {
			rate = own.Rate
		}
		if rate > 0 {
			d.plan.add(d.ownTask(own, rate))
			names = append(names, own.Name)
		}
	}
	if rate := d.rate("battery_voltage_v"); rate > 0 {
		d.plan.add(newTask("", rate, now, "battery_voltage_v"))
		names = append(names, "battery_voltage_v")
	}
	d.tellMissing(names)
	return names
}

// tellMissing tells which signals the user names that this car does not have.
func (d *reading) tellMissing(planned []string) {
	var missing []string
	for name, rate := range d.Wanted {
		if rate > 0 && !slices.Contains(planned, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		d.Health.Clear("obd_missing", "The car has every signal that is named")
		return
	}
	slices.Sort(missing)
	d.Health.Set("obd_missing", telemetry.Condition{Code: "signal_not_offered", Severity: telemetry.Info,
		Title:  "This car does not have: " + strings.Join(missing, ", "),
		Remedy: "nothing is broken; leave them out of --signals, or read them as own signals if the maker of the car has them elsewhere"})
}

// nothingWanted is a car that answers but has none of the wanted signals.
func (d *reading) nothingWanted(ctx context.Context) error {
	d.Health.Set("obd", telemetry.Condition{Code: "no_wanted_signal", Severity: telemetry.Warning,
		Title: "The car offers none of the wanted signals", Remedy: "name others with --signals"})
	if err := d.s.until(ctx, d.Uptime()+nothingRetry); err != nil {
		return err
	}
	return errNothingWanted
}

// ask does one turn of the plan. heard is false when it found the car silent.
func (d *reading) ask(ctx context.Context, tasks []*task) (heard bool, err error) {
	sent := max(d.Uptime(), d.s.pace.free)
	lead := tasks[0]
	switch {
	case !lead.onBus():
		v, err := d.s.voltage(ctx)
		if err != nil {
			return false, err
		}
		d.plan.done(tasks, sent, answered, func(*task) bool { return len(v.Fields) > 0 })
		d.deliver(v)
		return true, nil
	case !lead.packs:
		return d.askAlone(ctx, lead, sent)
	}
	slices.SortFunc(tasks, func(a, b *task) int { return int(a.pid) - int(b.pid) })
	pids := make([]byte, len(tasks))
	for i, t := range tasks {
		pids[i] = t.pid
	}
	v, measured, o, err := d.s.poll(ctx, pids, d.wants)
	if err != nil {
		return false, err
	}
	d.plan.done(tasks, sent, o, func(t *task) bool {
		return slices.ContainsFunc(measured, func(it item) bool { return it.pid == t.pid })
	})
	if len(measured) > 0 {
		d.Health.Clear("obd", "Values come from the car")
		d.lampChanged(measured)
	}
	d.deliver(v)
	return o != unheard, nil
}

// askAlone asks for what is no mode 01 parameter. That nobody has an answer to it
// does not mean that the car is silent: only what it listed must be answered.
func (d *reading) askAlone(ctx context.Context, t *task, sent time.Duration) (heard bool, err error) {
	found := false
	a, arrived, err := d.s.exchange(ctx, t.query, func(a Answer) bool { return len(a.Messages) > 0 })
	if err != nil {
		return false, err
	}
	if len(a.Messages) > 0 {
		found = t.take(a, arrived)
	}
	d.plan.done([]*task{t}, sent, d.s.outcome(a), func(*task) bool { return found })
	return a.Frames > 0 || d.s.speaker != "", nil
}

// report tells rates and refused signals, now and then.
func (d *reading) report() {
	var names []string
	for _, t := range d.plan.refused() {
		names = append(names, t.signals...)
	}
	if list := strings.Join(names, ", "); list != d.refused {
		if d.refused = list; list == "" {
			d.Health.Clear("obd_signals", "Every wanted signal is read")
		} else {
			d.Health.Set("obd_signals", telemetry.Condition{Code: "pid_refused", Severity: telemetry.Info,
				Title:  "The car lists signals that it does not give: " + list,
				Remedy: "nothing is broken; leave them out with --signals. They are tried again every 30 seconds"})
		}
	}
	span := d.Uptime() - d.counted
	if span < ratesEvery {
		return
	}
	list := d.plan.rates(span)
	d.counted = d.Uptime()
	d.Rates.set(list)
	d.Log.Debug("rates reached, of wanted, in hertz", "rates", describe(list))
	if behind := short(list, span); len(behind) > 0 {
		d.Health.Set("obd_rates", telemetry.Condition{Code: "rates_not_reached", Severity: telemetry.Info,
			Title:  "Signals are read less often than wanted: " + strings.Join(behind, ", "),
			Remedy: "want fewer or slower signals with --signals, or raise --obd-max-requests; the car's bus and the adapter set the limit"})
	} else {
		d.Health.Clear("obd_rates", "Signals are read as often as wanted")
	}
}
