package port

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"go.bug.st/serial"
)

// serialPort is a serial port that is set and written by go.bug.st/serial, and read
// through the runtime's poller: a thread that waits in a read of its own costs several
// times the CPU of the read (measured: make bench-obd), and nothing but a byte would
// free it when another program has taken the one it was woken for.
type serialPort struct {
	serial.Port
	in *os.File
}

func openSerial(path string, baud int) (device, error) {
	// First, because the package takes the port for itself.
	in, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open serial port %s: %w", path, plain(err))
	}
	s, err := serial.Open(path, &serial.Mode{BaudRate: baud})
	if err == nil {
		if err = s.ResetOutputBuffer(); err != nil { // what others left
			_ = s.Close()
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open serial port %s: %w", path, plain(err)), in.Close())
	}
	return serialPort{s, in}, nil
}

// Read implements io.Reader.
func (p serialPort) Read(b []byte) (int, error) { return p.in.Read(b) }

// Close closes both at once: held open, a device that was pulled out comes back under
// another name.
func (p serialPort) Close() error { return errors.Join(p.in.Close(), p.Port.Close()) }

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
