package modem

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Mirror is a link to a TCP service of this machine, for packets: a network device that
// sends each one back with its two addresses exchanged, after the link's rate, delay and
// queue. So the kernel meets itself at the other end, as if it were another machine, and
// its TCP has to find its way with real losses: what does not fit into the queue is dropped.
// The exchange leaves every checksum right.
type Mirror struct {
	Near netip.Addr // where the service has to listen
	Far  netip.Addr // where to find it

	dropped atomic.Int64
	open    group
}

// NewMirror makes such a device. Devices of one namespace are told apart by number, below
// 256. Whoever comes to service is upward, all else downward.
func NewMirror(number byte, service uint16, l Link) (*Mirror, error) {
	m := &Mirror{Near: netip.AddrFrom4([4]byte{10, 198, number, 1}), Far: netip.AddrFrom4([4]byte{10, 198, number, 2})}
	device, err := openDevice(fmt.Sprintf("modem%d", number), m.Near)
	if err != nil {
		return nil, fmt.Errorf("make a network device for a link: %w", err)
	}
	m.open.add(func() { device.Close() })
	up, down := newLine(l), newLine(l)
	for _, way := range []*line{up, down} {
		m.open.running.Go(func() {
			way.deliver(func(b []byte) error { _, err := device.Write(b); return err })
			way.drain()
		})
	}
	m.open.running.Go(func() {
		defer close(up.under)
		defer close(down.under)
		for {
			b := make([]byte, 2048)
			n, err := device.Read(b)
			if err != nil {
				return
			}
			port, ok := exchange(b[:n])
			if !ok {
				continue
			}
			way := down
			if port == service {
				way = up
			}
			if way.excess(n) > 0 || len(way.under) == mostUnder {
				m.dropped.Add(1)
				continue
			}
			way.take(b[:n])
		}
	})
	return m, nil
}

// Dropped is how many packets found the queue full.
func (m *Mirror) Dropped() int64 { return m.dropped.Load() }

// Close removes the device.
func (m *Mirror) Close() { m.open.end() }

// exchange swaps the addresses of an IPv4 packet with TCP in it, and returns the port that it
// goes to.
func exchange(b []byte) (port uint16, ok bool) {
	if len(b) < 40 || b[0]>>4 != 4 || b[9] != unix.IPPROTO_TCP {
		return 0, false
	}
	head := int(b[0]&15) * 4
	if len(b) < head+20 {
		return 0, false
	}
	var from [4]byte
	copy(from[:], b[12:16])
	copy(b[12:16], b[16:20])
	copy(b[16:20], from[:])
	return binary.BigEndian.Uint16(b[head+2:]), true
}

// openDevice makes a TUN device of a /24 and brings it up, and loopback.
func openDevice(name string, address netip.Addr) (*os.File, error) {
	if err := bringUp("lo", netip.Addr{}); err != nil { // it is down in a new namespace
		return nil, err
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	device, err := unix.NewIfreq(name)
	if err == nil {
		device.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, device)
	}
	if err == nil {
		err = bringUp(name, address)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// bringUp brings a device up, with an address of a /24 if it is given one.
func bringUp(name string, address netip.Addr) error {
	control, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(control)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if address.IsValid() {
		four := address.As4()
		if err := r.SetInet4Addr(four[:]); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(control, unix.SIOCSIFADDR, r); err != nil {
			return fmt.Errorf("give %s the address %s: %w", name, address, err)
		}
		if err := r.SetInet4Addr([]byte{255, 255, 255, 0}); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(control, unix.SIOCSIFNETMASK, r); err != nil {
			return fmt.Errorf("give %s a netmask: %w", name, err)
		}
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(control, unix.SIOCSIFFLAGS, r); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}
