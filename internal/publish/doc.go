// Package publish owns the MQTT session: connecting, the order of sending, and
// acknowledgements.
//
// It promises that a record leaves the buffer only after its own PUBACK came on
// the connection it was sent on; that emergencies go before live batches, these before
// events, and events before the backlog, and all is paced so that an emergency, or a live
// batch, does not wait long behind what is under way;
// that a message which makes the broker close the connection is given up, and named,
// before it blocks the others; that commands are handed on in the order of arrival, and
// neither they nor their answers stop telemetry where the broker denies them; and that it
// connects again for ever.
//
// What tells how something is now goes past the buffer (Retained): its next message serves as
// well as one that was missed.
//
// For all else the buffer is the only store: each
// connection gets a new client with an empty memory, and what was not acknowledged
// is sent again from the buffer. A consumer may therefore see a message twice, never
// not at all.
//
// Sources: MQTT 3.1.1; the behaviour of eclipse/paho.mqtt.golang v1.5.1.
package publish
