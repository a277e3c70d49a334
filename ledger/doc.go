// Package ledger is for whoever reads a vehicle's messages: it takes payloads apart,
// whatever form they came in, and proves that nothing is missing.
//
// It promises that what [Parse] returns is what the vehicle sent, or an error; and that
// what a [Ledger] calls missing was recorded by the vehicle, has not arrived, and was not
// named as lost by it. It relies on what telemetryd promises: in each stream `seq` counts
// from 1 without a hole over batches and events, a `stream_start` names the stream before
// it, a `data_gap` what is lost, and a status how far the stream has come.
package ledger
