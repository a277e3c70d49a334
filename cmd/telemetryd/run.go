package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alecthomas/kong"
	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"

	"telemetryd/internal/action"
	"telemetryd/internal/budget"
	"telemetryd/internal/gps"
	"telemetryd/internal/local"
	"telemetryd/internal/obd"
	"telemetryd/internal/port"
	"telemetryd/internal/publish"
	"telemetryd/internal/record"
	"telemetryd/internal/recorder"
	"telemetryd/internal/spool"
	"telemetryd/internal/status"
	"telemetryd/internal/telemetry"
)

type runCommand struct {
	settings
}

// Run is the daemon.
func (c *runCommand) Run(ctx context.Context, command *kong.Context, s streams) error {
	if err := c.load(command); err != nil {
		return &usageError{err}
	}
	o, err := c.judge()
	if err != nil {
		return &usageError{err}
	}
	return serve(ctx, o, newLog(o, s.err))
}

func newLog(o options, w io.Writer) *slog.Logger {
	h := &slog.HandlerOptions{Level: o.logLevel}
	if o.logJSON {
		return slog.New(slog.NewJSONHandler(w, h))
	}
	return slog.New(slog.NewTextHandler(w, h))
}

const (
	// spoolRetry is how often a buffer that cannot be opened is tried again.
	spoolRetry = 5 * time.Second
	// sourcesLimit is how long the sources may take to end at a stop.
	sourcesLimit = 500 * time.Millisecond
)

