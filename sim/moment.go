package sim

import "time"

// Drive is a drive by itself, without the devices that report on it. It is safe for
// concurrent use.
type Drive struct{ drive *drive }

// Moment is the vehicle at one time of its drive, as it truly is.
type Moment struct {
	Ignition, Engine    bool    // the key is turned; the engine runs
	SpeedKMH            float64 // of the wheels
	AccelerationMS2     float64
	EngineRPM           float64
	Latitude, Longitude float64 // degrees
	HeadingDeg          float64
	DrivenM             float64 // since the drive began
	OdometerKM          float64
	FuelRateLH          float64
	MAFGS               float64
	CoolantC            float64
	BatteryV            float64
}

// NewDrive returns the drive that a vehicle with this seed makes.
func NewDrive(seed uint64) *Drive { return &Drive{newDrive(seed)} }

// At is the vehicle so long after the drive began.
func (d *Drive) At(t time.Duration) Moment {
	s := d.drive.at(t)
	lat, lon, _, heading := s.position()
	return Moment{
		Ignition: s.ignition, Engine: s.engine, SpeedKMH: s.speed * 3.6, AccelerationMS2: s.accel, EngineRPM: s.rpm,
		Latitude: lat, Longitude: lon, HeadingDeg: heading, DrivenM: s.path, OdometerKM: s.odometer,
		FuelRateLH: s.fuelRate, MAFGS: s.maf, CoolantC: s.coolant, BatteryV: s.volts,
	}
}
