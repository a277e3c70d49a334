// Package sim is a virtual vehicle: one drive around Munich that an ELM327
// adapter and a GPS receiver both report on, each on a pseudo-terminal, a TCP
// port or a serial port. Programs that read such devices can be shown, tested
// and measured with it; nothing here knows what reads it.
//
// The package promises:
//
//   - The drive is a pure function of seed, script and the time since Start, times
//     Speedup. Wheels, engine and position agree with each other.
//   - The adapter behaves as the ELM327 v1.5 data sheet says, byte for byte, at
//     the pace of its wire; the receiver sends NMEA 0183 at the times of its
//     epochs.
//   - Every value that leaves is written to the truth log, decoded from the very
//     bytes that left, no later than their last byte.
//   - It never stops a program that does not read: what nobody takes is dropped.
//
// Its encoders and decoders are its own, so that it can prove others wrong.
package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Config says which vehicle to start. The zero value of a field is its default.
type Config struct {
	// Seed chooses the drive: traffic lights, weather, the state of the car.
	Seed uint64
	// Script is what the driver does besides driving calmly; nil drives as traffic goes.
	Script Script
	// Speedup is drive time per real time; 0 means 1. It shortens the search for
	// the car's protocol as well, and nothing else of the wire.
	Speedup float64
	// KeyOff is when the vehicle stands with its key off, besides the minute at the end of each
	// loop.
	KeyOff    []KeyOff
	Electrics Electrics
	OBD       OBDConfig
	GPS       GPSConfig
	// Truth receives one line of JSON per Truth, each in one Write; nil for none.
	Truth io.Writer
	// OnTruth is called with each Truth from the goroutines that serve the
	// devices, one at a time; nil for none. It must return soon.
	OnTruth func(Truth)
}

// OBDConfig describes the ELM327 adapter and the car behind it.
type OBDConfig struct {
	// Listen is where the adapter is to be found: "pty", "pty:/path/of/a/link" (which
	// is made, and stays when the pseudo-terminal changes), "tcp://127.0.0.1:0",
	// "serial:///dev/ttyUSB1?baud=38400", "pipe" (DialOBD), or "off" (as is "").
	Listen string
	// Baud paces the bytes of the wire in both directions; 0 does not.
	Baud int
	// ECUDelay is how long an ECU takes to answer: 0 means 10 ms, negative none.
	ECUDelay time.Duration
	// Protocol is what the car speaks, by its digit in ATSP: '1' to '9', 'A'; 0
	// means '6' (CAN, 11 bit, 500 kbit/s).
	Protocol byte
	// ECUs is 1 (the engine) or 2 (the transmission too); 0 means 1.
	ECUs int
	// Chip is the banner; "" means "ELM327 v1.5".
	Chip string
	// MaxPIDs is how many parameters the car answers in one request; it refuses more
	// with 7F 01 12. 0 means 6.
	MaxPIDs int
	// Refuses are PIDs that answer alone; a request for several that holds one is
	// refused whole. Denies are PIDs that are listed and never answered.
	Refuses, Denies []byte
	// Lacks are modes at which this car keeps silent, as cars before 2010 do at 0A.
	Lacks []byte
	// SilentIfNone lets ECUs without codes keep silent when asked for them, as many do on
	// buses other than CAN.
	SilentIfNone bool
	// NeverClears lets the engine's ECU refuse mode 04 though the engine is off.
	NeverClears bool
	// NoCountDigit, NoFilter and NoAdaptive are what some clones do not know: they
	// answer "?" to a request with a count digit, to ATCRA and its like, to ATAT.
	NoCountDigit, NoFilter, NoAdaptive bool
	// NoHeaders takes ATH1 and prints no headers; NoSetHeader answers "?" to ATSH.
	NoHeaders, NoSetHeader bool
	// NoVoltage cannot measure (ATRV); NoSleep knows no low power (ATLP), NoClose no ATPC.
	NoVoltage, NoSleep, NoClose bool
	// SlowBattery lets the battery's ECU ask for time (7F 22 78) and take this long for
	// its answer; an adapter whose own wait is shorter gives its prompt before.
	SlowBattery time.Duration
	// FarBattery puts the battery's ECU on 79B, outside ISO 15765-4: it answers as 7BB,
	// and sends more than a first frame only when ATFCSM1, ATFCSH and ATFCSD say how.
	FarBattery bool
	// SlowSecond is how much longer than the engine's the second ECU takes.
	SlowSecond time.Duration
	// OnRequest is called with each request that goes over the bus and when; nil for
	// none. It must return soon.
	OnRequest func(t time.Time, request string)
}

// GPSConfig describes the receiver.
type GPSConfig struct {
	// Listen is as in OBDConfig.
	Listen string
	// Rate is fixes per second, 1 to 10; 0 means 1. Periods are multiples of 100 ms.
	Rate float64
	// Baud paces the bytes of the wire; 0 does not.
	Baud int
	// Latency is from the time of a fix to its first byte: 0 means 50 ms, negative none.
	Latency time.Duration
	// NoFixFor is how long after Start there is no fix.
	NoFixFor time.Duration
	// Rollover makes the receiver's dates 1024 weeks late, as one tells that does not
	// know of a rollover of the GPS week number.
	Rollover bool
}

