package main

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"telemetryd/internal/drive"
	"telemetryd/internal/obd"
	"telemetryd/internal/port"
	"telemetryd/internal/status"
	"telemetryd/internal/telemetry"
	"telemetryd/sim"
)

// garage is a virtual vehicle with adapter, reader and judgement, wired as the daemon does, in
// time that the test makes pass.
type garage struct {
	t       *testing.T
	vehicle *sim.Vehicle
	drive   *drive.Drive
	health  *status.Health
	began   time.Time

	mu     sync.Mutex
	events []telemetry.Event
	values map[string]time.Duration // when each signal came last
	volts  int                      // voltages
	line   net.Conn                 // to the adapter
}

func (g *garage) uptime() time.Duration { return time.Since(g.began) + time.Hour }

// newGarage must be called in a bubble; end ends what it started.
func newGarage(t *testing.T, c sim.Config, parked drive.ParkedConfig, sleep bool) (g *garage, end func()) {
	t.Helper()
	c.OBD.Listen, c.Seed = "pipe", 3
	v, err := sim.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	g = &garage{t: t, vehicle: v, drive: drive.New(drive.Config{Parked: parked}), health: status.NewHealth(log), began: time.Now(), values: map[string]time.Duration{}}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for range time.Tick(time.Second) {
			if ctx.Err() != nil {
				return
			}
			g.mu.Lock()
			g.events = append(g.events, g.drive.Pass(g.uptime())...)
			g.mu.Unlock()
		}
	})
	running.Go(func() {
		obd.Run(ctx, obd.Config{
			Address: &port.Address{Scheme: "tcp", Host: "pipe"}, MaxRequests: 20, Uptime: g.uptime, Deliver: g.take, Health: g.health, Log: log,
			Parked: g.drive.Mode().Parked, Rest: g.drive.Mode().Rest, Sleep: sleep,
			Open: func(ctx context.Context, a port.Address) (*port.Port, error) {
				c, err := v.DialOBD(ctx)
				if err != nil {
					return nil, err
				}
				g.mu.Lock()
				defer g.mu.Unlock()
				g.line = c
				return port.New(a, c, g.uptime, nil), nil
			},
		})
	})
	return g, func() {
		stop()
		running.Wait()
		v.Close()
	}
}

func (g *garage) take(r telemetry.Reading) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, events := g.drive.Observe(r)
	g.events = append(g.events, events...)
	for _, f := range r.Fields {
		g.values[f.Name] = r.Arrived
		if f.Name == "battery_voltage_v" {
			g.volts++
		}
	}
}

// happened are the events of a type.
func (g *garage) happened(kind string) (list []telemetry.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.events {
		if e.Type == kind {
			list = append(list, e)
		}
	}
	return list
}

func (g *garage) voltages() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.volts
}

// unplug ends the connection to the adapter, which is there again at once.
func (g *garage) unplug() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.line.Close()
}

// last is when a signal came last.
func (g *garage) last(signal string) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.values[signal]
}

