package obd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"telemetryd/internal/telemetry"
)

// Control lets others ask something of the car while it is read: its trouble codes, its
// identity, a sample at once, other rates for a time, and to clear its codes. What they
// ask is done by the goroutine that owns the port, between two requests of its own, one
// call at a time and under the same ceiling; while the car is not read nothing is put on
// its bus. The zero Control is ready; it is safe for concurrent use.
type Control struct {
	mu    sync.Mutex
	open  bool  // the car is read
	why   error // it is not
	queue []*call
	ring  context.CancelFunc // wakes the owner; nil while it is awake
}

// ErrNotRead is the error of a call while the car is not read.
var ErrNotRead = errors.New("the car is not read now")

const (
	// mostCalls bounds the calls that wait.
	mostCalls = 8
	// callLimit is how long a call may take once its turn has come: more than all
	// signals of a K-line take one by one.
	callLimit = 30 * time.Second
)

// call is one thing asked of the car.
type call struct {
	ctx context.Context // of who asked
	// start begins it, under the session's own ctx, and returns how to see that it is
	// done; nil: it is. lost is an error that ends the session.
	start func(ctx context.Context, d *reading) (ready func() bool, lost error)
	// end answers who asked, once.
	end func(err error)

	ready func() bool
	began time.Duration
}

// result is what becomes of a call.
type result[T any] struct {
	value T
	err   error
}

// ask has a call done and waits for what becomes of it, or for ctx. start runs in the
// owner's goroutine and leaves what it finds in out.
func ask[T any](ctx context.Context, c *Control, start func(ctx context.Context, d *reading, out *result[T]) (ready func() bool, lost error)) (T, error) {
	var none T
	var out result[T] // the owner's, until it has answered
	answer := make(chan result[T], 1)
	x := &call{ctx: ctx,
		start: func(ctx context.Context, d *reading) (func() bool, error) { return start(ctx, d, &out) },
		end: func(err error) {
			if err != nil {
				out = result[T]{err: err}
			}
			answer <- out
		}}
	if err := c.enqueue(x); err != nil {
		return none, err
	}
	select {
	case r := <-answer:
		return r.value, r.err
	case <-ctx.Done():
		c.forget(x)
		return none, fmt.Errorf("the car has not answered in time: %w", context.Cause(ctx))
	}
}

func (c *Control) enqueue(x *call) error {
	if c == nil {
		return fmt.Errorf("%w: no adapter is set; name one with --obd", ErrNotRead)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case x.ctx.Err() != nil:
		return context.Cause(x.ctx)
	case !c.open && c.why == nil:
		return fmt.Errorf("%w: the adapter is still looked for, or --obd is off", ErrNotRead)
	case !c.open:
		return fmt.Errorf("%w: %w", ErrNotRead, c.why)
	case len(c.queue) >= mostCalls:
		return fmt.Errorf("%d calls wait for the car already; ask again when they are answered", mostCalls)
	}
	c.queue = append(c.queue, x)
	if c.ring != nil {
		c.ring()
		c.ring = nil
	}
	return nil
}

// forget takes a call out of the queue that nobody waits for any more.
func (c *Control) forget(x *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = slices.DeleteFunc(c.queue, func(y *call) bool { return y == x })
}

// next takes the oldest call; nil for none.
func (c *Control) next() *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return nil
	}
	x := c.queue[0]
	c.queue = slices.Delete(c.queue, 0, 1)
	return x
}

// enter opens the door: the car is read from now on.
func (c *Control) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open, c.why = true, nil
}

// leave closes it for a reason, and tells those who wait. While the car is only asked
// anew what it has, they wait on.
func (c *Control) leave(why error) {
	c.mu.Lock()
	if c.ring != nil { // nobody sleeps any more
		c.ring()
		c.ring = nil
	}
	if errors.Is(why, errLookAgain) {
		c.mu.Unlock()
		return
	}
	c.open, c.why = false, plainly(why)
	waiting := c.queue
	c.queue = nil
	c.mu.Unlock()
	for _, x := range waiting {
		x.end(fmt.Errorf("%w: %w", ErrNotRead, c.why))
	}
}