// Vehicle is a running virtual vehicle.
type Vehicle struct {
	adapter  *adapter  // nil when off
	receiver *receiver // nil when off
	lines    []line
	cancel   context.CancelFunc
	running  sync.WaitGroup
	closing  sync.Once
	closeErr error
}

// Start starts a vehicle, its engine running. It ends with ctx, or at Close,
// which must be called in either case.
func Start(ctx context.Context, c Config) (*Vehicle, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	clock := driveClock{start: time.Now(), speedup: c.Speedup}
	truth := &truthLog{writer: c.Truth, call: c.OnTruth}
	ctx, cancel := context.WithCancel(ctx)
	v := &Vehicle{cancel: cancel}
	obdLine, err := v.listen(ctx, c.OBD.Listen)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the ELM327: %w", err), v.Close())
	}
	gpsLine, err := v.listen(ctx, c.GPS.Listen)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the GPS receiver: %w", err), v.Close())
	}
	if obdLine != nil {
		car := newCar(c.newDrive(), clock, c.OBD)
		v.adapter = newAdapter(obdLine, car, truth, c)
		v.running.Go(func() { v.adapter.run(ctx) })
	}
	if gpsLine != nil {
		v.receiver = newReceiver(gpsLine, c.newDrive(), clock, truth, c)
		v.running.Go(func() { v.receiver.run(ctx) })
	}
	return v, nil
}

// listen opens a line and keeps it for Close; a line that is off is nil.
func (v *Vehicle) listen(ctx context.Context, where string) (line, error) {
	if where == "" || where == "off" {
		return nil, nil
	}
	l, err := newLine(ctx, where)
	if err != nil {
		return nil, err
	}
	v.lines = append(v.lines, l)
	return l, nil
}

// OBDAddress is where a client finds the adapter: "serial:///dev/pts/3",
// "tcp://127.0.0.1:41234"; "" when it is off.
func (v *Vehicle) OBDAddress() string {
	if v.adapter == nil {
		return ""
	}
	return v.adapter.line.address()
}

// GPSAddress is where a client finds the receiver; "" when it is off.
func (v *Vehicle) GPSAddress() string {
	if v.receiver == nil {
		return ""
	}
	return v.receiver.line.address()
}

// BusTraffic counts what the adapter has put on the vehicle's bus.
type BusTraffic struct {
	Requests   int64 // asked for by the client
	Openings   int64 // searches for the protocol and K-line initialisations
	KeepAlives int64 // sent by the adapter itself while a K-line protocol is open (ATSW)
}

// BusTraffic returns the counts so far; zero when the adapter is off.
func (v *Vehicle) BusTraffic() BusTraffic {
	if v.adapter == nil {
		return BusTraffic{}
	}
	return v.adapter.bus.traffic(time.Now())
}

// Close ends the vehicle and waits for its goroutines. It may be called more
// than once.
func (v *Vehicle) Close() error {
	v.closing.Do(func() {
		v.cancel()
		v.running.Wait()
		var errs []error
		for _, l := range v.lines {
			errs = append(errs, l.close())
		}
		v.closeErr = errors.Join(errs...)
	})
	return v.closeErr
}

func (c Config) withDefaults() (Config, error) {
	setDefault(&c.Speedup, 1)
	setDefault(&c.OBD.Protocol, '6')
	setDefault(&c.OBD.ECUs, 1)
	setDefault(&c.OBD.ECUDelay, 10*time.Millisecond)
	setDefault(&c.OBD.Chip, "ELM327 v1.5")
	setDefault(&c.GPS.Rate, 1)
	setDefault(&c.GPS.Latency, 50*time.Millisecond)
	c.OBD.ECUDelay = max(c.OBD.ECUDelay, 0)
	c.GPS.Latency = max(c.GPS.Latency, 0)
	switch {
	case !(c.Speedup > 0) || c.Speedup > fastest:
		return c, fmt.Errorf("speedup %v is not between 0 and %v", c.Speedup, fastest)
	case !strings.ContainsRune("123456789A", rune(c.OBD.Protocol)):
		return c, fmt.Errorf("no OBD protocol %q: 1 to 9 or A are known", c.OBD.Protocol)
	case c.OBD.ECUs != 1 && c.OBD.ECUs != 2:
		return c, fmt.Errorf("%d ECUs: there can be 1 or 2", c.OBD.ECUs)
	case !(c.GPS.Rate >= 1 && c.GPS.Rate <= 10):
		return c, fmt.Errorf("%v fixes per second: a receiver does 1 to 10", c.GPS.Rate)
	case c.OBD.Baud < 0 || c.GPS.Baud < 0:
		return c, errors.New("a negative baud rate")
	}
	return c, errors.Join(c.Script.check(), c.judgeKey())
}

// fastest is the greatest Speedup: the steps of the drive must be walked.
const fastest = 10000.0

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// driveClock tells the drive time of an instant.
type driveClock struct {
	start   time.Time
	speedup float64
}

func (c driveClock) at(t time.Time) time.Duration {
	return time.Duration(float64(t.Sub(c.start)) * c.speedup)
}
