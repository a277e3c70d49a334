// Package budget owns the data budget of a metered link: how many bytes this month of the
// plan has taken, over restarts and power cuts; what the month will come to; and what is
// held back for it.
//
// It promises that only backlog and the rate of live values are ever held back, in that
// order (Step), never events and never the status, and that nothing that was accepted is
// dropped: what waits stays in the buffer. What is over the budget is bounded by what live
// data takes at its lowest rate.
//
// Counting the bytes is the publisher's part, holding back the publisher's and the
// recorder's: they ask.
package budget
