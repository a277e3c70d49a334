// Package drive owns what the readings mean: whether the vehicle is parked, when a trip
// begins and ends, what the driver and the vehicle did on it, which places it came to, and
// what of its positions may be told.
//
// It promises that each finding follows from readings and time alone, both handed in, so
// that the same readings give the same findings; that nothing is judged from values too old
// or too few to tell; and that what is not to be told is taken away before anybody keeps it.
//
// It knows neither ports nor brokers. Whoever has to act on a finding is told by an Event,
// or asks Mode.
package drive