// A day with the ignition off: nothing goes on the bus, as the virtual vehicle itself counts, and
// the first values come within 10 s of the engine's start. For 12 and 24 V, hybrids, electric
// cars, and a K-line, which the adapter would keep awake by itself.
func TestParkedForADay(t *testing.T) {
	for _, test := range []struct {
		name   string
		sim    sim.Config
		parked drive.ParkedConfig
		off    time.Duration // how long the key is
		loose  bool          // the adapter, every half hour meanwhile
		signal string        // that is to come again
	}{
		{name: "12 V", off: 24 * time.Hour, signal: "engine_speed_rpm"},
		{name: "24 V", sim: sim.Config{Electrics: sim.Electrics{System: 24}}, off: 24 * time.Hour, signal: "engine_speed_rpm"},
		{name: "hybrid", sim: sim.Config{Electrics: sim.Electrics{Powertrain: "hybrid"}}, parked: drive.ParkedConfig{Powertrain: drive.Hybrid}, off: 4 * time.Hour, signal: "vehicle_speed_kmh"},
		{name: "electric", sim: sim.Config{Electrics: sim.Electrics{Powertrain: "electric"}}, parked: drive.ParkedConfig{Powertrain: drive.Electric}, off: 4 * time.Hour, signal: "vehicle_speed_kmh"},
		{name: "K-line", sim: sim.Config{OBD: sim.OBDConfig{Protocol: '3'}, KeyOff: []sim.KeyOff{{Ignition: 10 * time.Minute}}}, off: 4 * time.Hour, signal: "engine_speed_rpm"},
		{name: "K-line, no ATPC", sim: sim.Config{OBD: sim.OBDConfig{Protocol: '5', NoClose: true}, KeyOff: []sim.KeyOff{{Ignition: 10 * time.Minute}}}, off: 4 * time.Hour, signal: "engine_speed_rpm"},
		{name: "ignition on for ten minutes", sim: sim.Config{KeyOff: []sim.KeyOff{{Ignition: 10 * time.Minute}}}, off: 4 * time.Hour, signal: "engine_speed_rpm"},
		{name: "an adapter that measures a volt too much", sim: sim.Config{Electrics: sim.Electrics{Resting: 13.6, Charging: 15.1}}, off: 4 * time.Hour, signal: "engine_speed_rpm"},
		{name: "signals that the car refuses", sim: sim.Config{OBD: sim.OBDConfig{Denies: []byte{0x04, 0x11}}}, off: time.Hour, signal: "engine_speed_rpm"},
		{name: "a loose adapter", loose: true, off: 4 * time.Hour, signal: "engine_speed_rpm"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := test.sim
				key := sim.KeyOff{From: 3 * time.Minute, For: test.off}
				if len(c.KeyOff) > 0 {
					key.Ignition = c.KeyOff[0].Ignition
				}
				c.KeyOff = []sim.KeyOff{key}
				g, end := newGarage(t, c, test.parked, false)
				defer end()
				for len(g.happened("parked")) == 0 && time.Since(g.began) < 30*time.Minute {
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(time.Second)
				before := g.vehicle.BusTraffic()
				time.Sleep(30*time.Minute - time.Since(g.began))
				parked := g.happened("parked")
				if len(parked) != 1 {
					t.Fatalf("parked %d times within half an hour", len(parked))
				}
				if list := g.health.Conditions(); len(list) != 0 {
					t.Errorf("a parked vehicle complains: %v", list)
				}
				// From a second after it was parked on; what was under way then may end.
				if before.Requests == 0 {
					t.Fatal("no request was ever made")
				}
				started := g.engineStart(test.off)
				for test.loose && time.Until(started) > time.Hour {
					time.Sleep(30 * time.Minute)
					g.unplug()
				}
				time.Sleep(time.Until(started) - 2*time.Second)
				if now := g.vehicle.BusTraffic(); now != before {
					t.Errorf("on the bus while parked: %+v, before %+v", now, before)
				}
				if n := len(g.happened("unparked")); n != 0 {
					t.Errorf("woke %d times", n)
				}
				for g.last(test.signal) < g.since(started) && time.Since(started) < 15*time.Second {
					time.Sleep(10 * time.Millisecond)
				}
				first := g.last(test.signal) - g.since(started)
				if first < 0 || first > 10*time.Second {
					t.Fatalf("the first %s comes %v after the engine's start", test.signal, first)
				}
				woke := g.happened("unparked")
				if len(woke) != 1 {
					t.Fatalf("woke %d times after the start", len(woke))
				}
				t.Logf("parked: %+v; woken %v after the engine's start, first value after %v; %d voltages, %+v in all",
					parked[0].Data, woke[0].At-g.since(started), first, g.voltages(), g.vehicle.BusTraffic())
			})
		})
	}
}

// since is a moment as time since boot.
func (g *garage) since(at time.Time) time.Duration { return at.Sub(g.began) + time.Hour }

// engineStart is when the engine starts that was stopped at the first standstill after three
// minutes, for so long.
func (g *garage) engineStart(off time.Duration) time.Time {
	d, at := sim.NewDrive(3), 3*time.Minute
	for d.At(at).SpeedKMH > 0 {
		at += 50 * time.Millisecond
	}
	return g.began.Add(at + off + time.Second)
}

