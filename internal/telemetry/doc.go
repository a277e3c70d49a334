// Package telemetry owns the words the whole program shares: the table of
// signals, readings, batches, events, the status of the publisher, their JSON,
// and the clock that says when something was measured and how well that is
// known.
//
// It promises that a value reaches JSON only if it was measured: a number that
// is not finite is left out, nothing is filled in, nothing is repeated. Time is
// kept as time since boot until a batch is closed, so that a step of the
// system's clock moves no reading.
//
// It knows no other package of this module and uses the standard library only.
// Ports, the buffer and MQTT are other packages' business.
package telemetry
