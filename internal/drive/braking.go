package drive

// brakesMost is more than the tyres of a road vehicle hold on any road, in m/s^2. A fall
// that is faster is not braking: see crash.
const brakesMost = 12

// braking finds harsh_braking.
func braking(limit float64) *harsh {
	return &harsh{manoeuvre: manoeuvre{limit: limit}, kind: "harsh_braking", sign: -1, most: max(brakesMost, limit)}
}
