// Package port opens what adapters and receivers are connected to: a serial
// port, a TCP connection or a file.
//
// It promises that every chunk of bytes carries the time since boot at which it
// arrived, that a write ends by its deadline even on a port that has none, and
// that Close ends and awaits the port's goroutine. An unplugged device, a closed
// connection and the end of a file all end the chunks, with the cause.
//
// One goroutine of the caller owns a Port. What the bytes mean is the business of
// packages obd and gps.
package port
