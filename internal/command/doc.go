// Package command owns what the vehicle does when it is told: which messages are commands,
// which of them may run, in which order, what became of them, and the record of it.
//
// It promises that nothing runs but what the owner listed; that no shell sees anything of a
// message, and a program nothing but arguments that the owner declared, each checked by its
// pattern; that with a public key only what its owner signed, for this vehicle and for now,
// runs, and once; that one command runs at a time, in the order of arrival; that each is
// answered; and that a flood of messages costs bounded memory, answers and disk.
//
// It knows neither brokers nor the car: messages are handed in, answers handed out, and what
// a built-in command does is a function of somebody else.
//
// Sources: RFC 7519 (JWT), RFC 8037 (EdDSA).
package command
