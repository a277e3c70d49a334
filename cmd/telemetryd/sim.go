package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"telemetryd/sim"
)

type simCommand struct {
	OBD      string        `name:"obd" default:"pty" help:"Where the ELM327 is: pty, pty:/path/of/a/link, tcp://127.0.0.1:35000, serial:///dev/ttyUSB1?baud=38400 or off."`
	GPS      string        `name:"gps" default:"pty" help:"Where the GPS receiver is: pty, tcp://127.0.0.1:35001, serial:///dev/ttyUSB2?baud=9600 or off."`
	Seed     uint64        `default:"1" help:"Chooses the drive; the same seed gives the same drive."`
	Script   string        `placeholder:"WHAT" help:"What the driver does besides driving calmly: events draws some of each kind, or a YAML file (docs/events.md)."`
	Speedup  float64       `default:"1" help:"Drive time per real time."`
	Baud     int           `name:"obd-baud" default:"38400" help:"Rate of the adapter's wire, 0 for no pacing."`
	ECUDelay time.Duration `name:"ecu-delay" default:"10ms" help:"How long the car takes to answer."`
	Protocol string        `default:"6" enum:"1,2,3,4,5,6,7,8,9" help:"The car's bus by its digit in ATSP: 6 is CAN 11 bit 500 kbit/s, 3 ISO 9141-2, 1 J1850 PWM."`
	ECUs     int           `name:"ecus" default:"1" help:"1: engine; 2: transmission too."`
	GPSRate  float64       `name:"gps-rate" default:"1" help:"Fixes per second, 1 to 10."`
	GPSBaud  int           `name:"gps-baud" default:"9600" help:"Rate of the receiver's wire, 0 for no pacing."`
	NoFixFor time.Duration `name:"no-fix-for" default:"0s" help:"How long the receiver has no fix at first."`
	Rollover bool          `help:"The receiver's dates are 1024 weeks late, as of one that missed a rollover of the GPS week number."`
	simKey
	Fault  []string      `placeholder:"NAME" help:"Injects a fault again and again; repeat for several, random for any, help to list them."`
	Every  time.Duration `name:"fault-every" default:"20s" help:"How often."`
	For    time.Duration `name:"fault-for" help:"How long each lasts; default: what fits it."`
	Replay string        `placeholder:"FILE" help:"Plays a recording of telemetryd run --record back, on --obd or --gps as it was recorded."`
	Truth  string        `placeholder:"FILE" help:"Writes what was served, and when, as JSON lines."`
}

// Run is the virtual vehicle until a signal comes.
func (c *simCommand) Run(ctx context.Context, s streams) (err error) {
	if c.Replay != "" {
		return c.replay(ctx, s)
	}
	if slices.Contains(c.Fault, "help") {
		for _, f := range sim.Faults() {
			fmt.Fprintf(s.out, "%-22s %s\n", f.Name, f.Says)
		}
		return nil
	}
	var truth io.Writer
	if c.Truth != "" {
		f, err := os.OpenFile(c.Truth, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
		if err != nil {
			return &usageError{err}
		}
		defer f.Close()
		truth = f
	}
	script, err := readScript(c.Script, c.Seed)
	if err != nil {
		return &usageError{err}
	}
	vehicle, err := sim.Start(ctx, sim.Config{
		Seed: c.Seed, Script: script, Speedup: c.Speedup, Truth: truth,
		OBD: sim.OBDConfig{Listen: c.OBD, Baud: c.Baud, ECUDelay: c.ECUDelay, Protocol: c.Protocol[0], ECUs: c.ECUs, NoVoltage: c.NoVoltage},
		GPS: sim.GPSConfig{Listen: c.GPS, Rate: c.GPSRate, Baud: c.GPSBaud, NoFixFor: c.NoFixFor, Rollover: c.Rollover},

		KeyOff: c.keyOff(), Electrics: c.electrics(),
	})
	if err != nil {
		return &usageError{err}
	}
	for _, part := range []struct{ name, address string }{{"--obd", vehicle.OBDAddress()}, {"--gps", vehicle.GPSAddress()}} {
		if part.address != "" {
			fmt.Fprintf(s.out, "%s %s\n", part.name, part.address)
		}
	}
	if err := c.inject(ctx, vehicle, s); err != nil {
		return errors.Join(&usageError{err}, vehicle.Close())
	}
	<-ctx.Done()
	if vehicle.OBDAddress() != "" {
		b := vehicle.BusTraffic()
		fmt.Fprintf(s.out, "bus: %d requests, %d openings, %d keep-alives\n", b.Requests, b.Openings, b.KeepAlives)
	}
	return vehicle.Close()
}

// inject injects the faults asked for, in turn, until ctx ends.
func (c *simCommand) inject(ctx context.Context, v *sim.Vehicle, s streams) error {
	if len(c.Fault) == 0 {
		return nil
	}
	all := sim.Faults()
	for _, name := range c.Fault {
		if name != "random" && !slices.ContainsFunc(all, func(f sim.Fault) bool { return f.Name == name }) {
			return fmt.Errorf("--fault: no fault is called %q; allowed: random %s", name, faultNames())
		}
	}
	if c.Every < 100*time.Millisecond {
		return fmt.Errorf("--fault-every: %v is not allowed; allowed: a duration from 100ms on", c.Every)
	}
	random := rand.New(rand.NewPCG(c.Seed, 0xFA17))
	for n := 0; ; n++ {
		select {
		case <-time.After(c.Every):
		case <-ctx.Done():
			return nil
		}
		name := c.Fault[n%len(c.Fault)]
		if name == "random" {
			name = all[random.IntN(len(all))].Name
		}
		if err := v.Inject(name, c.For); err != nil {
			fmt.Fprintf(s.err, "telemetryd: %v\n", err)
			continue
		}
		fmt.Fprintf(s.out, "fault %s\n", name)
	}
}

// faultNames lists the faults for help and errors.
func faultNames() string {
	var names []string
	for _, f := range sim.Faults() {
		names = append(names, f.Name)
	}
	return strings.Join(names, " ")
}

// replay plays a recording until a signal comes.
func (c *simCommand) replay(ctx context.Context, s streams) error {
	b, err := os.ReadFile(c.Replay)
	if err != nil {
		return &usageError{err}
	}
	first, _, _ := strings.Cut(string(b), "\n")
	name, listen := "--obd", c.OBD
	if strings.Contains(first, " gps ") {
		name, listen = "--gps", c.GPS
	}
	p, err := sim.Replay(ctx, bytes.NewReader(b), listen)
	if err != nil {
		return &usageError{fmt.Errorf("%s: %w", c.Replay, err)}
	}
	fmt.Fprintf(s.out, "%s %s\n", name, p.Address())
	<-ctx.Done()
	return p.Close()
}
