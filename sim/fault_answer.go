package sim

import (
	"context"
	"slices"
	"strings"
	"time"
)

// exchange is a request and the frames that answer it.
type exchange struct {
	command string // as the client typed it
	request []byte
	frames  []reception
}

// answerFault spoils an answer: it prints what it has to and returns the frames that
// are printed as they would have been. What it takes away leaves the truth log, too.
// None: the prompt follows at once.
type answerFault func(a *adapter, ctx context.Context, x exchange) []reception

// text replaces an answer by what an adapter says.
func text(name, line string) Fault {
	return Fault{Name: name, Says: "the adapter says " + line, answer: func(a *adapter, ctx context.Context, _ exchange) []reception {
		a.print(ctx, line+a.eol(), true, nil)
		return nil
	}}
}

// before prints a text in front of a right answer: on a line of its own, or every
// other time on the same line.
func before(text string, ownLine bool) answerFault {
	return func(a *adapter, ctx context.Context, x exchange) []reception {
		if ownLine || a.faults.alternate() {
			text := text + a.eol()
			a.print(ctx, text, true, nil)
		} else {
			a.print(ctx, text, true, nil)
		}
		return x.frames
	}
}

// marked prints the first line with a wrong byte and the adapter's mark on it.
func marked(mark string) answerFault {
	return func(a *adapter, ctx context.Context, x exchange) []reception {
		f := x.frames[0].frame
		f.data = altered(f.data)
		a.print(ctx, strings.TrimRight(a.format(f), "\r\n")+" "+mark+a.eol(), true, nil)
		return nil
	}
}

// altered is other data than b that looks as good: its last bytes that are not
// filler are changed.
func altered(b []byte) []byte {
	c := append([]byte(nil), b...)
	for i := min(len(c), 5) - 1; i >= 3 || i == len(c)-1 && i >= 0; i-- {
		c[i] ^= 0x15
	}
	return c
}

func restarts(text string) answerFault {
	return func(a *adapter, ctx context.Context, _ exchange) []reception {
		if text != "" {
			a.print(ctx, a.eol()+text+a.eol(), false, nil)
		}
		a.restart(ctx, resetTime)
		return nil
	}
}

// forgets loses the settings and answers as a fresh chip does.
func forgets(a *adapter, ctx context.Context, x exchange) []reception {
	a.reset()
	a.settings.protocol = a.car.protocol.digit // or no bus would be open to answer
	a.bus.opened(time.Now())
	return x.frames
}

func promptless(a *adapter, ctx context.Context, x exchange) []reception {
	a.hung = true
	return x.frames
}

func late(a *adapter, ctx context.Context, x exchange) []reception {
	a.pause(ctx, 6*time.Second)
	return x.frames
}

// other is an ECU that answers the request with values that are not the engine's.
func (a *adapter) other(number byte, x exchange) []reception {
	stranger := &ecu{number: number, filler: 0xAA}
	var all []reception
	for _, m := range a.car.answer(&a.car.ecus[0], x.request, time.Now()) {
		data := append([]byte(nil), m.data...)
		for i := 2; i < len(data); i++ {
			if i >= 4 || len(data) == 3 {
				data[i] ^= 0x15
			}
		}
		if len(x.request) > 2 { // several PIDs: change values only, which follow each PID
			data = alterValues(m)
		}
		for _, f := range a.car.protocol.frames(stranger, data) {
			all = append(all, reception{ecu: stranger, frame: f})
		}
	}
	return all
}

// alterValues is a message with every value changed and every PID kept.
func alterValues(m message) []byte {
	data := []byte{m.data[0]}
	for _, s := range m.served {
		data = append(data, s.id...)
		for _, b := range s.bytes {
			data = append(data, b^0x15)
		}
	}
	return data
}

func strayLine(a *adapter, ctx context.Context, x exchange) []reception {
	if frames := a.other(2, x); len(frames) > 0 {
		a.print(ctx, a.format(frames[0].frame), true, nil)
	}
	return x.frames
}