// serve is the picture in docs/architecture.md: sources deliver readings to the
// recorder, which fills the buffer, which the publisher empties. It ends in that
// order, so that what was read is durable and on its way.
func serve(ctx context.Context, o options, log *slog.Logger) error {
	if os.Getenv("GOMAXPROCS") == "" {
		// There is a little to do, often. Waking a second thread each time costs more
		// CPU than all the work (measured: make bench-obd).
		runtime.GOMAXPROCS(1)
	}
	streamID := ulid.Make().String()
	health := status.NewHealth(log)
	log.Info("telemetryd starts", "version", version, "vehicle_id", o.vehicleID, "stream_id", streamID, "state_dir", o.stateDir)

	buffer, err := openBuffer(ctx, o, streamID, health, log)
	if err != nil || buffer == nil {
		return err
	}
	system := new(systemClock)
	clock, keepClock := openClock(o.stateDir, system, health, log)
	if o.bufferAge > 0 {
		buffer.Expire(olderThan(o.bufferAge, clock))
	}
	link := new(publish.Link)
	account := openAccount(o, link, clock, health, log)
	vehicle, keepMeaning := openMeaning(o, clock, health, log)
	mode := vehicle.Mode()
	latest := &telemetry.Latest{Coarse: o.privacy.Coarse()}
	runner := new(action.Runner) // of hooks and commands
	reach := &reached{Health: health}
	hooks := openHooks(o, runner, mode, reach, health, log)
	rec := recorder.New(recorder.Config{
		VehicleID: o.vehicleID, Clock: clock, Store: buffer, Meaning: vehicle, Interval: o.batchInterval, Columns: o.form.Columns,
		Limit: o.batchLimit(), Few: account.Spent, Kept: latest.Note, Happened: hooks.Happened, Health: health, Log: log,
	})
	rec.Begin(streamStart(buffer, clock))

	sources, stopSources := context.WithCancel(context.WithoutCancel(ctx))
	recording, stopRecording := context.WithCancel(context.WithoutCancel(ctx))
	publishing, stopPublishing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSources()
	defer stopRecording()
	defer stopPublishing()
	var reading, writing, sending, acting sync.WaitGroup
	acting.Go(func() { hooks.Run(ctx) })
	rates, counters := new(obd.Rates), new(obd.Counters)
	car := new(obd.Control)
	var turning wheels
	fixes := new(gps.Counters)
	sending.Go(func() {
		status.Serve(publishing, o.http, health, log, obd.Metrics(counters, rates), gps.Metrics(fixes), budget.Metrics(account, link.Sockets), hooks.Metrics())
	})
	session := publish.Config{
		Brokers: o.brokers, ClientID: o.clientID, Credentials: o.credentials, TopicPrefix: o.topicPrefix,
		VehicleID: o.vehicleID, StreamID: streamID, Form: o.form, Limits: o.limits, WriteOnly: o.writeOnly, Version: version,
		Store: buffer, Clock: clock, Health: reach, HealthChanged: health.Changed(), Rates: rates.Read, Log: log,
		Link: link, Receipts: new(publish.Receipts), Backlog: account.Backlog, Data: account.Status, Few: account.Spent,
		Parked: o.parked.told(mode), Beside: o.beside(latest, clock, mode, log), Outbox: publish.NewOutbox(),
	}
	if d := o.dispatcher(builtins(session.Status, carCommands(car, o.commands.car)), runner, clock, session.Outbox, health, log); d != nil {
		session.Commands = d
		reading.Go(func() { d.Run(sources) })
	}
	sending.Go(func() { publish.Run(publishing, session) })
	reading.Go(func() {
		local.Serve(sources, local.Config{Dir: o.stateDir, Recorder: rec, Store: buffer, Receipts: session.Receipts, Uptime: uptime, Health: health})
	})
	sending.Go(func() { account.Run(publishing) })
	sending.Go(func() { system.follow(publishing, log) })
	sending.Go(func() { keepClock(publishing) })
	sending.Go(func() { keepMeaning(publishing) })
	writing.Go(func() { rec.Run(recording) })
	if !o.obd.off {
		reading.Go(func() {
			tap, end := o.tap("obd", log)
			defer end()
			obd.Run(sources, obd.Config{
				Address: o.obd.address, Find: func() []port.Address { return o.findAdapters(sources) }, Candidates: o.unknownPorts, Stable: port.StableName, Tap: tap,
				Wanted: o.rates, Own: o.own, MaxRequests: o.maxRequests, Rates: rates, Counters: counters, Control: car,
				Uptime: uptime, Deliver: func(r telemetry.Reading) { turning.note(r); rec.Deliver(r) }, Event: rec.Event, Health: health, Log: log,
				Parked: o.parked.ask(mode), Rest: mode.Rest, Sleep: o.parked.sleep,
			})
		})
	}
	if !o.gps.off {
		reading.Go(func() {
			tap, end := o.tap("gps", log)
			defer end()
			_ = gps.Run(sources, gps.Config{
				Address: o.gps.address, GPSD: new(port.LocalGPSD()), Find: o.findReceivers, Stable: port.StableName, Tap: tap, BuildDate: buildDate(),
				Uptime: uptime, Deliver: rec.Deliver, Time: clock.Fix, WheelSpeed: turning.speed, Fastest: o.fastest, Counters: fixes, Health: health, Log: log,
				Discreet: o.privacy.Hides(),
			})
		})
	}

	<-ctx.Done()
	log.Info("telemetryd stops")
	stopSources()
	awaitUpTo(sourcesLimit, &reading)
	stopRecording()
	writing.Wait()
	vehicle.Close()
	stopPublishing()
	sending.Wait()
	acting.Wait()
	account.Close()
	if err := buffer.Close(); err != nil { // stopped as asked all the same
		log.Warn("the buffer did not end well: what is not on the disk is lost, or sent again", "error", err)
	}
	return nil
}

// openAccount keeps account of what the link carries, beside the buffer.
func openAccount(o options, link *publish.Link, clock *telemetry.Clock, health *status.Health, log *slog.Logger) *budget.Account {
	return budget.Open(budget.Config{
		Path: filepath.Join(o.stateDir, "usage"), Budget: o.dataBudget, Day: o.dataBudgetDay, Now: clock.Now,
		Count: func() budget.Count {
			t := link.Read()
			return budget.Count{Sent: t.Sent + t.SentHeaders, Received: t.Received + t.ReceivedHeaders}
		},
		Health: health, Log: log,
	})
}

// tap is where a port is recorded; nil when the user wants no recording. end is called
// when the port is closed.
func (o options) tap(kind string, log *slog.Logger) (tap port.Tap, end func()) {
	if o.record == "" {
		return nil, func() {}
	}
	l := record.Open(o.record, kind, o.recordSize/2, log)
	return l, l.Close
}

