package obd

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"telemetryd/internal/telemetry"
)

const (
	// After silentAfter requests in a row and silentFor of silence, or seldomFor where
	// little is asked, the car is asked what every car answers, before it counts as off.
	silentAfter = 4
	silentFor   = 2 * time.Second
	seldomFor   = 4 * time.Second
	// lookAgain is how often it is looked for what a car did not tell at first: a part
	// of what it has, or its engine where only own signals answered.
	lookAgain = 30 * time.Second
	mostLooks = 3 // at a part that does not come
	// nothingRetry is how often a car without any wanted signal is asked again.
	nothingRetry = 30 * time.Second
)

// reading is the time between a car's first answer and its silence.
type reading struct {
	*reader
	s    *session
	plan *schedule

	heard   time.Duration // when the car spoke last
	silent  int           // requests since that it should have answered
	look    time.Duration // when to look again for what it has; 0 for never
	counted time.Duration // since when rates are counted
	spans   int           // of rates that were told
	refused string        // what Health was told of refused signals
	lamp    lamp
	codes   map[Kind]*task // that read trouble codes
	frame   *freezeFrame   // being read

	pids       []byte          // that the car has
	quiet      map[place]bool  // that may have no codes any more, if the car is awake
	lampRead   time.Duration   // when the lamp was read last
	identified time.Duration   // when the car told last who it is; 0 for never
	retuned    time.Duration   // when rates were changed last; 0 for never
	waking     context.Context // ends when a call comes
	call       *call           // at hand
	// What the call at hand collects; nil when it does not:
	sample     map[string]telemetry.Value
	heardCodes map[Kind]codesHeard
}

// read discovers what the car has and polls it until the car falls silent or the
// adapter is lost.
func (r *reader) read(ctx context.Context, s *session) (err error) {
	r.Health.Clear("obd_signals", "The car is asked anew")
	defer r.Health.Clear("obd_rates", "The car is not read")
	d := &reading{reader: r, s: s, heard: r.Uptime(), counted: r.Uptime()}
	defer func() { d.abandon(err) }()
	if s.speaks() {
		var whole bool
		if d.pids, whole, err = s.discover(ctx); err != nil {
			return err
		}
		if !whole && r.looks < mostLooks {
			r.looks++
			d.look = r.Uptime() + lookAgain
		}
	} else {
		d.look = r.Uptime() + lookAgain
	}
	r.protocol, r.speaker = s.protocol, s.speaker
	d.plan = newSchedule(s.pace, busOf(s.protocol).isCAN())
	names := d.planSignals()
	if len(names) == 0 { // see now and then whether that has changed
		return d.nothingWanted(ctx)
	}
	d.planCodes()
	r.Log.Info("car answers", "protocol", string(max(s.protocol, '0')), "ecu", s.speaker, "signals", strings.Join(names, " "))
	r.Control.enter()
	for {
		if d.isParked() {
			return errParked
		}
		if err := d.obey(ctx); err != nil {
			return err
		}
		tasks, at := d.plan.next(r.Uptime())
		if len(tasks) == 0 { // every rate is 0 for a time
			at = r.Uptime() + carRetry
		}
		if early, err := d.pause(ctx, at); err != nil {
			return err
		} else if early || len(tasks) == 0 {
			continue
		}
		if d.isParked() {
			return errParked
		}
		e, err := d.ask(ctx, tasks)
		if err == nil {
			err = d.judge(ctx, e)
		}
		if err == nil {
			err = s.tune(ctx)
		}
		if err != nil {
			return err
		}
		if d.look != 0 && d.call == nil && r.Uptime() >= d.look {
			if err := d.lookAgain(ctx); err != nil {
				return err
			}
		}
		d.report()
	}
}

// lookAgain returns errLookAgain when there is reason to ask the car anew what it has: a
// part of it did not come, or its engine answers by now.
func (d *reading) lookAgain(ctx context.Context) error {
	if d.s.speaks() {
		return errLookAgain
	}
	d.look = d.Uptime() + lookAgain
	a, err := d.s.exchange(ctx, query{text: "0100", undated: true}, never)
	if err == nil && len(a.Messages) > 0 {
		err = errLookAgain
	}
	return err
}

// evidence is what a request says of whether the car is awake.
type evidence uint8

const (
	nothing evidence = iota // the adapter answers by itself, or nobody has to
	heard                   // a control unit spoke
	silence                 // who should have spoken did not
)

