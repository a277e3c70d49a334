// Package local owns the socket in the state directory, over which programs on this machine
// hand in events: a button, a script, the UPS hat of the Pi.
//
// It promises that who gets an answer with a sequence number has its event in the buffer,
// and is told whether that is on the disk; that nobody passes an event off as one of the
// daemon's own findings; that what is read, who is connected and who waits are bounded; and
// that a socket which a killed daemon left behind is in nobody's way.
//
// # On the wire
//
// A Unix stream socket. One line of JSON in, a Request; one line out, an Answer; then the
// daemon closes. The permissions of the socket and of the state directory are the only gate.
//
// How events are recorded and sent is other packages' business.
package local
