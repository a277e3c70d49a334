package port

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"go.bug.st/serial"
	"golang.org/x/sys/unix"
)

// serialPort is a serial port that is set and written by go.bug.st/serial, and read
// through the runtime's poller: a thread that waits in a read of its own costs several
// times the CPU of the read (measured: make bench-obd), and nothing but a byte would
// free it when another program has taken the one it was woken for.
//
// The poller is woken only while Read waits. It is not told of the port itself, for
// each few bytes that come at any time would wake it, but of a set with the port in it,
// which tells of them once each time that it is asked (epoll(7), EPOLLONESHOT).
type serialPort struct {
	serial.Port
	in    *os.File // never blocks; the poller does not know it
	fd    int      // of in, as the set knows it
	bytes *os.File // the set
	asked syscall.RawConn
}

func openSerial(path string, baud int) (device, error) {
	// First, because the package takes the port for itself.
	in, err := unix.Open(path, unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open serial port %s: %w", path, plain(err))
	}
	p, err := watched(in, path)
	if err != nil {
		return nil, fmt.Errorf("watch serial port %s: %w", path, err)
	}
	if p.Port, err = serial.Open(path, &serial.Mode{BaudRate: baud}); err != nil {
		return nil, errors.Join(fmt.Errorf("open serial port %s: %w", path, plain(err)), p.stop())
	}
	if err = p.ResetOutputBuffer(); err != nil { // what others left
		return nil, errors.Join(fmt.Errorf("open serial port %s: %w", path, plain(err)), p.Close())
	}
	return p, nil
}

// watched makes what Read needs of a descriptor; it is closed when that fails.
func watched(in int, path string) (*serialPort, error) {
	// A descriptor that blocks while NewFile looks is not given to the poller.
	err := unix.SetNonblock(in, false)
	p := &serialPort{in: os.NewFile(uintptr(in), path), fd: in}
	if err == nil {
		err = unix.SetNonblock(in, true)
	}
	set, failed := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err = cmp.Or(err, failed); err == nil {
		err = unix.SetNonblock(set, true)
		p.bytes = os.NewFile(uintptr(set), path)
	}
	if err == nil {
		err = unix.EpollCtl(set, unix.EPOLL_CTL_ADD, in, &unix.EpollEvent{Events: unix.EPOLLONESHOT})
	}
	if err == nil {
		p.asked, err = p.bytes.SyscallConn()
	}
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// Read implements io.Reader.
func (p *serialPort) Read(b []byte) (int, error) {
	for {
		if err := p.wait(); err != nil {
			return 0, err
		}
		n, err := p.in.Read(b)
		if !errors.Is(err, unix.EAGAIN) { // what woke us was taken by another program
			return n, err
		}
	}
}

// wait waits for bytes, or for the end of the device.
func (p *serialPort) wait() error {
	var failed error
	err := p.asked.Control(func(set uintptr) {
		failed = unix.EpollCtl(int(set), unix.EPOLL_CTL_MOD, p.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT})
	})
	if err = cmp.Or(err, failed); err != nil {
		return err
	}
	var came [1]unix.EpollEvent
	err = p.asked.Read(func(set uintptr) bool {
		n, err := unix.EpollWait(int(set), came[:], 0)
		if err != nil && !errors.Is(err, unix.EINTR) {
			failed = err
			return true
		}
		return n > 0
	})
	return cmp.Or(err, failed)
}

// Close closes all at once: held open, a device that was pulled out comes back under
// another name.
func (p *serialPort) Close() error { return errors.Join(p.stop(), p.Port.Close()) }

// stop ends a Read under way.
func (p *serialPort) stop() error {
	err := p.in.Close()
	if p.bytes != nil {
		err = errors.Join(err, p.bytes.Close())
	}
	return err
}

// plain turns an error of a serial port into its cause in words.
func plain(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return errNotAllowed
	case errors.Is(err, fs.ErrNotExist):
		return syscall.ENOENT
	case errors.Is(err, syscall.EBUSY):
		return ErrBusy
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.ENODEV):
		return errGone
	}
	pe, ok := errors.AsType[*serial.PortError](err)
	if !ok {
		return err
	}
	switch pe.Code() {
	case serial.PortNotFound:
		return syscall.ENOENT
	case serial.PermissionDenied:
		return errNotAllowed
	case serial.PortBusy:
		return ErrBusy
	case serial.PortClosed:
		return errGone
	default:
		return err
	}
}

var (
	errNotAllowed = fmt.Errorf("%w (is the user in the group dialout?)", os.ErrPermission)
	errGone       = errors.New("the device is gone")
)
