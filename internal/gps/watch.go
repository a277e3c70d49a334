package gps

import (
	"fmt"
	"time"

	"telemetryd/internal/port"
	"telemetryd/internal/telemetry"
)

// sourceName is the source of every condition of this package.
const sourceName = "gps"

// patience is how long bytes, sentences or fixes may stay away.
const patience = 5 * time.Second

// manyFrames is how many UBX frames without any sentence between them mean that
// the receiver speaks UBX.
const manyFrames = 5

// watch tells Health what is wrong, once for each change. Its times are of the
// monotonic clock: time asleep is nobody's silence.
type watch struct {
	health Health
	code   string // of the condition that holds; empty for none

	begun     time.Time // of this connection
	bytesAt   time.Time
	talkingAt time.Time // first bytes after a time without
	spokenAt  time.Time // last sentence
	resumedAt time.Time // first sentence after a time without
	fixedAt   time.Time
	keptAt    time.Time // last fix that was kept back
	sentences uint64    // of this connection
	heardAny  bool      // bytes came on this connection
	frames    int       // UBX frames since the last sentence or change of rate
	sync      bool      // the last byte was the first of a frame
}

func newWatch(h Health) *watch { return &watch{health: h} }

// begin notes a new connection.
func (w *watch) begin() {
	if w.begun.IsZero() {
		w.bytesAt = time.Now()
	}
	w.begun = time.Now()
	w.sentences, w.heardAny = 0, false
	w.newRate()
}

func (w *watch) newRate() { w.frames, w.sync = 0, false }

// heard notes bytes and looks for UBX frames: B5 62 (u-blox interface
// description, "UBX frame structure").
func (w *watch) heard(data []byte) {
	now := time.Now()
	if !w.heardAny || now.Sub(w.bytesAt) >= patience {
		w.talkingAt = now
	}
	w.bytesAt, w.heardAny = now, true
	for _, b := range data {
		if w.sync && b == 0x62 {
			w.frames++
		}
		w.sync = b == 0xb5
	}
}

// spoke notes n sentences with a good checksum.
func (w *watch) spoke(n uint64) {
	now := time.Now()
	if now.Sub(w.since(w.spokenAt)) >= patience || w.sentences == 0 {
		w.resumedAt = now
	}
	w.spokenAt = now
	w.sentences += n
	w.frames = 0
}

// fixed notes a fix: all is well.
func (w *watch) fixed() {
	w.fixedAt = time.Now()
	if w.code != "" {
		w.code = ""
		if w.health != nil {
			w.health.Clear(sourceName, "GPS receiver delivers fixes")
		}
	}
}

// withheld notes a fix that was kept back because it cannot be true, and why.
func (w *watch) withheld(c telemetry.Condition) {
	w.keptAt = time.Now()
	w.set(c)
}

