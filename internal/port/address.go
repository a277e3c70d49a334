package port

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Address says where a port is: "serial:///dev/ttyUSB0?baud=38400",
// "tcp://192.168.0.10:35000", "gpsd://127.0.0.1:2947" or "file:///var/log/drive.nmea".
type Address struct {
	Scheme string // serial, tcp, gpsd or file
	Path   string // of the device or file
	Baud   int    // serial only; 0 when none is given
	Host   string // host:port, tcp and gpsd only
}

// gpsdPort is where gpsd listens when its address names no port (IANA: gpsd).
const gpsdPort = "2947"

// LocalGPSD is where gpsd listens on this machine.
func LocalGPSD() Address { return Address{Scheme: "gpsd", Host: "127.0.0.1:" + gpsdPort} }

// network reports whether a is reached over TCP.
func (a Address) network() bool { return a.Scheme == "tcp" || a.Scheme == "gpsd" }

// String returns the address as a user writes it.
func (a Address) String() string {
	switch {
	case a.network():
		return a.Scheme + "://" + a.Host
	case a.Baud != 0:
		return fmt.Sprintf("%s://%s?baud=%d", a.Scheme, a.Path, a.Baud)
	default:
		return a.Scheme + "://" + a.Path
	}
}

// SameDevice reports whether both addresses are the same serial port, by whatever
// name, or the same host and port.
func (a Address) SameDevice(b Address) bool {
	if a.Scheme != b.Scheme {
		return false
	}
	if a.network() {
		return a.Host == b.Host
	}
	return realPath(a.Path) == realPath(b.Path)
}

// realPath is the path behind links.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return filepath.Clean(path)
}

// Parse reads an address of one of the allowed schemes. Its errors name what is
// allowed.
func Parse(s string, schemes ...string) (Address, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Address{}, fmt.Errorf("%q is no address: %w", s, err)
	}
	if !slices.Contains(schemes, u.Scheme) {
		allowed := strings.Join(schemes, "://, ") + "://"
		if u.Scheme == "" {
			return Address{}, fmt.Errorf("%q has no scheme; allowed: %s", s, allowed)
		}
		return Address{}, fmt.Errorf("unknown scheme %q in %q; allowed: %s", u.Scheme, s, allowed)
	}
	a := Address{Scheme: u.Scheme, Path: u.Path}
	query := u.Query()
	if u.Scheme == "serial" && query.Has("baud") {
		a.Baud, err = strconv.Atoi(query.Get("baud"))
		if err != nil || a.Baud < 300 || a.Baud > 4_000_000 {
			return Address{}, fmt.Errorf("baud=%s in %q: allowed is a number from 300 to 4000000", query.Get("baud"), s)
		}
		query.Del("baud")
	}
	switch {
	case len(query) > 0 || u.Fragment != "" || u.User != nil:
		return Address{}, fmt.Errorf("%q: only serial:// takes an option, and that is ?baud=", s)
	case u.Scheme == "tcp":
		if _, p, err := net.SplitHostPort(u.Host); err != nil || p == "" || u.Hostname() == "" || u.Path != "" {
			return Address{}, fmt.Errorf("%q: a TCP address is tcp://host:port", s)
		}
		a.Host = u.Host
	case u.Scheme == "gpsd":
		if a.Host, err = gpsdHost(u); err != nil {
			return Address{}, fmt.Errorf("%q: %w", s, err)
		}
		a.Path = ""
	case u.Host != "" || a.Path == "" || a.Path == "/":
		return Address{}, fmt.Errorf("%q: a path starts with a third slash, as in %s:///dev/ttyUSB0", s, u.Scheme)
	}
	return a, nil
}

// gpsdHost is the host:port in u; without a port gpsd's own.
func gpsdHost(u *url.URL) (string, error) {
	number := u.Port()
	if number == "" {
		number = gpsdPort
	}
	if n, err := strconv.ParseUint(number, 10, 16); err != nil || n == 0 || u.Hostname() == "" || strings.HasSuffix(u.Host, ":") || strings.Trim(u.Path, "/") != "" {
		return "", errors.New("the address of a gpsd is gpsd://host:port, as gpsd://127.0.0.1:2947; without a port it is 2947")
	}
	return net.JoinHostPort(u.Hostname(), number), nil
}
