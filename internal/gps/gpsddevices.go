package gps

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"telemetryd/internal/port"
)

// devices are what a gpsd reads, and whether they are there as far as can be seen
// from this machine.
type devices struct {
	local bool // gpsd is on this machine: its devices can be looked at
	list  []*gpsdDevice

	wasGone bool      // since gpsd was connected to, the devices were gone
	since   time.Time // they have been back
}

type gpsdDevice struct {
	path   string // as gpsd names it
	file   os.FileInfo
	gone   bool
	missed time.Time // when it was looked for in vain first, and was never seen
}

// hiddenAfter is how long a device that was never seen counts as gone. gpsd lists it: it
// may be out of this process's sight, in a container or behind an ssh tunnel.
const hiddenAfter = 30 * time.Second

// local reports whether a is of this machine.
func local(a port.Address) bool {
	host, _, err := net.SplitHostPort(a.Host)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// set takes gpsd's list.
func (d *devices) set(list []deviceReport) {
	d.list = slices.DeleteFunc(d.list, func(known *gpsdDevice) bool {
		return !slices.ContainsFunc(list, func(r deviceReport) bool { return r.Path == known.path })
	})
	for _, r := range list {
		d.add(r.Path)
	}
}

// add notes a device.
func (d *devices) add(path string) {
	if path == "" || len(d.list) >= mostDevices || slices.ContainsFunc(d.list, func(k *gpsdDevice) bool { return k.path == path }) {
		return
	}
	known := &gpsdDevice{path: path}
	known.look(d.local, time.Now())
	d.list = append(d.list, known)
}

// look looks whether the device is there. It counts as gone, too, when it is another
// one now: pulled out and put back between two looks. What is no path (tcp://,
// udp://, a share), of another machine or out of sight counts as there.
func (k *gpsdDevice) look(local bool, now time.Time) (changed bool) {
	if !local || !filepath.IsAbs(k.path) {
		return false
	}
	file, err := os.Stat(k.path)
	if err != nil {
		if k.missed.IsZero() {
			k.missed = now
		}
		hidden := k.file == nil && now.Sub(k.missed) >= hiddenAfter
		k.gone = errors.Is(err, fs.ErrNotExist) && !hidden
		return false
	}
	k.gone = false
	changed = k.file != nil && !os.SameFile(k.file, file)
	k.file = file
	return changed
}

// look looks at every device.
func (d *devices) look(now time.Time) {
	changed, seen := false, false
	for _, k := range d.list {
		if k.look(d.local, now) {
			changed = true
		}
		seen = seen || k.file != nil
	}
	switch {
	case !d.gone() && !seen: // hidden
		d.wasGone = false
	case d.gone():
		d.wasGone, d.since = true, time.Time{}
	case changed:
		d.wasGone, d.since = true, now
	case d.wasGone && d.since.IsZero():
		d.since = now
	}
}

// none reports whether gpsd has no device.
func (d *devices) none() bool { return len(d.list) == 0 }

// gone reports whether gpsd has devices and all are absent.
func (d *devices) gone() bool {
	return !d.none() && !slices.ContainsFunc(d.list, func(k *gpsdDevice) bool { return !k.gone })
}

// present reports whether gpsd has a device that is there.
func (d *devices) present() bool { return !d.none() && !d.gone() }

// back reports whether devices were gone and have been back long enough.
func (d *devices) back(now time.Time) bool {
	return d.wasGone && !d.since.IsZero() && now.Sub(d.since) >= settle
}

// onlyOne is the device to watch alone, because others are absent; empty for all.
func (d *devices) onlyOne() string {
	present, absent := "", false
	for _, k := range d.list {
		if k.gone {
			absent = true
		} else if present == "" {
			present = k.path
		}
	}
	if !absent {
		return ""
	}
	return present
}

// name names the receiver chosen, or those there are, for people.
func (d *devices) name(chosen string) string {
	if chosen != "" {
		return chosen
	}
	return strings.Join(d.paths(), ", ")
}

func (d *devices) paths() (paths []string) {
	for _, k := range d.list {
		paths = append(paths, k.path)
	}
	return paths
}