// Where neither voltage nor receiver can tell, the car is asked now and then: a handful of
// requests at a time, and none that keeps it awake.
func TestParkedProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, end := newGarage(t, sim.Config{OBD: sim.OBDConfig{NoVoltage: true}, KeyOff: []sim.KeyOff{{From: 3 * time.Minute, For: 3 * time.Hour}}}, drive.ParkedConfig{}, false)
		defer end()
		time.Sleep(30 * time.Minute)
		if n := len(g.happened("parked")); n != 1 {
			t.Fatalf("parked %d times", n)
		}
		before := g.vehicle.BusTraffic()
		time.Sleep(2 * time.Hour)
		now := g.vehicle.BusTraffic()
		if requests, openings := now.Requests-before.Requests, now.Openings-before.Openings; requests != 0 || openings < 23 || openings > 25 {
			t.Errorf("%d requests and %d openings in two hours, want 0 and one every five minutes: a car that is asleep is not asked further", requests, openings)
		}
		started := g.engineStart(3 * time.Hour)
		time.Sleep(time.Until(started) + 5*time.Minute + 10*time.Second)
		woke := g.happened("unparked")
		if len(woke) != 1 || woke[0].Data.(drive.Woke).Reason != "engine" {
			t.Errorf("woke %+v", woke)
		}
		time.Sleep(10 * time.Second)
		if old := g.uptime() - g.last("engine_speed_rpm"); old > time.Second {
			t.Errorf("the engine's speed is %v old", old)
		}
	})
}

// An adapter that is put to sleep is woken for each look at the voltage, and speaks to no car.
func TestParkedAdapterSleeps(t *testing.T) {
	for _, knows := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			g, end := newGarage(t, sim.Config{OBD: sim.OBDConfig{NoSleep: !knows}, KeyOff: []sim.KeyOff{{From: 3 * time.Minute, For: 5 * time.Hour}}},
				drive.ParkedConfig{VoltageEvery: 10 * time.Minute}, true)
			defer end()
			time.Sleep(30 * time.Minute)
			before, volts := g.vehicle.BusTraffic(), g.voltages()
			time.Sleep(4 * time.Hour)
			if now := g.vehicle.BusTraffic(); now != before {
				t.Errorf("on the bus while parked: %+v, before %+v", now, before)
			}
			if n := g.voltages() - volts; n != 24 {
				t.Errorf("%d voltages in four hours, want 24", n)
			}
			started := g.engineStart(5 * time.Hour)
			for time.Sleep(time.Until(started)); len(g.happened("unparked")) == 0 && time.Since(started) < 10*time.Minute+10*time.Second; {
				time.Sleep(time.Second)
			}
			time.Sleep(5 * time.Second)
			if len(g.happened("unparked")) != 1 || g.uptime()-g.last("engine_speed_rpm") > 5*time.Second {
				t.Errorf("woke %v, the engine's speed is %v old", g.happened("unparked"), g.uptime()-g.last("engine_speed_rpm"))
			}
		})
	}
}

// What is kept of a parked vehicle: that it is, and that its car had told its speeds.
func TestParkedIsKept(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, speaks := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			d := drive.New(drive.Config{})
			ctx, stop := context.WithCancel(t.Context())
			var keeping sync.WaitGroup
			keeping.Go(func() { keepParked(ctx, dir, false, d.Mode(), status.NewHealth(log)) })
			r := telemetry.Reading{Arrived: time.Hour}
			r.Add("battery_voltage_v", 12.6)
			if speaks {
				r.Add("engine_speed_rpm", 0)
			}
			for range 400 {
				d.Observe(r)
				if r.Arrived += time.Second; len(r.Fields) > 1 {
					r.Fields = r.Fields[:1] // the key is out
				}
			}
			synctest.Wait()
			stop()
			keeping.Wait()
			at, _ := d.Mode().Changed()
			if parked, since, spoke := wasParked(dir, log); !parked || since != at || since < time.Hour+time.Minute || spoke != speaks {
				t.Errorf("kept: parked %v since %v, spoke %v; want true, %v, %v", parked, since, spoke, at, speaks)
			}
		})
	}
}