// findAdapters lists the ports that are known to be adapters and, if the user allows
// it, those of which nothing is known and nothing is heard.
func (o options) findAdapters(ctx context.Context) []port.Address {
	found := port.FindAdapters()
	if o.obdProbe {
		for _, a := range o.unknownPorts() {
			if port.Silent(ctx, a, uptime) {
				found = append(found, a)
			}
		}
	}
	return found
}

// findReceivers lists the ports that a receiver may be listened to at: those named as
// receivers, and the header of a Raspberry Pi. To open any other may reset what is
// there, so that it takes the user's leave (--obd-probe), and an adapter that is not
// looked for at the same ports.
func (o options) findReceivers() []port.Address {
	found := append(port.FindReceivers(), port.FindHeader()...)
	if o.obdProbe && (o.obd.off || o.obd.address != nil) {
		found = append(found, port.FindUnknown()...)
	}
	return slices.DeleteFunc(found, func(a port.Address) bool { return o.obd.address != nil && a.SameDevice(*o.obd.address) })
}

// unknownPorts lists the ports of which nothing is known. The receiver's is not among
// them.
func (o options) unknownPorts() []port.Address {
	return slices.DeleteFunc(port.FindUnknown(), func(a port.Address) bool {
		return o.gps.address != nil && a.SameDevice(*o.gps.address)
	})
}

// awaitUpTo waits for a group, but not longer than limit: a device that hangs must
// not keep the open batch from being written.
func awaitUpTo(limit time.Duration, group *sync.WaitGroup) {
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// openBuffer opens the buffer. What a person has to mend at once is an error; a disk
// that fails is waited for. It returns nothing when ctx ends first.
func openBuffer(ctx context.Context, o options, streamID string, health *status.Health, log *slog.Logger) (*spool.Spool, error) {
	for {
		b, err := spool.Open(o.stateDir, spool.Options{StreamID: streamID, MaxBytes: o.bufferSize, Log: log})
		if err == nil {
			health.Clear("buffer", "The buffer can be opened")
			return b, nil
		}
		if locked, ok := errors.AsType[*spool.LockedError](err); ok {
			return nil, fmt.Errorf("another telemetryd (process %d) uses the state directory %s: stop it, or give this one a --state-dir of its own", locked.PID, o.stateDir)
		}
		if _, ok := errors.AsType[*spool.FormatError](err); ok {
			return nil, err
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("no permission for the state directory %s: %w; give it to this user, or name another with --state-dir", o.stateDir, err)
		}
		health.Set("buffer", telemetry.Condition{Code: "buffer_failing", Severity: telemetry.Warning,
			Title: fmt.Sprintf("The buffer cannot be opened: %v", err), Remedy: "is the disk mounted, writable and not full? It is tried again"})
		select {
		case <-time.After(spoolRetry):
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// olderThan tells whether a record is older than age, as far as its time is known.
func olderThan(age time.Duration, clock *telemetry.Clock) func(payload []byte) bool {
	return func(payload []byte) bool {
		r, err := telemetry.ParseRecord(payload)
		if err != nil {
			return false // it is named when it is sent
		}
		zero, _, known := clock.ZeroOf(r.BootID)
		now, quality := clock.Now()
		return known && quality != telemetry.Unsynced && now.Sub(zero.Add(r.Newest)) > age
	}
}

func streamStart(b *spool.Spool, c *telemetry.Clock) telemetry.Event {
	var data telemetry.StreamStart
	if id, last, ok := b.Previous(); ok {
		data = telemetry.StreamStart{PreviousStreamID: id, PreviousLastSeq: last}
	}
	return telemetry.Event{Type: "stream_start", Severity: telemetry.Info, At: c.Uptime(), Data: data}
}

// The boot that the daemon runs in; tests hand in another.
var uptime, bootID = sinceBoot, kernelBootID

// sinceBoot is the time since boot, suspended time included.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("CLOCK_BOOTTIME: %v", err)) // every Linux since 2.6.39 has it
	}
	return time.Duration(ts.Nano())
}

// kernelBootID is the kernel's name for this boot. Where a sandbox hides it, a start of
// the daemon counts as a boot.
func kernelBootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if id := strings.TrimSpace(string(b)); err == nil && id != "" {
		return id
	}
	return strings.ToLower(rand.Text())
}
