// Package record keeps what went over a port, byte for byte, so that a fault of the
// road can be played back at a desk.
//
// A recording is text, one entry a line:
//
//	# telemetryd recording 1 obd 2026-11-24T14:30:00.000Z
//	0.000000 = "open serial:///dev/ttyUSB0"
//	0.001203 > "ATZ\r"
//	0.950311 < "\r\rELM327 v1.5\r\r>"
//	12.000000 = "closed: the device is gone"
//
// The first line says what was recorded and when. Then come the seconds since then, a
// mark (> sent, < received, = a remark) and the bytes, quoted as a Go string. A file
// that begins in mid session first repeats how the session began, with the marks ] and
// [: it can be played back by itself, and is decoded without what it repeats.
//
// A Log promises never to hold up the port: a slow or failing disk costs entries,
// which are counted in a remark, and is tried again for ever. Its files stay within
// a bound, the oldest go first. Recordings show where a vehicle was and what its
// number is: they are readable for their owner only.
package record
