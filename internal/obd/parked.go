package obd

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"
)

// A parked vehicle's control units fall asleep only when nobody speaks on their bus; a question
// wakes them, and the battery pays. So the protocol is closed, and the adapter is asked for nothing
// but its own voltage. That holds over anything that happens meanwhile: a restarted chip, a port
// that was pulled out, a reset by our side are all no reason to speak to the car.

// errParked is a vehicle that is parked: no trouble of the adapter's or the car's.
var errParked = errors.New("the vehicle is parked")

const (
	// restLook is how often is asked what may be done, which may change at any time.
	restLook = time.Second
	// voltageMissing times in a row without a voltage, and the adapter has none: it is tried
	// again after voltageAgain.
	voltageMissing = 3
	voltageAgain   = 5 * time.Minute
	// looks is how often the voltage is asked for when it comes late: the next turn may be
	// minutes away.
	looks = 2
	// sleepWorth is the shortest pause that the adapter is put to sleep for.
	sleepWorth = 30 * time.Second
	sleepLimit = 500 * time.Millisecond
)

// judged are the signals that tell whether the vehicle is parked, and how often they are read for
// that, in hertz.
var judged = map[string]float64{"engine_speed_rpm": 0.2, "vehicle_speed_kmh": 0.2, "battery_voltage_v": 0.1}

// Judged are the signals that are read when Config.Parked is given, wanted or not.
func Judged() []string { return slices.Sorted(maps.Keys(judged)) }

// idle waits, but not while the vehicle is parked.
func (r *reader) idle(ctx context.Context, s *session, at time.Duration) error {
	if r.Parked == nil {
		return s.until(ctx, at)
	}
	parked, changed := r.Parked()
	if parked {
		return nil
	}
	return s.untilChanged(ctx, at, changed)
}

// isParked reports whether nothing may go on the car's bus.
func (r *reader) isParked() bool {
	if r.Parked == nil {
		return false
	}
	parked, _ := r.Parked()
	return parked
}

// rest leaves the car alone until it is parked no longer.
type rest struct {
	*reader
	s      *session
	asleep bool // the adapter

	looked, asked time.Duration // at the voltage; the car
	missing       int           // voltages in a row that did not come
}

// rest returns nil when the vehicle is parked no longer.
func (r *reader) rest(ctx context.Context, s *session) error {
	r.Rates.set(nil)
	r.Control.leave(errParked)
	r.Health.Clear("obd", "The vehicle is parked, its bus is left alone")
	r.Health.Clear("obd_signals", "The vehicle is parked, nothing is asked")
	if err := s.closeBus(ctx); err != nil { // of a K-line the adapter itself keeps awake what is open
		return err
	}
	d := &rest{reader: r, s: s, looked: r.Uptime(), asked: r.Uptime()}
	for {
		parked, changed := r.Parked()
		if !parked {
			return d.rouse(ctx)
		}
		if err := d.turn(ctx, changed); err != nil {
			return err
		}
	}
}

// turn does what is due, or waits for it.
func (d *rest) turn(ctx context.Context, changed <-chan struct{}) error {
	voltage, probe := d.Rest()
	if d.missing >= voltageMissing && voltage > 0 {
		voltage = max(voltage, voltageAgain)
	}
	now := d.Uptime()
	look, ask := d.looked+voltage, d.asked+probe
	switch {
	case voltage > 0 && look <= now:
		d.looked = now
		return d.look(ctx)
	case probe > 0 && ask <= now:
		d.asked = now
		return d.probe(ctx)
	}
	next := now + sleepWorth
	if voltage > 0 {
		next = min(next, look)
	}
	if probe > 0 {
		next = min(next, ask)
	}
	if d.Sleep && !d.asleep && next-now >= sleepWorth-restLook {
		return d.sleep(ctx)
	}
	return d.s.untilChanged(ctx, min(next, now+restLook), changed)
}

// untilChanged is until that ends with changed, too.
func (s *session) untilChanged(ctx context.Context, at time.Duration, changed <-chan struct{}) error {
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // ends with the wait
		select {
		case <-changed:
			stop()
		case <-waiting.Done():
		}
	}()
	err := s.until(waiting, at)
	if ctx.Err() == nil && waiting.Err() != nil {
		return nil
	}
	return err
}

// look reads the voltage.
func (d *rest) look(ctx context.Context) error {
	if err := d.rouse(ctx); err != nil {
		return err
	}
	for range looks {
		v, err := d.s.voltage(ctx)
		if err != nil {
			return err
		}
		if v.Arrived == 0 { // late, or lost: it may have one
			continue
		}
		if d.missing++; len(v.Fields) > 0 {
			d.missing = 0
		}
		d.deliver(v)
		return nil
	}
	return nil
}

// probe asks the car whether it is awake, and if so whether it is used; then it is left
// alone again.
func (d *rest) probe(ctx context.Context) error {
	if err := d.rouse(ctx); err != nil {
		return err
	}
	d.s.parked = nil // this once it may be asked
	defer func() { d.s.parked = d.isParked }()
	d.s.silences, d.s.known = 0, d.speaker // it stays on the bus that is known
	err := d.s.findBus(ctx, d.protocol)
	if err == nil {
		for _, pid := range []byte{0x0C, 0x0D} {
			v, _, _, failed := d.s.poll(ctx, []byte{pid}, func(name string) bool { return judged[name] > 0 })
			if failed != nil {
				return failed
			}
			d.deliver(v)
		}
	}
	if err != nil && !isSilence(err) {
		return err
	}
	return d.s.closeBus(ctx)
}

// closeBus closes the protocol. An adapter that does not know ATPC, or on whose way it was
// garbled, closes it in a reset.
func (s *session) closeBus(ctx context.Context) error {
	taken, err := s.set(ctx, "ATPC")
	if err == nil && !taken {
		_, err = s.wake(ctx)
	}
	return err
}

// sleep puts the adapter into low power (ELM327 data sheet, ATLP): it answers OK, and gives no
// prompt. One that does not know it stays awake.
func (d *rest) sleep(ctx context.Context) error {
	reply, err := d.s.ask(ctx, "ATLP", sleepLimit)
	if err != nil && !errors.Is(err, errTimeout) {
		return err
	}
	if err == nil && parseAnswer(reply.raw, "ATLP", UnknownBus).Has(NotUnderstood) {
		d.Sleep = false
		d.Log.Info("the adapter does not know how to sleep (ATLP); it stays awake")
		return nil
	}
	d.asleep = true
	return nil
}

// rouse wakes the adapter, if it sleeps: by any byte. It has forgotten its settings.
func (d *rest) rouse(ctx context.Context) error {
	if !d.asleep {
		return nil
	}
	d.asleep = false
	if err := d.s.send(ctx, " "); err != nil {
		return err
	}
	if _, err := d.s.collect(ctx, sleepLimit); err != nil && !errors.Is(err, errTimeout) {
		return err
	}
	_, err := d.s.wake(ctx)
	return err
}
