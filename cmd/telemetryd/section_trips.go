package main

import (
	"cmp"
	"fmt"
	"time"

	"telemetryd/internal/drive"
)

// tripsText is the section `trips` as it is written.
type tripsText struct {
	EndAfter *duration `yaml:"end_after"`
	Fuel     string    `yaml:"fuel"`
	TankL    *float64  `yaml:"tank_l"`
}

// judge checks it. What is wrong is told with its key.
func (x tripsText) judge(wrong func(error)) (c drive.Trips) {
	if x.EndAfter != nil {
		if c.EndAfter = time.Duration(*x.EndAfter); c.EndAfter < time.Second || c.EndAfter > 24*time.Hour {
			wrong(fmt.Errorf("end_after: %v is not allowed; allowed: 1s to 24h, as 3m", c.EndAfter))
		}
	}
	switch c.Fuel = cmp.Or(drive.Fuel(x.Fuel), drive.Petrol); c.Fuel {
	case drive.Petrol, drive.Diesel:
	default:
		wrong(fmt.Errorf("fuel: %q is not allowed; allowed: petrol, diesel", x.Fuel))
	}
	if x.TankL != nil {
		if c.TankL = *x.TankL; !(c.TankL >= 1 && c.TankL <= 2000) {
			wrong(fmt.Errorf("tank_l: %v is not allowed; allowed: 1 to 2000 litres, as 50", c.TankL))
		}
	}
	return c
}
