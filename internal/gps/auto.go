package gps

import (
	"context"
	"os"
	"slices"
	"time"

	"telemetryd/internal/port"
)

// Auto: without an address gpsd is asked first, because a port that it reads must not
// be read by anybody else; then the ports that Find names get their turn.

// takenFor is how long the ports of a gpsd that has gone are left alone: it may only
// be restarting, and a current gpsd ends when somebody else has its port open.
const takenFor = time.Minute

// address is where to look this time.
func (s *source) address(ctx context.Context) (port.Address, bool) {
	if s.Address != nil {
		return s.named(), true
	}
	found := s.candidates(ctx)
	if len(found) == 0 {
		return port.Address{}, false
	}
	return found[s.tried%len(found)], true
}

// named is the address given, or the name that its receiver kept when it came back as
// another device. A device that has taken the name given is another one's.
func (s *source) named() port.Address {
	if s.stable == nil || s.stable.Path == s.Address.Path {
		return *s.Address
	}
	if _, err := os.Stat(s.stable.Path); err == nil || s.Stable(s.Address.Path) != s.Address.Path {
		return *s.stable
	}
	return *s.Address
}

// spoke remembers where a receiver was heard.
func (s *source) spoke(a port.Address, baud int) {
	s.baud = baud
	if s.Stable != nil && s.Address != nil && a.Scheme == "serial" {
		s.stable = &port.Address{Scheme: a.Scheme, Path: s.Stable(a.Path), Baud: a.Baud}
	}
}

// atLastRate is a at the rate at which the receiver spoke last, if it names none.
func (s *source) atLastRate(a port.Address) port.Address {
	if a.Scheme == "serial" && a.Baud == 0 {
		a.Baud = s.baud
	}
	return a
}

// candidates lists where a receiver may be: gpsd, if it has one, and what Find names
// and gpsd has not.
func (s *source) candidates(ctx context.Context) []port.Address {
	var list []port.Address
	if s.GPSD != nil && s.askGPSD(ctx) {
		list = append(list, *s.GPSD)
	}
	return append(list, s.ports()...)
}

// ports lists what Find names, without what gpsd reads.
func (s *source) ports() []port.Address {
	if s.Find == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.Find()), func(a port.Address) bool {
		return slices.ContainsFunc(s.taken, func(path string) bool {
			return a.SameDevice(port.Address{Scheme: "serial", Path: path})
		})
	})
}

// others reports whether there is a candidate besides a. gpsd is not asked more often
// than every huntAgain.
func (s *source) others(ctx context.Context, a port.Address) bool {
	if slices.ContainsFunc(s.ports(), func(b port.Address) bool { return b != a }) {
		return true
	}
	return a.Scheme != "gpsd" && s.GPSD != nil && time.Since(s.askedGPSD) >= huntAgain && s.askGPSD(ctx)
}

// askGPSD asks gpsd for its devices, notes them and reports whether it has any.
func (s *source) askGPSD(ctx context.Context) bool {
	s.askedGPSD = time.Now()
	ctx, cancel := context.WithTimeout(ctx, greetingLimit)
	defer cancel()
	var devices []string
	answered := false
	if p, err := s.open(ctx, *s.GPSD); err == nil {
		defer p.Close()
		if w, ok := p.(writer); ok {
			devices, answered = AskGPSD(ctx, w)
		}
	}
	if answered || time.Since(s.takenAt) >= takenFor {
		s.taken, s.takenAt = devices, time.Now()
	}
	return len(devices) > 0
}

// AskGPSD asks a gpsd just connected to for the devices it reads, until ctx ends. ok
// is false when what answers is not gpsd.
func AskGPSD(ctx context.Context, p interface {
	Receive(ctx context.Context, timeout time.Duration) (port.Chunk, error)
	Write(b []byte, timeout time.Duration) error
},
) (devices []string, ok bool) {
	var in lines
	for !ok {
		c, err := p.Receive(ctx, greetingLimit)
		if err != nil || len(c.Data) == 0 {
			return nil, false
		}
		in.push(c.Data, func(line []byte) {
			switch r, _, _ := parseReport(line); r.Class {
			case "VERSION":
				_ = p.Write([]byte("?DEVICES;\n"), writeLimit) // a failure ends Receive
			case "DEVICES":
				ok = true
				for _, d := range r.Devices[:min(len(r.Devices), mostDevices)] {
					devices = append(devices, d.Path)
				}
			}
		}, func([]byte) {})
	}
	return devices, ok
}