// since is t, or the beginning of this connection if that is later.
func (w *watch) since(t time.Time) time.Time { return later(t, w.begun) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// lastBytes is when bytes last came, or else when this connection began.
func (w *watch) lastBytes() time.Time { return w.since(w.bytesAt) }

// binary reports whether the receiver speaks UBX alone.
func (w *watch) binary() bool { return w.frames >= manyFrames }

// check sets the condition that holds by now, if one does. While the rate is being
// hunted for, nonsense is expected. Silence is counted over connections: one that
// ends at once, again and again, is silent, too.
func (w *watch) check(hunting bool) {
	now := time.Now()
	late := func(t time.Time) bool { return now.Sub(t) >= patience }
	mute := late(later(w.spokenAt, w.talkingAt))
	switch {
	case late(w.bytesAt):
		if late(w.begun) || w.code == "" {
			w.set(silent)
		}
	case !w.heardAny:
	case mute && w.binary():
		w.set(binaryOutput)
	case mute && !hunting:
		w.set(wrongData)
	case !mute && w.sentences > 0 && late(later(later(w.fixedAt, w.keptAt), w.resumedAt)):
		w.set(noFix)
	}
}

// set makes c the condition that holds.
func (w *watch) set(c telemetry.Condition) {
	if w.code == c.Code {
		return
	}
	w.code = c.Code
	if w.health != nil {
		w.health.Set(sourceName, c)
	}
}

var (
	nothingFound = telemetry.Condition{
		Code: "gps_missing", Severity: telemetry.Warning,
		Title:  "No GPS receiver found",
		Remedy: "Plug in the GPS receiver. If it is plugged in, name its port with --gps; `telemetryd ports` lists them.",
	}
	silent = telemetry.Condition{
		Code: "gps_silent", Severity: telemetry.Warning,
		Title:  "The GPS receiver sends nothing",
		Remedy: "Check the receiver's power and cable (its TX to our RX). A modem's GPS has to be switched on by its AT command.",
	}
	wrongData = telemetry.Condition{
		Code: "gps_wrong_data", Severity: telemetry.Warning,
		Title:  "What the GPS port sends is not NMEA",
		Remedy: "Check that --gps names the GPS receiver's port, and its rate (serial:///dev/...?baud=); without a rate all usual ones are tried.",
	}
	binaryOutput = telemetry.Condition{
		Code: "gps_binary", Severity: telemetry.Warning,
		Title:  "The GPS receiver sends binary UBX instead of NMEA",
		Remedy: "Switch NMEA output on in the receiver (u-center, or `ubxtool -e NMEA`), or let gpsd read it and set --gps gpsd://127.0.0.1:2947.",
	}
	noFix = telemetry.Condition{
		Code: "gps_no_fix", Severity: telemetry.Info,
		Title:  "The GPS receiver has no fix yet",
		Remedy: "Give the antenna a free view of the sky. A cold start takes up to some minutes.",
	}
)

var (
	frozen = telemetry.Condition{
		Code: "gps_frozen", Severity: telemetry.Warning,
		Title:  "The GPS receiver repeats one fix",
		Remedy: "Its positions are not published until they move on. If it stays like this, unplug the receiver and plug it in again.",
	}
	jumped = telemetry.Condition{
		Code: "gps_jumped", Severity: telemetry.Warning,
		Title:  "The GPS position jumped farther than any car can drive",
		Remedy: "It is published once three fixes agree on the new place. If it happens often, give the antenna a free view of the sky, away from other transmitters.",
	}
)

// missing is a port that could not be opened.
func missing(a port.Address, err error) telemetry.Condition {
	remedy := "Plug in the receiver and check the address given with --gps; `telemetryd ports` lists what is there."
	switch a.Scheme {
	case "gpsd":
		return telemetry.Condition{
			Code: "gps_missing", Severity: telemetry.Warning,
			Title:  fmt.Sprintf("No gpsd at %s (%v)", a, err),
			Remedy: "Start it (`sudo systemctl start gpsd.socket`), or check the address given with --gps. gpsd listens to other machines only with -G.",
		}
	case "tcp":
		remedy = "Check that the other side is switched on, reachable and listening at the address given with --gps."
	case "file":
		remedy = "Check the path given with --gps and that the service's user may read it."
	}
	return telemetry.Condition{
		Code: "gps_missing", Severity: telemetry.Warning,
		Title:  fmt.Sprintf("No GPS receiver at %s (%v)", a, err),
		Remedy: remedy,
	}
}

// fileEnded is a recording that was read to its end.
func fileEnded(a port.Address, sentences uint64) telemetry.Condition {
	if sentences == 0 {
		return telemetry.Condition{
			Code: "gps_file_ended", Severity: telemetry.Info,
			Title:  fmt.Sprintf("The GPS recording %s holds no NMEA", a.Path),
			Remedy: "Name a file of NMEA 0183 sentences with --gps.",
		}
	}
	return telemetry.Condition{
		Code: "gps_file_ended", Severity: telemetry.Info,
		Title:  fmt.Sprintf("The GPS recording %s has been read to its end", a.Path),
		Remedy: "Nothing to do. Restart to read it again, or name a receiver with --gps.",
	}
}
