package port

import (
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// byID holds links named after make, model and serial number of USB devices: the
// only names that survive unplugging and another order of plugging.
const byID = "/dev/serial/by-id"

var (
	receiverName = regexp.MustCompile(`(?i)u-blox|gnss|gps`)
	// adapterName are names that only OBD adapters carry. The bare bridge chips that
	// most cables are built with (CH340, PL2303, FT232R, CP210x) are not among them:
	// printers, meters and modems use the same.
	adapterName = regexp.MustCompile(`(?i)obd|elm[ _-]?327|scantool|stn[12]\d{3}|vlinker|vgate|[_-]icar|konnwei|unicarscan|[_-]kiwi`)
)

// FindReceivers lists the serial ports that by their names are GNSS receivers.
func FindReceivers() []Address {
	return named(byID, func(name string) bool { return receiverName.MatchString(name) })
}

// FindAdapters lists the serial ports that by their names are OBD adapters. Nothing
// is opened.
func FindAdapters() []Address {
	return named(byID, func(name string) bool { return adapterName.MatchString(name) && !receiverName.MatchString(name) })
}

// StableName is the name of a serial port that it keeps over unplugging, where it has
// one; path itself otherwise.
func StableName(path string) string { return stableName(byID, path) }

func stableName(dir, path string) string {
	device := realPath(path)
	for _, a := range named(dir, func(string) bool { return true }) {
		if realPath(a.Path) == device {
			return a.Path
		}
	}
	return path
}

// FindUnknown lists the serial ports of which nothing is known: each may be an adapter,
// or a printer. Nothing is opened.
func FindUnknown() []Address { return unknown("/dev") }

func unknown(dev string) []Address {
	found := named(filepath.Join(dev, "serial/by-id"), func(name string) bool { return !adapterName.MatchString(name) && !receiverName.MatchString(name) })
	var linked []string
	if names, err := filepath.Glob(filepath.Join(dev, "serial/by-id/*")); err == nil {
		for _, name := range names {
			if device, err := filepath.EvalSymlinks(name); err == nil {
				linked = append(linked, device)
			}
		}
	}
	// Bluetooth serial ports have no such link, nor has USB where udev does not run.
	for _, pattern := range []string{"rfcomm[0-9]*", "ttyUSB[0-9]*", "ttyACM[0-9]*"} {
		names, err := filepath.Glob(filepath.Join(dev, pattern))
		if err != nil {
			continue // only of a malformed pattern
		}
		for _, name := range names {
			if !slices.Contains(linked, name) {
				found = append(found, Address{Scheme: "serial", Path: name})
			}
		}
	}
	return found
}

func named(dir string, fits func(name string) bool) []Address {
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return nil
	}
	var found []Address
	for _, name := range names {
		if fits(filepath.Base(name)) {
			found = append(found, Address{Scheme: "serial", Path: name})
		}
	}
	return found
}

// listenFor is how long Silent listens: a receiver speaks every second.
const listenFor = 1500 * time.Millisecond

// Silent listens to a serial port without ever writing to it and reports whether not
// one byte came: an adapter is silent until it is asked, a receiver is not. Opening
// alone raises DTR and RTS, which resets some devices, so that the user must have
// allowed it.
func Silent(ctx context.Context, a Address, uptime func() time.Duration) bool {
	p, err := Open(ctx, a, uptime, nil)
	if err != nil {
		return false
	}
	defer p.Close()
	for began := time.Now(); time.Since(began) < listenFor && ctx.Err() == nil; {
		c, err := p.Receive(ctx, 100*time.Millisecond)
		if err != nil || len(c.Data) > 0 {
			return false
		}
	}
	return ctx.Err() == nil
}
