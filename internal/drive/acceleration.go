package drive

// drivesMost is more than any road vehicle does over a second, in m/s^2: a rise that is
// faster is the way back from a value that was wrong.
const drivesMost = 10

// acceleration finds harsh_acceleration.
func acceleration(limit float64) *harsh {
	return &harsh{manoeuvre: manoeuvre{limit: limit}, kind: "harsh_acceleration", sign: 1, most: max(drivesMost, limit)}
}
