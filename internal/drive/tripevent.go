package drive

import (
	"math"
	"time"

	"telemetryd/internal/telemetry"
)

// TripStart is the data of `trip_start`.
type TripStart struct {
	By string `json:"by"` // engine, wheels, gps: by what the vehicle was seen to set off
}

// TripEnd is the data of `trip_end`. What was not measured is absent.
type TripEnd struct {
	DurationS   telemetry.Value `json:"duration_s"`
	MovingS     telemetry.Value `json:"moving_s,omitzero"`
	IdleS       telemetry.Value `json:"idle_s,omitzero"` // the engine turned, the vehicle stood
	UnmeasuredS telemetry.Value `json:"unmeasured_s"`    // nobody told a speed
	Stops       telemetry.Value `json:"stops,omitzero"`  // of 10 s and longer, on the way

	DistanceKM     telemetry.Value `json:"distance_km,omitzero"`
	DistanceSource string          `json:"distance_source,omitempty"` // odometer, wheels, gps
	MaxSpeedKMH    telemetry.Value `json:"max_speed_kmh,omitzero"`
	MaxSpeedSource string          `json:"max_speed_source,omitempty"` // wheels, gps

	FuelL           telemetry.Value `json:"fuel_l,omitzero"`
	FuelSource      string          `json:"fuel_source,omitempty"` // fuel_rate, maf, fuel_level
	FuelResolutionL telemetry.Value `json:"fuel_resolution_l,omitzero"`

	StartPosition *telemetry.Position `json:"start_position,omitempty"`
	EndPosition   *telemetry.Position `json:"end_position,omitempty"`
	// CutOff tells that nobody saw the end: power, or all that tells of the vehicle, was gone
	// before. The figures are as far as it was seen.
	CutOff bool `json:"cut_off,omitempty"`
}

const (
	// odometerStepKM is how exact the odometer is over a trip: a step, 0.1 km.
	odometerStepKM = 0.1
	// odometerExact is how much of a trip that step may be, for the odometer to be better than
	// wheels that were read all the way.
	odometerExact = 0.005
	// odometerNear is how near to both ends it must have been read. What is left is added by
	// wheels or receiver.
	odometerNear = time.Minute
	// odometerDoubt is how far the odometer may be from what wheels and receiver have
	// measured, as a part of it, and beside it in km.
	odometerDoubt, odometerDoubtKM = 0.2, 0.5
	// comparedFor is how long wheels and receiver must have told the speed, to be compared.
	comparedFor = time.Minute
	// fuelRead is how much of the time that the engine turned its fuel must have been read.
	fuelRead = 0.9
	// levelSteps is how many steps of the gauge, of 255, must be between both ends.
	levelSteps = 2
)

// figures are those of a trip up to its last sign.
func (t *trips) figures(trip *trip) TripEnd {
	k := &trip.known
	e := TripEnd{
		DurationS: inSeconds(k.Elapsed), UnmeasuredS: inSeconds(min(k.Unmeasured, k.Elapsed)),
		StartPosition: trip.begin, EndPosition: trip.end,
	}
	if k.SpeedKnown > 0 {
		e.MovingS, e.Stops = inSeconds(k.Moving), telemetry.Number(float64(k.Stops), 0)
		e.MaxSpeedKMH, e.MaxSpeedSource = telemetry.Number(k.FastestKMH, 0), "wheels"
		if !k.Wheels || k.FastestFix > k.FastestKMH {
			e.MaxSpeedKMH, e.MaxSpeedSource = telemetry.Number(k.FastestFix, 1), "gps"
		}
		if k.EngineKnown > 0 {
			e.IdleS = inSeconds(k.Idle)
		}
	}
	if m, source := k.distance(); source != "" {
		e.DistanceKM, e.DistanceSource = telemetry.Number(m/1000, 3), source
	}
	t.fuel(&e, k)
	return e
}

func inSeconds(d time.Duration) telemetry.Value { return telemetry.Number(d.Seconds(), 1) }

// distance is the way in m by the best that measured it; an empty source for nothing.
func (t *tally) distance() (m float64, source string) {
	wheels := t.WheelsM + t.decimals()/3.6*t.WheelsMoving.Seconds()
	m = wheels + t.ReceiverM
	if odometer, ok := t.byOdometerAlone(m); ok {
		return odometer, "odometer"
	}
	switch {
	case t.SpeedKnown == 0:
		return 0, ""
	case !t.Wheels || t.ReceiverM > wheels:
		return m, "gps"
	}
	return m, "wheels"
}

// decimals is what the wheels' speed lacks on the average of the trip, in km/h, by the
// receiver's. PID 0D has no decimals, and SAE J1979 does not say whether they are rounded or
// cut off: who drives at 48.7 is told as 49 or 48, a whole way long. More than that is not
// the decimals', and left as the car tells it.
func (t *tally) decimals() float64 {
	if t.BothMoving < comparedFor || t.BothMoving < t.WheelsMoving/2 {
		return 0
	}
	lacks := 3.6 * (t.BothFixM - t.BothWheelsM) / t.BothMoving.Seconds()
	return min(max(lacks, -0.5), 1)
}

// byOdometerAlone is the way by the odometer, where that is better than m, what wheels and
// receiver say: on a long trip, and on one of which they missed a part.
func (t *tally) byOdometerAlone(m float64) (way float64, ok bool) {
	o := t.Odometer
	if o == nil || o.FirstAt > odometerNear || t.Elapsed-o.LastAt > odometerNear {
		return 0, false
	}
	km := o.Last - o.First
	exact := odometerExact
	if t.Elapsed > 0 {
		exact = max(exact, t.Lost.Seconds()/t.Elapsed.Seconds())
	}
	if km <= 0 || odometerStepKM/km > exact {
		return 0, false
	}
	way = 1000*km + o.FirstM + max(0, t.metres()-o.LastM)
	missed := impossibleMS * t.Unmeasured.Seconds()
	if doubt := odometerDoubt*m + 1000*odometerDoubtKM; way < m-doubt || way > m+doubt+missed {
		return 0, false // of another car, or wheels of another size
	}
	return way, true
}

// fuel is what was burnt, by the best that measured it.
func (t *trips) fuel(e *TripEnd, k *tally) {
	density, _ := t.Fuel.properties()
	enough := time.Duration(fuelRead * float64(k.EngineOn))
	steps := 0.0
	if k.Level != nil {
		steps = math.Round((k.Level.First - k.Level.Last) * 255 / 100)
	}
	switch {
	case k.EngineOn == 0:
	case k.Rated > 0 && k.Rated >= enough:
		e.FuelL, e.FuelSource = telemetry.Number(k.RateL, 3), "fuel_rate"
	case k.Aired > 0 && k.Aired >= enough:
		e.FuelL, e.FuelSource = telemetry.Number(k.AirG/density, 3), "maf"
	case t.TankL > 0 && steps >= levelSteps:
		e.FuelL, e.FuelSource = telemetry.Number(steps*t.TankL/255, 1), "fuel_level"
		e.FuelResolutionL = telemetry.Number(t.TankL/255, 2)
	}
}
