package drive

import "time"

// Fuel is what the engine burns.
type Fuel string

// The fuels whose consumption follows from the air.
const (
	Petrol Fuel = "petrol"
	Diesel Fuel = "diesel"
)

// properties of a fuel: g/l at 15 degrees Celsius (middle of EN 228 and EN 590), and the air
// that burns it wholly, in g/g.
func (f Fuel) properties() (density, air float64) {
	if f == Diesel {
		return 832, 14.5
	}
	return 745, 14.7
}

const (
	// lambdaLimit is how old the mixture's last value may be.
	lambdaLimit = 5 * time.Second
	// cut is a mixture, in lambda, without fuel; PID 44 ends at 2.
	cut = 1.95
)

// burnt is the fuel in g/s that goes with so much air. A petrol engine without a word of its
// mixture runs at lambda 1. A diesel's is anything from 1.2 to 10: without that word, or
// past what can be told, nothing is known.
func (f Fuel) burnt(s *situation, air float64) (gs float64, ok bool) {
	_, ratio := f.properties()
	lambda, _, told := s.number("commanded_lambda", lambdaLimit)
	switch {
	case f == Diesel && (!told || lambda >= cut), told && lambda <= 0:
		return 0, false
	case !told:
		lambda = 1
	case lambda >= cut: // overrun: air alone
		return 0, true
	}
	return air / ratio / lambda, true
}
