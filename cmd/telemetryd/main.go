// Command telemetryd reads a vehicle's OBD-II adapter and its GPS receiver, keeps
// what it read in a durable buffer and publishes it over MQTT.
//
// This package owns the command line, the settings and the wiring of the rooms; it
// holds no logic of theirs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() { os.Exit(execute(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// Exit statuses besides 0, stopped as asked.
const (
	exitFailed = 1 // what cannot be waited out
	exitUsage  = 2 // bad usage or settings
)

// usageError is a mistake in the arguments or settings.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// commandLine is all that can be typed.
type commandLine struct {
	Run     runCommand     `cmd:"" default:"withargs" help:"Read, buffer and publish: the daemon. The word run may be left out."`
	Demo    demoCommand    `cmd:"" help:"The whole product without hardware: a virtual vehicle, an embedded broker, and the samples as they arrive from it."`
	Sim     simCommand     `cmd:"" help:"Only the virtual vehicle, an ELM327 adapter and a GPS receiver, for this or any other program."`
	Decode  decodeCommand  `cmd:"" help:"Recorded raw bytes in, one JSON object per reading or fix out."`
	Ports   portsCommand   `cmd:"" help:"Serial ports, what is heard there (nothing is written), and the --obd or --gps value to use."`
	Tail    tailCommand    `cmd:"" help:"Follow a vehicle from any machine: a live table in a terminal, JSON lines in a pipe."`
	Command commandCommand `cmd:"" help:"Send a command to a vehicle from any machine, or sign one."`
	Buffer  bufferCommand  `cmd:"" help:"Look into the buffer, or export it; also while the daemon runs."`
	Emit    emitCommand    `cmd:"" help:"Record an event from this machine, as a panic button does: telemetryd emit emergency --note help."`
	Version versionCommand `cmd:"" help:"Print version, commit, Go version and target."`
}

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// execute runs one command and returns the exit status.
func execute(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := dispatch(ctx, args, streams{in, out, errOut})
	if err == nil {
		return 0
	}
	fmt.Fprintf(errOut, "telemetryd: %v\n", err)
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// exited ends the parser after --help.
type exited int

func dispatch(ctx context.Context, args []string, s streams) (err error) {
	defer func() {
		if e, ok := recover().(exited); ok {
			err = nil
			if e != 0 {
				err = &usageError{errors.New("see telemetryd --help")}
			}
		}
	}()
	var line commandLine
	parser, err := kong.New(&line,
		kong.Name("telemetryd"),
		kong.Description("Vehicle telemetry publisher: OBD-II and GPS in, durable buffer, MQTT out."),
		kong.DefaultEnvars(envPrefix),
		kong.Writers(s.out, s.err),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(s),
	)
	if err != nil {
		return err
	}
	command, err := parser.Parse(args)
	if err != nil {
		return &usageError{fmt.Errorf("%w (see telemetryd --help)", err)}
	}
	return command.Run()
}
