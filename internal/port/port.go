package port

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"go.bug.st/serial"
)

// Chunk is what one read brought.
type Chunk struct {
	Data    []byte
	Arrived time.Duration // time since boot
}

// Port is an open connection to a device.
type Port struct {
	address Address
	device  device
	chunks  chan Chunk
	closing chan struct{}
	reader  sync.WaitGroup
	once    sync.Once
	err     error // why the chunks ended; set before chunks closes
}

// device is what a serial port, a connection and a file have in common.
type device interface {
	io.ReadWriteCloser
}

const (
	dialTimeout = 10 * time.Second
	chunkBytes  = 4096
	// chunksWaiting bounds what is read ahead of the owner.
	chunksWaiting = 16
	// defaultBaud is set when the address names none, until SetBaud.
	defaultBaud = 38400
)

// ErrClosed is the cause in Err after Close.
var ErrClosed = errors.New("port closed")

// Open opens a. uptime is the time since boot (CLOCK_BOOTTIME). Opening a TCP
// connection takes 10 s at most.
func Open(ctx context.Context, a Address, uptime func() time.Duration) (*Port, error) {
	d, err := open(ctx, a)
	if err != nil {
		return nil, err
	}
	p := &Port{address: a, device: d, chunks: make(chan Chunk, chunksWaiting), closing: make(chan struct{})}
	p.reader.Go(func() { p.read(uptime) })
	return p, nil
}

func open(ctx context.Context, a Address) (device, error) {
	switch a.Scheme {
	case "serial":
		baud := a.Baud
		if baud == 0 {
			baud = defaultBaud
		}
		s, err := serial.Open(a.Path, &serial.Mode{BaudRate: baud})
		if err != nil {
			return nil, fmt.Errorf("open serial port %s: %w", a.Path, plain(err))
		}
		return s, nil
	case "tcp":
		d := net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
		c, err := d.DialContext(ctx, "tcp", a.Host)
		if err != nil {
			return nil, fmt.Errorf("connect to %s: %w", a.Host, unwrapDial(err))
		}
		return c, nil
	case "file":
		f, err := os.Open(a.Path)
		if err != nil {
			return nil, err // *PathError names operation and path
		}
		return f, nil
	default:
		return nil, fmt.Errorf("no port has the scheme %q", a.Scheme)
	}
}

// plain turns the serial package's error into its cause in words.
func plain(err error) error {
	pe, ok := errors.AsType[*serial.PortError](err)
	if !ok {
		return err
	}
	switch pe.Code() {
	case serial.PortNotFound:
		return syscall.ENOENT
	case serial.PermissionDenied:
		return fmt.Errorf("%w (is the user in the group dialout?)", os.ErrPermission)
	case serial.PortBusy:
		return errors.New("another program has it open")
	case serial.PortClosed:
		return errors.New("the device is gone")
	default:
		return err
	}
}

// unwrapDial drops the "dial tcp host:port:" that our own message says already.
func unwrapDial(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		return op.Err
	}
	return err
}

// Address is what the port was opened with.
func (p *Port) Address() Address { return p.address }

// Chunks brings what arrives, in order. It is closed when the device is gone, at
// the end of a file, and after Close; Err then says why.
func (p *Port) Chunks() <-chan Chunk { return p.chunks }

// Err is why Chunks was closed: io.EOF at the end of a file or connection. It may
// be called only after that.
func (p *Port) Err() error { return p.err }

func (p *Port) read(uptime func() time.Duration) {
	defer close(p.chunks)
	buf := make([]byte, chunkBytes)
	for {
		n, err := p.device.Read(buf)
		if n > 0 {
			c := Chunk{append([]byte(nil), buf[:n]...), uptime()}
			select {
			case p.chunks <- c:
			case <-p.closing:
				p.err = ErrClosed
				return
			}
		}
		if err != nil {
			p.err = p.ended(err)
			return
		}
	}
}

func (p *Port) ended(err error) error {
	select {
	case <-p.closing:
		return ErrClosed
	default:
	}
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return fmt.Errorf("read from %s: %w", p.address, plain(err))
}

// Write sends b. A device that has not taken it within timeout is closed and
// reported: what it took is unknown.
func (p *Port) Write(b []byte, timeout time.Duration) error {
	if c, ok := p.device.(net.Conn); ok {
		if err := c.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return fmt.Errorf("write to %s: %w", p.address, err)
		}
		if _, err := c.Write(b); err != nil {
			return fmt.Errorf("write to %s: %w", p.address, unwrapDial(err))
		}
		return nil
	}
	done := make(chan error, 1)
	go func() {
		_, err := p.device.Write(b)
		done <- err
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("write to %s: %w", p.address, plain(err))
		}
		return nil
	case <-timer.C:
	}
	// Neither a deadline nor Close frees a write to a serial port; throwing away
	// what is queued does.
	if s, ok := p.device.(serial.Port); ok {
		_ = s.ResetOutputBuffer()
	}
	_ = p.Close()
	return fmt.Errorf("write to %s: not taken within %v", p.address, timeout)
}

// SetBaud changes the rate of a serial port; other ports have none.
func (p *Port) SetBaud(baud int) error {
	s, ok := p.device.(serial.Port)
	if !ok {
		return nil
	}
	if err := s.SetMode(&serial.Mode{BaudRate: baud}); err != nil {
		return fmt.Errorf("set %d baud on %s: %w", baud, p.address.Path, plain(err))
	}
	return nil
}

// Close closes the device and waits for the reading goroutine. It may be called
// more than once.
func (p *Port) Close() error {
	var err error
	p.once.Do(func() {
		close(p.closing)
		err = p.device.Close()
		for range p.chunks { // free a reader that waits to deliver
		}
		p.reader.Wait()
	})
	return err
}
