// Package gps turns what a GNSS receiver says in NMEA 0183, over a serial port,
// TCP or from a file, or what gpsd says of it, into fixes: one telemetry.Reading for
// each epoch.
//
// It promises that a fix is what the receiver said at one time of day and nothing
// else: a position the receiver calls valid, the receiver's own date and time, no
// value carried over from another epoch (the date apart, and for some seconds what
// gpsd says of the satellites, which has no time), no zero for an empty field.
// Sentences without a good checksum, with numbers that are none or with values that
// cannot be are refused and counted by reason. It never writes to a receiver, never
// gives up a port that may come back, and tells through Health what is wrong in words
// a driver understands.
//
// The way of the bytes: framer (frame.go) cuts lines, parser (sentence.go)
// repairs and reads them with go-nmea, assembler (assemble.go) gathers them into
// epochs (epoch.go), live ones by what it learns of the receiver's cadence
// (cadence.go), and calendar (date.go) dates them; decoder (decode.go) is these
// in a row. Run (run.go) opens ports again and again, listens to each (listen.go),
// finds its rate (rate.go) and watches over health (watch.go). The way of gpsd's
// reports: lines of JSON (gpsdjson.go), gathered into fixes (gpsdfix.go), over a
// connection (gpsd.go) that takes care not to cost gpsd its devices
// (gpsddevices.go). Without an address both are tried (auto.go). What no car can have
// driven is kept back (guard.go).
//
// Setting clocks, storing and publishing fixes are other packages' business.
package gps
