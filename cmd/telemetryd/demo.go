package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryd/internal/drive"
	"telemetryd/internal/port"
	"telemetryd/internal/publish"
	"telemetryd/sim"
)

type demoCommand struct {
	VehicleID string  `default:"demo" help:"Topic segment that names the vehicle."`
	Broker    string  `placeholder:"URL" help:"A real broker in place of the embedded one."`
	Seed      uint64  `default:"1" help:"Chooses the drive."`
	Script    string  `placeholder:"WHAT" help:"What the driver does besides driving calmly: events draws some of each kind, or a YAML file (docs/events.md)."`
	Speedup   float64 `default:"1" help:"Drive time per real time."`
}

// demoInterval is the batch interval of the demo: a viewer waits for the first batch.
const demoInterval = time.Second

// Run shows the whole product without hardware: everything but the vehicle and the
// broker is what runs in a car, and what is shown comes from the broker.
func (c *demoCommand) Run(ctx context.Context, s streams) error {
	if !idPattern.MatchString(c.VehicleID) {
		return badVehicleID(c.VehicleID)
	}
	script, err := readScript(c.Script, c.Seed)
	if err != nil {
		return &usageError{err}
	}
	state, err := os.MkdirTemp("", "telemetryd-demo-")
	if err != nil {
		return fmt.Errorf("make a state directory for the demo: %w", err)
	}
	defer os.RemoveAll(state)

	address := c.Broker
	if address == "" {
		embedded, err := startBroker()
		if err != nil {
			return err
		}
		defer embedded.Close()
		address = "mqtt://" + embedded.address
	}
	target, err := publish.ParseBroker(address)
	if err != nil {
		return &usageError{fmt.Errorf("--broker: %w", err)}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	vehicle, err := sim.Start(ctx, sim.Config{
		Seed: c.Seed, Script: script, Speedup: c.Speedup,
		OBD: sim.OBDConfig{Listen: "pty", Baud: 38400},
		GPS: sim.GPSConfig{Listen: "pty", Baud: 9600},
	})
	if err != nil {
		return fmt.Errorf("start the virtual vehicle: %w", err)
	}
	defer vehicle.Close()
	o, err := demoOptions(c, vehicle, target, state)
	if err != nil {
		return err
	}

	fmt.Fprintf(s.out, "virtual vehicle   OBD %s   GPS %s\n", vehicle.OBDAddress(), vehicle.GPSAddress())
	fmt.Fprintf(s.out, "broker            %s\n", target)
	if c.Script != "" && c.Speedup > 1 {
		fmt.Fprintf(s.out, "driving events    are not looked for at %v times the pace: all of it would be harsh\n", c.Speedup)
	}
	fmt.Fprintf(s.out, "watch from outside:\n  %s\n\n", watchLine(target.String(), c.VehicleID))

	view := newView(s.out)
	log := slog.New(slog.NewTextHandler(view, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var product sync.WaitGroup
	served := make(chan error, 1)
	product.Go(func() { served <- serve(ctx, o, log) })
	err = c.watch(ctx, target, view, served)
	stop()
	product.Wait()
	return err
}

func demoOptions(c *demoCommand, v *sim.Vehicle, target publish.Broker, state string) (options, error) {
	o := options{
		vehicleID: c.VehicleID, clientID: "telemetryd-" + c.VehicleID, brokers: []publish.Broker{target},
		topicPrefix: "vehicles", stateDir: state, bufferSize: 64 << 20, batchInterval: demoInterval, maxRequests: 20,
		fastest: 500 * max(1, c.Speedup), driving: drive.UsualDriving,
	}
	o.driving.OverspeedKMH = usualThresholds.OverspeedKMH // a script has something to break
	if c.Speedup > 1 {
		o.driving = drive.Driving{} // all of it would be harsh
	}
	for _, part := range []struct {
		address string
		source  *source
	}{{v.OBDAddress(), &o.obd}, {v.GPSAddress(), &o.gps}} {
		a, err := port.Parse(part.address, "serial")
		if err != nil {
			return o, fmt.Errorf("address of the virtual vehicle: %w", err)
		}
		part.source.address = &a
	}
	return o, nil
}

// watch shows what arrives from the broker until ctx or the product ends.
func (c *demoCommand) watch(ctx context.Context, target publish.Broker, v *view, served <-chan error) error {
	watching, stop := context.WithCancel(ctx)
	var following sync.WaitGroup
	followed := make(chan error, 1)
	following.Go(func() {
		followed <- publish.Follow(watching, publish.Follower{
			Broker: target, ClientID: "telemetryd-demo-view", Topic: "vehicles/" + c.VehicleID + "/#", Message: v.message, Said: func(error) {},
		})
	})
	defer following.Wait()
	defer stop()
	select {
	case err := <-followed:
		return err
	case err := <-served:
		if err == nil && ctx.Err() == nil {
			err = errors.New("the daemon ended")
		}
		return err
	case <-ctx.Done():
		return nil
	}
}

// watchLine is what to type to see the same from outside.
func watchLine(brokerURL, vehicleID string) string {
	u, err := url.Parse(brokerURL)
	if err != nil {
		return ""
	}
	line := "mosquitto_sub"
	if u.Hostname() != "127.0.0.1" && u.Hostname() != "localhost" {
		line += " -h " + u.Hostname()
	}
	return fmt.Sprintf("%s -p %s -t 'vehicles/%s/#' -v", line, u.Port(), vehicleID)
}

// demoBroker is an MQTT broker inside this process, on loopback only.
type demoBroker struct {
	*broker.Server
	address string
}

func startBroker() (*demoBroker, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open a port for the embedded broker: %w", err)
	}
	server := broker.New(&broker.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := server.AddHook(new(allowAll), nil); err != nil {
		return nil, fmt.Errorf("set up the embedded broker: %w", err)
	}
	if err := server.AddListener(listeners.NewNet("demo", l)); err != nil {
		return nil, fmt.Errorf("set up the embedded broker: %w", err)
	}
	if err := server.Serve(); err != nil {
		return nil, fmt.Errorf("start the embedded broker: %w", err)
	}
	return &demoBroker{server, strings.TrimSpace(l.Addr().String())}, nil
}

// allowAll lets every client do everything: the broker listens on loopback only.
type allowAll struct{ broker.HookBase }

// Provides implements broker.Hook.
func (*allowAll) Provides(b byte) bool {
	return b == broker.OnConnectAuthenticate || b == broker.OnACLCheck
}

// OnConnectAuthenticate implements broker.Hook.
func (*allowAll) OnConnectAuthenticate(*broker.Client, packets.Packet) bool { return true }

// OnACLCheck implements broker.Hook.
func (*allowAll) OnACLCheck(*broker.Client, string, bool) bool { return true }
