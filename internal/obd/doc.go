// Package obd owns the conversation with an ELM327 adapter and, through it, with
// the car: opening the port, waking the adapter, finding the bus and the supported
// parameters (PIDs), polling them and decoding their answers.
//
// It promises that a value comes from bytes of the wanted ECU that form one
// complete, verified answer to a request of ours, stamped when its last byte
// arrived; that one request is outstanding at a time and the ceiling of requests
// per second is kept; and that after any trouble (a silent adapter, a restarted
// chip, an ignition switched off, a port pulled out) it tries again for ever,
// without a value made up meanwhile.
//
// Sources: ELM327 data sheet v2.2, SAE J1979, ISO 15765-2, ISO 15765-4. Decoding
// rests on the catalogue of rzetterberg/elmobd where that is right; its Device is
// not used. What becomes of readings is the business of others.
package obd
