package port

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.bug.st/serial"
)

// Chunk is what one read brought.
type Chunk struct {
	Data    []byte
	Arrived time.Duration // time since boot
}

// Tap is told what goes over a port, in the order in which it goes. It is called
// from the goroutines that read and write: it must be safe for concurrent use, return
// at once and not keep b.
type Tap interface {
	Opened(a Address)
	Sent(b []byte)
	Received(b []byte)
	Closed(err error) // nil: by our side
}

// Port is an open connection to a device.
type Port struct {
	address Address
	device  device
	uptime  func() time.Duration
	tap     Tap // or nil
	inbox   *inbox
	closing chan struct{}
	// unanswered is how much was written since a byte was received.
	unanswered atomic.Int64
	once       sync.Once
	told       sync.Once // of its end, to tap

	rest   time.Duration // of the reader after each read
	listen sync.Once
	reader sync.WaitGroup
}

// device is what a serial port, a connection and a file have in common.
type device interface {
	io.ReadWriteCloser
}

const (
	// dialTimeout is short: a Wi-Fi adapter that comes back must be found soon.
	dialTimeout = 5 * time.Second
	chunkBytes  = 4096
	// defaultBaud is set when the address names none, until SetBaud.
	defaultBaud = 38400
)

// ErrBusy is the cause when another program has a serial port for itself.
var ErrBusy = errors.New("another program has it open")

// ErrClosed is the error of Receive after Close.
var ErrClosed = errors.New("port closed")

// Open opens a. uptime is the time since boot (CLOCK_BOOTTIME); tap may be nil.
// Opening a TCP connection takes 5 s at most.
func Open(ctx context.Context, a Address, uptime func() time.Duration, tap Tap) (*Port, error) {
	d, err := open(ctx, a)
	if err != nil {
		return nil, err
	}
	return New(a, d, uptime, tap), nil
}

// New is a Port of a device that is open already.
func New(a Address, d io.ReadWriteCloser, uptime func() time.Duration, tap Tap) *Port {
	if tap != nil {
		tap.Opened(a)
	}
	return &Port{address: a, device: d, uptime: uptime, tap: tap, inbox: newInbox(), closing: make(chan struct{})}
}

func open(ctx context.Context, a Address) (device, error) {
	switch a.Scheme {
	case "serial":
		baud := a.Baud
		if baud == 0 {
			baud = defaultBaud
		}
		return openSerial(a.Path, baud)
	case "tcp", "gpsd":
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

// unwrapDial drops the "dial tcp host:port:" that our own message says already.
func unwrapDial(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		return op.Err
	}
	return err
}

// Address is what the port was opened with.
func (p *Port) Address() Address { return p.address }

// WakeAt says with which byte an answer ends: Receive then waits for it, and is woken
// once an answer instead of once a read, which on a slow wire are many. It must be
// called before the first Receive.
func (p *Port) WakeAt(end byte) { p.inbox.end, p.inbox.whole = end, true }

// Receive waits up to timeout for bytes; a timeout of 0 takes what is there. It
// returns the oldest Chunk, an empty one when none came, and an error when the device
// is gone (io.EOF at the end of a file or connection), after Close, or when ctx ends.
func (p *Port) Receive(ctx context.Context, timeout time.Duration) (Chunk, error) {
	p.listen.Do(func() { p.reader.Go(p.read) })
	c, err := p.inbox.take(ctx, timeout)
	if len(c.Data) > 0 {
		p.unanswered.Store(0)
	}
	return c, err
}

func (p *Port) read() {
	buf := make([]byte, chunkBytes)
	for {
		select {
		case <-p.closing:
			p.inbox.finish(ErrClosed)
			return
		default:
		}
		n, err := p.device.Read(buf)
		if n > 0 {
			c := Chunk{append([]byte(nil), buf[:n]...), p.uptime()}
			if p.tap != nil {
				p.tap.Received(c.Data)
			}
			if !p.inbox.put(c, p.closing) {
				p.inbox.finish(ErrClosed)
				return
			}
		}
		if err != nil {
			p.inbox.finish(p.ended(err))
			return
		}
		p.pause()
	}
}

// Rest makes the reading goroutine rest for d after each read, so that the next one
// brings what came meanwhile: waking up for every few bytes costs many times the CPU of
// all that is done with them. What comes after a pause of the device is taken at once;
// other bytes are stamped up to d late. It must be called before the first Receive.
func (p *Port) Rest(d time.Duration) { p.rest = d }

func (p *Port) pause() {
	if p.rest <= 0 {
		return
	}
	timer := time.NewTimer(p.rest)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.closing:
	}
}

func (p *Port) ended(err error) error {
	select {
	case <-p.closing:
		return ErrClosed
	default:
	}
	p.told.Do(func() {
		if p.tap != nil {
			p.tap.Closed(plain(err))
		}
	})
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return fmt.Errorf("read from %s: %w", p.address, plain(err))
}

// Write sends b. A device that has not taken it within timeout is closed and
// reported: what it took is unknown.
func (p *Port) Write(b []byte, timeout time.Duration) error {
	if p.tap != nil {
		p.tap.Sent(b)
	}
	if c, ok := p.device.(net.Conn); ok {
		if err := c.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return fmt.Errorf("write to %s: %w", p.address, err)
		}
		if _, err := c.Write(b); err != nil {
			return fmt.Errorf("write to %s: %w", p.address, unwrapDial(err))
		}
		return nil
	}
	if p.unanswered.Add(int64(len(b))) <= surelyTaken {
		if _, err := p.device.Write(b); err != nil {
			return fmt.Errorf("write to %s: %w", p.address, plain(err))
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
	// what is queued does, or else the end of the device.
	if s, ok := p.device.(serial.Port); ok {
		_ = s.ResetOutputBuffer()
	}
	_ = p.Close()
	return fmt.Errorf("write to %s: not taken within %v", p.address, timeout)
}

// surelyTaken is how much can be written to a device that has not answered since
// without being held: less than the queue of any serial port, which is 4 KiB. What
// might be held is written by a goroutine of its own, which is dearer.
const surelyTaken = 1024

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
		p.listen.Do(func() { p.inbox.finish(ErrClosed) }) // nobody listened
		err = p.device.Close()                            // which ends a read under way
		p.reader.Wait()
		p.told.Do(func() {
			if p.tap != nil {
				p.tap.Closed(nil)
			}
		})
	})
	return err
}
