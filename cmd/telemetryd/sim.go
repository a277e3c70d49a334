package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"telemetryd/sim"
)

type simCommand struct {
	OBD      string        `name:"obd" default:"pty" help:"Where the ELM327 is: pty, tcp://127.0.0.1:35000, serial:///dev/ttyUSB1?baud=38400 or off."`
	GPS      string        `name:"gps" default:"pty" help:"Where the GPS receiver is: pty, tcp://127.0.0.1:35001, serial:///dev/ttyUSB2?baud=9600 or off."`
	Seed     uint64        `default:"1" help:"Chooses the drive; the same seed gives the same drive."`
	Speedup  float64       `default:"1" help:"Drive time per real time."`
	Baud     int           `name:"obd-baud" default:"38400" help:"Rate of the adapter's wire, 0 for no pacing."`
	ECUDelay time.Duration `name:"ecu-delay" default:"10ms" help:"How long the car takes to answer."`
	Protocol string        `default:"6" enum:"1,2,3,4,5,6,7,8,9" help:"The car's bus by its digit in ATSP: 6 is CAN 11 bit 500 kbit/s, 3 ISO 9141-2, 1 J1850 PWM."`
	ECUs     int           `name:"ecus" default:"1" help:"1: engine; 2: transmission too."`
	GPSRate  float64       `name:"gps-rate" default:"1" help:"Fixes per second, 1 to 10."`
	GPSBaud  int           `name:"gps-baud" default:"9600" help:"Rate of the receiver's wire, 0 for no pacing."`
	NoFixFor time.Duration `name:"no-fix-for" default:"0s" help:"How long the receiver has no fix at first."`
	Truth    string        `placeholder:"FILE" help:"Writes what was served, and when, as JSON lines."`
}

// Run is the virtual vehicle until a signal comes.
func (c *simCommand) Run(ctx context.Context, s streams) (err error) {
	var truth io.Writer
	if c.Truth != "" {
		f, err := os.OpenFile(c.Truth, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
		if err != nil {
			return &usageError{err}
		}
		defer f.Close()
		truth = f
	}
	vehicle, err := sim.Start(ctx, sim.Config{
		Seed: c.Seed, Speedup: c.Speedup, Truth: truth,
		OBD: sim.OBDConfig{Listen: c.OBD, Baud: c.Baud, ECUDelay: c.ECUDelay, Protocol: c.Protocol[0], ECUs: c.ECUs},
		GPS: sim.GPSConfig{Listen: c.GPS, Rate: c.GPSRate, Baud: c.GPSBaud, NoFixFor: c.NoFixFor},
	})
	if err != nil {
		return &usageError{err}
	}
	for _, part := range []struct{ name, address string }{{"--obd", vehicle.OBDAddress()}, {"--gps", vehicle.GPSAddress()}} {
		if part.address != "" {
			fmt.Fprintf(s.out, "%s %s\n", part.name, part.address)
		}
	}
	<-ctx.Done()
	return vehicle.Close()
}
