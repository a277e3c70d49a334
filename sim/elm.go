package sim

import (
	"context"
	"errors"
	"strings"
	"time"
)

// adapter is the ELM327: it reads commands byte by byte and answers them. The
// references are sections of the ELM327 v1.5 data sheet.
type adapter struct {
	line    line
	car     *car
	bus     connection
	truth   *truthLog
	chip    string
	baud    int
	speedup float64

	settings settings
	stored   storedProtocol
	user     byte // the byte of AT@ and AT SD
	learned  time.Duration
	last     string // command, for a lone CR
	asleep   bool   // after ATLP
	hung     bool   // no prompt was given: the next character brings it
	traits   OBDConfig
	faults   *faults

	term   *terminal // of the client being served
	gone   error     // why its service ends
	broken bool      // the command at hand was interrupted
}

// storedProtocol is what ATSP wrote to the EEPROM. It survives ATZ.
type storedProtocol struct {
	digit     byte // '0' when there is nothing to begin a search with
	automatic bool
}

// settings is what ATZ, ATWS and ATD reset.
type settings struct {
	echo, linefeeds, spaces, headers, responses bool
	formatting                                  bool // ATCAF
	flowControl                                 bool // ATCFC
	flowMode                                    byte // ATFCSM
	flowHeader                                  uint32
	flowData                                    bool // ATFCSD was given
	showLength                                  bool // ATD1, the DLC of CAN frames
	adaptive                                    byte // ATAT
	timeout                                     time.Duration
	protocol                                    byte // digit; '0' while an automatic search is due
	automatic                                   bool
	header                                      *[4]byte // ATSH, nil for the default
	priority                                    byte     // ATCP, the first byte of 29 bit identifiers
	filter, mask                                uint32
}

const (
	timeoutUnit    = 4096 * time.Microsecond // of ATST
	defaultTimeout = 0x32 * timeoutUnit      // 205 ms
	shortestWait   = 8 * time.Millisecond    // of adaptive timing
	resetTime      = 300 * time.Millisecond
	warmResetTime  = 30 * time.Millisecond
	searchTime     = time.Second
	longestCommand = 254 // characters
)

func newAdapter(l line, k *car, truth *truthLog, c Config) *adapter {
	a := &adapter{line: l, car: k, truth: truth, chip: c.OBD.Chip, baud: c.OBD.Baud, speedup: max(1, c.Speedup), stored: storedProtocol{'0', true}, traits: c.OBD, faults: k.faults}
	a.bus.car = k
	a.reset()
	return a
}

// reset restores the defaults and closes the protocol.
func (a *adapter) reset() {
	a.settings = settings{
		echo: true, spaces: true, responses: true, formatting: true, flowControl: true,
		adaptive: 1, timeout: defaultTimeout, priority: 0x18,
	}
	a.setProtocol(a.stored.digit, a.stored.automatic)
	a.bus.setKeepAlive(defaultKeepAlive, time.Now())
}

// setProtocol chooses a protocol, to be opened by the next request.
func (a *adapter) setProtocol(digit byte, automatic bool) {
	a.bus.close(time.Now())
	a.settings.protocol, a.settings.automatic = digit, automatic
	a.learned = 0
}

// run serves clients until ctx is done. Settings outlive a client: the adapter
// stays plugged into the car.
func (a *adapter) run(ctx context.Context) {
	serve(ctx, faultyLine{a.line, a.faults}, a.baud, a.session)
}

// session serves one client.
func (a *adapter) session(ctx context.Context, t *terminal) {
	a.term, a.gone = t, nil
	if a.faults.acts("power") { // it was without, and powers up anew
		a.hung, a.asleep = false, false
		a.reset()
	}
	var command []byte
	for a.gone == nil {
		b, err := t.next(ctx)
		if err != nil {
			return
		}
		if a.asleep {
			a.wake(ctx)
			continue
		}
		if a.faults.acts("mute") {
			command = command[:0]
			continue
		}
		if a.hung {
			a.hung = false
			a.print(ctx, a.eol()+">", false, nil)
			continue
		}
		switch {
		case b == '\r':
			a.echo("\r")
			a.command(ctx, string(command))
			command = command[:0]
		case b == '\b':
			command = command[:max(0, len(command)-1)]
			a.echo("\b")
		case b == 0 || b == '\n':
		default:
			a.echo(string([]byte{b}))
			if len(command) <= longestCommand && b > ' ' {
				command = append(command, b)
			}
		}
	}
}

func (a *adapter) echo(s string) {
	if !a.settings.echo && !a.faults.acts("echo_stuck") {
		return
	}
	if s == "\r" {
		s = a.eol()
	}
	if err := a.term.echo([]byte(s)); err != nil {
		a.gone = err
	}
}

// command carries out one command and prompts for the next.
func (a *adapter) command(ctx context.Context, typed string) {
	c := strings.ToUpper(typed)
	if c == "" {
		c = a.last // a lone CR repeats
	}
	a.last = c
	a.broken = false
	switch {
	case c == "":
	case len(c) > longestCommand:
		a.answer(ctx, "?")
	case strings.HasPrefix(c, "AT"):
		a.at(ctx, c[2:])
	default:
		a.request(ctx, c)
	}
	if a.broken {
		a.broken = false
		a.printLine(ctx, "STOPPED")
	}
	if c == "ATZ" && a.faults.acts("banner_without_prompt") {
		a.hung = true
	}
	if !a.asleep && !a.hung {
		a.print(ctx, a.eol()+">", false, nil)
	}
}

func (a *adapter) eol() string {
	if a.settings.linefeeds {
		return "\r\n"
	}
	return "\r"
}

// answer prints one line that is not interrupted.
func (a *adapter) answer(ctx context.Context, line string) {
	a.print(ctx, line+a.eol(), false, nil)
}

// printLine prints a line of text during a request, unless that was interrupted.
func (a *adapter) printLine(ctx context.Context, line string) {
	if a.settings.responses || line == "STOPPED" {
		a.print(ctx, line+a.eol(), line != "STOPPED", nil)
	}
}

func (a *adapter) print(ctx context.Context, s string, interruptible bool, leaving func(time.Time)) {
	if !a.going() {
		return
	}
	a.note(a.term.send(ctx, []byte(s), interruptible, leaving))
}

// pause lets time pass during a request; any byte from the client ends it.
func (a *adapter) pause(ctx context.Context, d time.Duration) {
	if a.going() {
		a.note(a.term.wait(ctx, d, true))
	}
}

// going reports whether the command at hand goes on.
func (a *adapter) going() bool { return a.gone == nil && !a.broken }

func (a *adapter) note(err error) {
	switch {
	case errors.Is(err, errInterrupted):
		a.broken = true
	case err != nil:
		a.gone = err
	}
}

// restart is a reset of the chip: nothing is heard meanwhile.
func (a *adapter) restart(ctx context.Context, takes time.Duration) {
	a.note(a.term.wait(ctx, takes, false))
	a.term.forget()
	a.reset()
	a.print(ctx, a.eol()+a.eol()+a.chip+a.eol(), false, nil)
}

// wake ends low power mode; the byte that wakes is lost.
func (a *adapter) wake(ctx context.Context) {
	a.asleep = false
	a.restart(ctx, warmResetTime)
	a.print(ctx, a.eol()+">", false, nil)
}