// judge takes the evidence and sees whether the car has fallen silent. One parameter
// may go unanswered for ever: what every car answers decides.
func (d *reading) judge(ctx context.Context, e evidence) error {
	switch e {
	case heard:
		d.heard, d.silent = d.Uptime(), 0
	case silence:
		d.silent++
	}
	quiet := d.Uptime() - d.heard
	if d.silent == 0 || quiet < silentFor || d.silent < silentAfter && quiet < seldomFor {
		return nil
	}
	if !d.s.speaks() {
		return errCarSilent
	}
	a, err := d.s.exchange(ctx, query{text: "0100", undated: true}, never)
	if err != nil {
		return err
	}
	if d.s.outcome(a) == unheard {
		return silenceOf(a)
	}
	d.plan.spoke++
	d.heard, d.silent = d.Uptime(), 0
	return nil
}

// planSignals plans what is wanted of what the car has, and returns its names.
func (d *reading) planSignals() (names []string) {
	d.lent.expire(d.Uptime())
	for _, t := range d.signalTasks() {
		d.plan.add(t)
		names = append(names, t.signals...)
	}
	d.tellMissing(names)
	return names
}

// signalTasks are the tasks for what is wanted now of what the car has.
func (d *reading) signalTasks() (tasks []*task) {
	now := d.Uptime()
	for _, pid := range d.pids {
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
			tasks = append(tasks, t)
		}
	}
	tasks = append(tasks, d.ownTasks()...)
	if rate := d.rate("battery_voltage_v"); rate > 0 {
		tasks = append(tasks, newTask("", rate, now, "battery_voltage_v"))
	}
	return tasks
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

// ask does one turn of the plan.
func (d *reading) ask(ctx context.Context, tasks []*task) (evidence, error) {
	sent := max(d.Uptime(), d.s.pace.free)
	lead := tasks[0]
	switch {
	case !lead.onBus():
		v, err := d.s.voltage(ctx)
		if err != nil {
			return nothing, err
		}
		d.plan.done(tasks, sent, unheard, func(*task) bool { return len(v.Fields) > 0 })
		lead.readings += len(v.Fields)
		d.deliver(v)
		return nothing, nil
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
		return nothing, err
	}
	d.plan.done(tasks, sent, o, func(t *task) bool {
		return slices.ContainsFunc(measured, func(it item) bool { return it.pid == t.pid })
	})
	for _, t := range tasks {
		if len(t.signals) > 0 && slices.ContainsFunc(v.Fields, func(f telemetry.Field) bool { return f.Name == t.signals[0] }) {
			t.readings++
		}
	}
	if len(measured) > 0 {
		d.Health.Clear("obd", "Values come from the car")
		d.lampChanged(measured)
	}
	d.deliver(v)
	if o == unheard {
		return silence, nil
	}
	return heard, nil
}

// askAlone asks for what is no mode 01 parameter. That nobody has an answer to it
// does not mean that the car is silent, unless somebody had before.
func (d *reading) askAlone(ctx context.Context, t *task, sent time.Duration) (evidence, error) {
	had := t.answered
	a, err := d.s.exchange(ctx, t.query, func(a Answer) bool { return len(a.Messages) > 0 })
	if err != nil {
		return nothing, err
	}
	found := t.take(a)
	o := d.s.outcome(a)
	if o == unheard && (found || a.Frames > 0) {
		o = answered // another control unit than the engine's
	}
	d.plan.done([]*task{t}, sent, o, func(*task) bool { return found })
	switch {
	case o != unheard:
		return heard, nil
	case had || !d.s.speaks():
		return silence, nil
	}
	return nothing, nil
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
				Title:  "Signals that the car or the adapter does not give when asked: " + list,
				Remedy: "nothing is broken; leave them out with --signals. They are tried again every 30 seconds"})
		}
	}
	span := d.Uptime() - d.counted
	if span < d.countFor() {
		return
	}
	list := d.plan.rates(span)
	d.counted = d.Uptime()
	d.Rates.set(list)
	level := slog.LevelDebug
	if d.spans++; d.spans == 1 { // once for each time the car is switched on
		level = slog.LevelInfo
	}
	d.Log.Log(context.Background(), level, "rates reached, of wanted, in hertz", "rates", describe(list))
	if behind := short(list, span); len(behind) > 0 {
		d.Health.Set("obd_rates", telemetry.Condition{Code: "rates_not_reached", Severity: telemetry.Info,
			Title:  "Signals are read less often than wanted: " + strings.Join(behind, ", "),
			Remedy: "want fewer or slower signals with --signals, or raise --obd-max-requests; the car's bus and the adapter set the limit"})
	} else {
		d.Health.Clear("obd_rates", "Signals are read as often as wanted")
	}
}