// plainly tells why the car is not read as the conditions of health do.
func plainly(why error) error {
	condition := adapterCondition
	switch {
	case errors.Is(why, context.Canceled), errors.Is(why, errStopped):
		return errStopped
	case isSilence(why):
		condition = carCondition
	case errors.Is(why, errParked):
		return fmt.Errorf("%w, and its bus is left alone; start the engine", why)
	case errors.Is(why, errNothingWanted):
		return fmt.Errorf("%w; name others with --signals", why)
	}
	told := condition(why)
	return &unread{fmt.Sprintf("%s; %s", told.Title, told.Remedy), why}
}

// unread is a reason in a mechanic's words.
type unread struct {
	text  string
	cause error
}

func (u *unread) Error() string { return u.text }
func (u *unread) Unwrap() error { return u.cause }

// errStopped is the reason after the end.
var errStopped = errors.New("telemetryd stops")

// woken is a context that ends when a call comes, or with ctx.
func (c *Control) woken(ctx context.Context) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, ring := context.WithCancel(ctx)
	if len(c.queue) > 0 {
		ring()
		return ctx
	}
	c.ring = ring
	return ctx
}

// pause waits for the time since boot at. It ends early when there is something else to
// do before: a call came, or a rate is to go back. It ends, too, when the vehicle counts as parked.
func (d *reading) pause(ctx context.Context, at time.Duration) (early bool, err error) {
	if back := d.lent.first(); back > 0 && back < at {
		early, at = true, back
	}
	wake := ctx
	if d.call == nil { // or the next one has to wait
		if d.waking == nil || d.waking.Err() != nil {
			d.waking = d.Control.woken(ctx)
		}
		wake = d.waking
	}
	if d.Parked == nil {
		err = d.s.until(wake, at)
	} else if parked, changed := d.Parked(); !parked { // else there is nothing to wait for
		err = d.s.untilChanged(wake, at, changed)
	}
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		return true, nil
	}
	return early, err
}

// obey does what is asked for, as far as that goes without a pause.
func (d *reading) obey(ctx context.Context) error {
	if d.lent.expire(d.Uptime()) {
		d.retune()
	}
	for {
		if d.call == nil {
			if d.call = d.Control.next(); d.call == nil {
				return nil
			}
			d.call.began = d.Uptime()
			var lost error
			if d.call.ready, lost = d.call.start(ctx, d); lost != nil {
				return lost
			}
		}
		switch c := d.call; {
		case c.ctx.Err() != nil:
			d.endCall(context.Cause(c.ctx))
		case c.ready == nil || c.ready():
			d.endCall(nil)
		case d.Uptime()-c.began > callLimit:
			d.endCall(fmt.Errorf("the car has not told all within %v: that is more than its bus, or --obd-max-requests, allows in this time", callLimit))
		default:
			return nil
		}
	}
}

// endCall answers the call at hand.
func (d *reading) endCall(err error) {
	d.call.end(err)
	d.call, d.sample, d.heardCodes = nil, nil, nil
}

// abandon answers the call at hand when the car is no longer read.
func (d *reading) abandon(why error) {
	if d.call != nil {
		d.endCall(fmt.Errorf("the car was lost while it was asked: %w", plainly(why)))
	}
}

// SampleNow reads every wanted signal once, at once, and returns what came. The readings
// are delivered as always.
func (c *Control) SampleNow(ctx context.Context) (map[string]telemetry.Value, error) {
	return ask(ctx, c, func(_ context.Context, d *reading, out *result[map[string]telemetry.Value]) (func() bool, error) {
		var left []*task
		for _, t := range d.plan.tasks {
			if len(t.signals) > 0 {
				t.soon(d.Uptime())
				left = append(left, t)
			}
		}
		out.value = map[string]telemetry.Value{}
		d.sample = out.value
		return func() bool {
			left = slices.DeleteFunc(left, func(t *task) bool { return t.asked || !slices.Contains(d.plan.tasks, t) })
			if len(left) == 0 && len(out.value) == 0 {
				out.err = errors.New("the car gave no value of any wanted signal; look at the status for what is wrong")
			}
			return len(left) == 0
		}, nil
	})
}

// deliver hands a reading on, and keeps it for who wants a sample now.
func (d *reading) deliver(r telemetry.Reading) {
	if d.sample != nil {
		for _, f := range r.Fields {
			d.sample[f.Name] = f.Value
		}
	}
	d.reader.deliver(r)
}
