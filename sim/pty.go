package sim

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// ptyLine is a pseudo-terminal whose slave end clients open and close at will.
//
// The vehicle does not keep the slave open, for three reasons. Linux then tells
// the master whether a client has it open (POLLHUP: none has), so that nothing is
// sent, or written to the truth log, for nobody. gpsd refuses a port that another
// process has open. And settings of the slave stay as long as the master is open,
// so that it need not be held to stay raw.
type ptyLine struct {
	master *os.File
	slave  string // its path
}

const presenceInterval = 20 * time.Millisecond

func newPTYLine() (*ptyLine, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("open a pseudo-terminal: %w", err)
	}
	l := &ptyLine{master: master, slave: slave.Name()}
	err = makeRaw(int(slave.Fd()))
	if err == nil {
		err = l.control(func(fd int) error { return unix.SetNonblock(fd, true) }) // package pty leaves it blocking
	}
	if closeErr := slave.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = master.Close()
		return nil, fmt.Errorf("set up the pseudo-terminal %s: %w", l.slave, err)
	}
	return l, nil
}

// makeRaw turns off echo, line editing and the translation of line ends.
func makeRaw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

func (l *ptyLine) address() string { return "serial://" + l.slave }

func (l *ptyLine) close() error { return l.master.Close() }

// connect looks for a client often: an opening slave wakes nobody.
func (l *ptyLine) connect(ctx context.Context) (wire, error) {
	for {
		present, err := l.present()
		if err != nil {
			return nil, fmt.Errorf("look for a client of %s: %w", l.slave, err)
		}
		if present {
			if err := l.master.SetReadDeadline(time.Time{}); err != nil {
				return nil, err
			}
			return &ptyWire{l}, nil
		}
		select {
		case <-time.After(presenceInterval):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// present reports whether somebody has the slave open.
func (l *ptyLine) present() (bool, error) {
	var hungUp bool
	err := l.control(func(fd int) error {
		p := []unix.PollFd{{Fd: int32(fd)}}
		err := uninterrupted(func() error { _, err := unix.Poll(p, 0); return err })
		hungUp = p[0].Revents&unix.POLLHUP != 0
		return err
	})
	return !hungUp, err
}

func (l *ptyLine) control(f func(fd int) error) error {
	c, err := l.master.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := c.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// ptyWire is the time one client, or several at once, have the slave open.
type ptyWire struct {
	line *ptyLine
}

// Read fails with EIO when the last client has closed the slave.
func (w *ptyWire) Read(b []byte) (int, error) { return w.line.master.Read(b) }

func (w *ptyWire) Write(b []byte) (int, error) {
	if err := w.line.master.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return w.line.master.Write(b)
}

// Close ends a blocked Read and drops what the client has left unread, so that
// the next one does not find it.
func (w *ptyWire) Close() error {
	w.dropStale(0)
	return w.line.master.SetReadDeadline(time.Unix(1, 0))
}

// dropStale opens the slave for a moment: only there can its queue be measured
// and emptied.
func (w *ptyWire) dropStale(limit int) {
	var fd int
	err := uninterrupted(func() (err error) {
		fd, err = unix.Open(w.line.slave, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return // a client has claimed the port for itself (TIOCEXCL)
	}
	defer func() { _ = unix.Close(fd) }()
	if waiting, err := unix.IoctlGetInt(fd, unix.TIOCINQ); err == nil && waiting >= limit {
		drain(fd)
	}
}

// drain reads what waits at the slave. Flushing (TCIFLUSH) would not do: it empties
// the line discipline, of 4 KiB, and what waits in the buffer below does not move up
// until somebody reads. That it does so by itself, a little later, is why silence is
// believed only after a few looks.
func drain(fd int) {
	const looks, most = 3, 64
	b := make([]byte, 4096)
	for silent, n := 0, 0; silent < looks && n < most; n++ {
		if got, err := unix.Read(fd, b); err == nil && got > 0 {
			silent = 0
			continue
		}
		silent++
		time.Sleep(time.Millisecond)
	}
}

// uninterrupted repeats a system call that a signal (the Go runtime sends them)
// has interrupted.
func uninterrupted(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
