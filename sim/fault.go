package sim

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault is something that goes wrong with real adapters, cables and cars.
type Fault struct {
	Name string
	Says string // what happens, for people

	answer answerFault   // acts on an answer; nil for what acts elsewhere
	lasts  time.Duration // when Inject is given no time; 0 acts on one request
}

// Faults lists what can be injected.
func Faults() []Fault { return slices.Clone(faultTable) }

// Inject makes a fault act from now on for d; without a time it acts on the next
// request, or for some seconds where it does not act on requests. It returns when the
// fault has begun, and fails for an unknown name or a line that cannot have it.
func (v *Vehicle) Inject(name string, d time.Duration) error {
	i := slices.IndexFunc(faultTable, func(f Fault) bool { return f.Name == name })
	if i < 0 {
		var names []string
		for _, f := range faultTable {
			names = append(names, f.Name)
		}
		return fmt.Errorf("no fault is called %q; there are: %s", name, strings.Join(names, " "))
	}
	if v.adapter == nil {
		return fmt.Errorf("fault %s: the vehicle has no adapter", name)
	}
	f := &faultTable[i]
	if d <= 0 {
		d = f.lasts
	}
	switch name {
	case "unplug", "half_close":
		p, ok := v.adapter.line.(pluggable)
		if !ok {
			return fmt.Errorf("fault %s: %s has no plug; listen on pty:/path/to/link or TCP", name, v.adapter.line.address())
		}
		v.adapter.faults.set("power", d)
		if name == "half_close" {
			return p.halfClose(d)
		}
		return p.unplug(d)
	}
	v.adapter.faults.set(name, d)
	return nil
}

// faults are those that act at present. Its zero value is none.
type faults struct {
	mu    sync.Mutex
	until map[string]time.Time // the zero time: once
	odd   bool                 // alternates the looks of some faults
}

func (f *faults) set(name string, d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.until == nil {
		f.until = map[string]time.Time{}
	}
	f.until[name] = time.Time{}
	if d > 0 {
		f.until[name] = time.Now().Add(d)
	}
}

// acts reports whether a fault acts now; one that acts once is used up by asking.
func (f *faults) acts(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.take(name)
}

func (f *faults) take(name string) bool {
	end, set := f.until[name]
	if !set {
		return false
	}
	if end.IsZero() {
		delete(f.until, name)
		return true
	}
	if time.Now().After(end) {
		delete(f.until, name)
		return false
	}
	return true
}

// end is when a lasting fault ends; the zero time when it does not act.
func (f *faults) end(name string) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.until[name].After(time.Now()) {
		return time.Time{}
	}
	return f.until[name]
}

// onAnswer is the fault that acts on the answer at hand; nil for none. fits tells
// which can act on it: one that cannot waits for the next.
func (f *faults) onAnswer(fits func(*Fault) bool) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range faultTable {
		x := &faultTable[i]
		if _, set := f.until[x.Name]; set && x.answer != nil && fits(x) && f.take(x.Name) {
			return x
		}
	}
	return nil
}

// alternate is true every other time.
func (f *faults) alternate() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.odd = !f.odd
	return f.odd
}

// faultTable is every fault, in the order of the ELM327's layers: texts, chip,
// lines, ECUs, wire, car.
var faultTable = []Fault{
	text("no_data", "NO DATA"),
	text("unable_to_connect", "UNABLE TO CONNECT"),
	text("bus_init_error", "BUS INIT: ...ERROR"),
	text("bus_busy", "BUS BUSY"),
	text("bus_error", "BUS ERROR"),
	text("can_error", "CAN ERROR"),
	text("data_error", "DATA ERROR"),
	text("fb_error", "FB ERROR"),
	text("buffer_full", "BUFFER FULL"),
	text("stopped", "STOPPED"),
	text("unknown_command", "?"),
	text("err_code", "ERR94"),
	text("lp_alert", "LP ALERT"),
	{Name: "act_alert", Says: "!ACT ALERT stands before the answer", answer: before("!ACT ALERT", true)},
	{Name: "data_error_mark", Says: "a line with a wrong byte and <DATA ERROR", answer: marked("<DATA ERROR")},
	{Name: "rx_error_mark", Says: "a line with a wrong byte and <RX ERROR", answer: marked("<RX ERROR")},

	{Name: "lv_reset", Says: "the voltage breaks down: LV RESET, settings lost", answer: restarts("LV RESET")},
	{Name: "restart", Says: "the chip starts anew: banner, settings lost", answer: restarts("")},
	{Name: "silent_restart", Says: "settings are lost without a word", answer: forgets},
	{Name: "mute", Says: "the chip hangs and forgets what it is sent", lasts: 3 * time.Second},
	{Name: "no_prompt", Says: "no prompt follows the answer", answer: promptless},
	{Name: "late", Says: "the answer comes 6 s late", answer: late},
	{Name: "banner_without_prompt", Says: "no prompt follows the banner of ATZ", lasts: 10 * time.Second},

	{Name: "stray_line", Says: "a line of another ECU stands before the answer", answer: strayLine},
	{Name: "junk", Says: "NUL and bytes outside ASCII stand around the lines", answer: junk},
	{Name: "half_line", Says: "the answer ends in the middle of a line", answer: halfLine},
	{Name: "lost_bytes", Says: "bytes are lost within a line", answer: lostBytes},
	{Name: "echo_stuck", Says: "echo cannot be switched off", lasts: 5 * time.Second},
	{Name: "searching", Says: "SEARCHING... stands before the answer", answer: before("SEARCHING...", false)},
	{Name: "bus_init_prefix", Says: "BUS INIT: ...OK stands before the answer", answer: before("BUS INIT: ...OK", false)},
	{Name: "spare_prompt", Says: "a prompt too many stands before the answer", answer: sparePrompt},

	{Name: "wrong_ecu", Says: "only another ECU answers", answer: wrongECU},
	{Name: "negative", Says: "the engine's ECU refuses", answer: negative},
	{Name: "negative_first", Says: "three negatives of another ECU come first", answer: negativeFirst},
	{Name: "pending", Says: "the engine's ECU asks for time first", answer: pendingFirst},
	{Name: "interleaved", Says: "frames of two ECUs are interleaved", answer: interleaved},
	{Name: "wrong_order", Says: "consecutive frames are swapped", answer: wrongOrder},
	{Name: "lost_frame", Says: "a consecutive frame is missing", answer: lostFrame},
	{Name: "repeated_frame", Says: "a consecutive frame comes twice", answer: repeatedFrame},

	{Name: "stall", Says: "the line holds back what the adapter sends, as Bluetooth does", lasts: 2 * time.Second},
	{Name: "half_close", Says: "TCP: the adapter closes its sending half, then the connection; pty: as unplug", lasts: 2 * time.Second},
	{Name: "unplug", Says: "the port is gone, and comes back as another one", lasts: 2 * time.Second},

	{Name: "ignition_off", Says: "the car is switched off", lasts: 5 * time.Second},
}

// Pending lists the faults that still act or wait for a request to act on.
func (v *Vehicle) Pending() []string {
	if v.adapter == nil {
		return nil
	}
	f := v.adapter.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for name, end := range f.until {
		if end.IsZero() || time.Now().Before(end) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