func junk(a *adapter, ctx context.Context, x exchange) []reception {
	for i, r := range x.frames {
		a.print(ctx, "\x00\xfc\xff\r", true, nil)
		a.printFrame(ctx, r, x.command)
		if i == len(x.frames)-1 {
			a.print(ctx, "\x00\x00\xfe", true, nil)
		}
	}
	return nil
}

func halfLine(a *adapter, ctx context.Context, x exchange) []reception {
	line := strings.TrimRight(a.format(x.frames[0].frame), "\r\n ")
	a.print(ctx, line[:len(line)/2], true, nil)
	return nil
}

// lostBytes loses a byte of the first value, two characters on the wire: on CAN what
// fills the frame moves up into its place.
func lostBytes(a *adapter, ctx context.Context, x exchange) []reception {
	f := x.frames[0].frame
	at := min(len(f.data)-1, 3)
	f.data = append(append([]byte(nil), f.data[:at]...), f.data[at+1:]...)
	a.print(ctx, a.format(f), true, nil)
	for _, r := range x.frames[1:] {
		a.print(ctx, a.format(r.frame), true, nil)
	}
	return nil
}

func sparePrompt(a *adapter, ctx context.Context, x exchange) []reception {
	a.print(ctx, ">", true, nil)
	a.pause(ctx, 30*time.Millisecond)
	return x.frames
}

func wrongECU(a *adapter, ctx context.Context, x exchange) []reception { return a.other(1, x) }

// says is a message of an ECU as frames.
func (a *adapter) says(number byte, data ...byte) []reception {
	e := &ecu{number: number}
	var all []reception
	for _, f := range a.car.protocol.frames(e, data) {
		all = append(all, reception{ecu: e, frame: f})
	}
	return all
}

func negative(a *adapter, ctx context.Context, x exchange) []reception {
	return a.says(0, 0x7F, x.request[0], 0x12)
}

func negativeFirst(a *adapter, ctx context.Context, x exchange) []reception {
	no := a.says(1, 0x7F, x.request[0], 0x12)
	for range 3 {
		a.print(ctx, a.format(no[0].frame), true, nil)
	}
	return x.frames
}

func pendingFirst(a *adapter, ctx context.Context, x exchange) []reception {
	a.print(ctx, a.format(a.says(0, 0x7F, x.request[0], 0x78)[0].frame), true, nil)
	a.pause(ctx, 80*time.Millisecond)
	return x.frames
}

func interleaved(a *adapter, ctx context.Context, x exchange) []reception {
	theirs := a.other(1, x)
	var mixed []reception
	for i := range max(len(theirs), len(x.frames)) {
		if i < len(theirs) {
			mixed = append(mixed, theirs[i])
		}
		if i < len(x.frames) {
			mixed = append(mixed, x.frames[i])
		}
	}
	return mixed
}

// severed are the places of the frames of the engine's ECU. What was served in them is
// taken away: the message cannot be put together.
func severed(frames []reception) (at []int) {
	for i := range frames {
		if frames[i].ecu.number == 0 {
			frames[i].served = nil
			at = append(at, i)
		}
	}
	return at
}

func wrongOrder(a *adapter, ctx context.Context, x exchange) []reception {
	at := severed(x.frames)
	x.frames[at[1]], x.frames[at[2]] = x.frames[at[2]], x.frames[at[1]]
	return x.frames
}

func lostFrame(a *adapter, ctx context.Context, x exchange) []reception {
	return slices.Delete(x.frames, severed(x.frames)[1], severed(x.frames)[1]+1)
}

func repeatedFrame(a *adapter, ctx context.Context, x exchange) []reception {
	at := severed(x.frames)[1]
	return slices.Insert(x.frames, at, x.frames[at])
}

// fits reports whether a fault can act on an answer.
func (f *Fault) fits(answer []reception) bool {
	frames := 0
	for _, r := range answer {
		if r.ecu.number == 0 {
			frames++
		}
	}
	switch f.Name {
	case "wrong_order", "repeated_frame": // of the last one the message is whole already
		return frames >= 3
	case "lost_frame":
		return frames >= 2
	case "data_error_mark", "rx_error_mark", "half_line", "lost_bytes", "junk", "stray_line", "wrong_ecu", "interleaved":
		return frames >= 1
	}
	return true
}
