package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"telemetryd/internal/gps"
	"telemetryd/internal/port"
)

type portsCommand struct {
	Port []string `arg:"" optional:"" help:"Paths of ports to look at, as /dev/ttyUSB0. Default: all that may be an adapter or a receiver."`
	JSON bool     `name:"json" help:"One JSON array in place of the table."`
	GPSD string   `name:"gpsd" placeholder:"ADDRESS" default:"gpsd://127.0.0.1:2947" help:"The gpsd to ask which ports it reads, if one runs."`
}

// portsLimit is how long the command may take.
const portsLimit = 19 * time.Second

// portLine is what is told of a port.
type portLine struct {
	Port   string `json:"port"`   // the most stable name
	Device string `json:"device"` // behind it
	State  string `json:"state"`  // nmea, binary, other, silent, gpsd, in_use, no_permission, failed
	Baud   int    `json:"baud,omitempty"`
	Fix    bool   `json:"fix,omitempty"`
	Heard  string `json:"heard"` // for people
	Use    string `json:"use,omitempty"`
}

// Run lists ports and listens to them, all at once.
func (c *portsCommand) Run(ctx context.Context, s streams) error {
	daemon, err := port.Parse(c.GPSD, "gpsd")
	if err != nil {
		return &usageError{fmt.Errorf("--gpsd: %w", err)}
	}
	ctx, cancel := context.WithTimeout(ctx, portsLimit)
	defer cancel()
	found := port.List()
	if len(c.Port) > 0 {
		found = nil
		for _, path := range c.Port {
			found = append(found, port.Named(path))
		}
	}
	taken := gpsdDevices(ctx, daemon)
	lines := make([]portLine, len(found))
	var listening sync.WaitGroup
	for i, f := range found {
		listening.Go(func() { lines[i] = look(ctx, f, taken, daemon) })
	}
	listening.Wait()
	if c.JSON {
		e := json.NewEncoder(s.out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(lines)
	}
	return printPorts(s.out, lines)
}

// gpsdDevices asks gpsd which devices it reads. It is only asked when it runs: to
// connect would start one that waits for its first client.
func gpsdDevices(ctx context.Context, a port.Address) []port.Address {
	if !port.Running("gpsd") {
		return nil
	}
	p, err := port.Open(ctx, a, uptime, nil)
	if err != nil {
		return nil
	}
	defer p.Close()
	paths, _ := gps.AskGPSD(ctx, p)
	var list []port.Address
	for _, path := range paths {
		list = append(list, port.Address{Scheme: "serial", Path: path})
	}
	return list
}

// look tells what a port is; what another program uses is not opened.
func look(ctx context.Context, f port.Found, taken []port.Address, daemon port.Address) portLine {
	a := f.Address()
	line := portLine{Port: f.Path, Device: f.Device}
	if slices.ContainsFunc(taken, a.SameDevice) {
		line.State, line.Heard, line.Use = "gpsd", "in use by gpsd", "--gps "+daemon.String()
		return line
	}
	if users := port.Holders(f.Device); len(users) > 0 {
		var names []string
		for _, u := range users {
			names = append(names, fmt.Sprintf("%s (process %d)", u.Program, u.PID))
		}
		line.State, line.Heard = "in_use", "in use by "+strings.Join(names, ", ")
		return line
	}
	h, err := gps.Hear(ctx, a, uptime)
	line.judge(f, h, err)
	return line
}

// judge puts what was heard into words.
func (l *portLine) judge(f port.Found, h gps.Heard, err error) {
	address := f.Address()
	switch {
	case errors.Is(err, fs.ErrPermission):
		l.State, l.Heard = "no_permission", "no permission: sudo usermod -aG dialout $USER, then log in again"
	case errors.Is(err, port.ErrBusy):
		l.State, l.Heard = "in_use", "in use by another program"
	case err != nil && h.Bytes == 0:
		l.State, l.Heard = "failed", err.Error()
	case h.Sentences > 0:
		address.Baud, l.Baud = h.Baud, h.Baud
		l.State, l.Fix, l.Heard, l.Use = "nmea", h.Fixes > 0, "GPS receiver, NMEA"+atRate(h.Baud)+", no fix yet", "--gps "+address.String()
		if l.Fix {
			l.Heard = strings.TrimSuffix(l.Heard, ", no fix yet") + ", with a fix"
		}
	case h.Binary:
		l.State, l.Baud, l.Heard = "binary", h.Baud, "GPS receiver, binary UBX"+atRate(h.Baud)+": switch NMEA on, or let gpsd read it"
	case h.Bytes > 0:
		l.State, l.Heard = "other", "something that is neither NMEA nor UBX"
	default:
		l.State, l.Heard = "silent", "nothing"
		if f.Receiver() {
			l.Heard, l.Use = "nothing, but by its name a GPS receiver", "--gps "+address.String()
			return
		}
		l.Heard += ", as from an OBD adapter that nobody asks"
		l.Use = "--obd " + address.String()
		if f.Adapter() {
			l.Heard = "nothing; by its name an OBD adapter"
		}
	}
}

func atRate(baud int) string {
	if baud == 0 {
		return ""
	}
	return fmt.Sprintf(" at %d baud", baud)
}

func printPorts(w io.Writer, lines []portLine) error {
	if len(lines) == 0 {
		_, err := fmt.Fprintln(w, "no serial ports: plug the adapter or the receiver in; a Bluetooth adapter needs `rfcomm bind` first")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "PORT\tDEVICE\tHEARD\tUSE")
	for _, l := range lines {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", l.Port, l.Device, l.Heard, l.Use)
	}
	return t.Flush()
}
