package sim

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// fix is what the receiver tells of one epoch. Numbers are rounded to what its
// sentences can carry, so that sentences and truth cannot differ.
type fix struct {
	time  time.Time // UTC
	date  string    // as told
	valid bool

	latitude, longitude angle
	altitude            float64 // m, one decimal
	knots               float64 // three decimals
	kmh                 float64 // two decimals, of knots
	course              float64 // degrees, two decimals
	satellites          int
	hdop                float64
}

// angle is a coordinate as NMEA 0183 writes it: degrees, and minutes with five
// decimals.
type angle struct {
	negative bool
	degrees  int
	minutes  int // in 1/100000
}

const (
	fixTimeLayout = "2006-01-02T15:04:05.000Z"
	minuteParts   = 100000
	kmhPerKnot    = 1.852
	geoid         = 46.6 // m that the geoid lies above the ellipsoid in Munich
)

func newAngle(x float64) angle {
	total := int(math.Round(math.Abs(x) * 60 * minuteParts))
	return angle{x < 0, total / (60 * minuteParts), total % (60 * minuteParts)}
}

func (a angle) value() float64 {
	v := float64(a.degrees) + float64(a.minutes)/minuteParts/60
	if a.negative {
		v = -v
	}
	return round(v, 7)
}

// field is the coordinate and its hemisphere; width is the digits of the degrees.
func (a angle) field(width int, positive, negative string) string {
	side := positive
	if a.negative {
		side = negative
	}
	return fmt.Sprintf("%0*d%02d.%05d,%s", width, a.degrees, a.minutes/minuteParts, a.minutes%minuteParts, side)
}

// measure is the fix of an epoch.
func (r *receiver) measure(epoch time.Time) fix {
	f := fix{time: epoch.UTC(), valid: !epoch.Before(r.fixFrom)}
	f.date = f.time.AddDate(0, 0, -r.late).Format("020106")
	if !f.valid {
		return f
	}
	t := r.clock.at(epoch)
	s := r.drive.at(t)
	lat, lon, altitude, heading := s.position()
	f.latitude, f.longitude = newAngle(lat), newAngle(lon)
	f.altitude = round(altitude, 1)
	f.knots = round(s.speed*3.6/kmhPerKnot, 3)
	f.kmh = round(f.knots*kmhPerKnot, 2)
	f.course = math.Mod(round(heading, 2), 360)
	sky := math.Sin(t.Minutes() / 7) // satellites come and go within the hour
	f.satellites = 10 + int(math.Round(2*sky))
	f.hdop = round(0.9-0.15*sky, 2)
	return f
}

// values is what a correct reader makes of the sentences.
func (f fix) values() map[string]any {
	if !f.valid {
		return nil
	}
	return map[string]any{
		"latitude": f.latitude.value(), "longitude": f.longitude.value(), "altitude_m": f.altitude,
		"gps_speed_kmh": f.kmh, "heading_deg": f.course, "satellites": float64(f.satellites),
		"hdop": f.hdop, "fix": "3d",
	}
}

// sentence adds the dollar, the checksum and the line end of NMEA 0183.
func sentence(format string, args ...any) string {
	body := fmt.Sprintf(format, args...)
	var check byte
	for i := range len(body) {
		check ^= body[i]
	}
	return fmt.Sprintf("$%s*%02X\r\n", body, check)
}

func (f fix) clock() string { return f.time.Format("150405.000") }

func (f fix) place() string {
	if !f.valid {
		return ",,,"
	}
	return f.latitude.field(2, "N", "S") + "," + f.longitude.field(3, "E", "W")
}

// rmc is position, speed and date: "Recommended Minimum".
func (f fix) rmc() string {
	if !f.valid {
		return sentence("GNRMC,%s,V,,,,,,,%s,,,N", f.clock(), f.date)
	}
	return sentence("GNRMC,%s,A,%s,%.3f,%.2f,%s,,,A", f.clock(), f.place(), f.knots, f.course, f.date)
}

// vtg is course and speed over ground.
func (f fix) vtg() string {
	if !f.valid {
		return sentence("GNVTG,,T,,M,,N,,K,N")
	}
	return sentence("GNVTG,%.2f,T,,M,%.3f,N,%.2f,K,A", f.course, f.knots, f.kmh)
}

// gga is position, altitude and quality.
func (f fix) gga() string {
	if !f.valid {
		return sentence("GNGGA,%s,,,,,0,00,99.99,,,,,,", f.clock())
	}
	return sentence("GNGGA,%s,%s,1,%02d,%.2f,%.1f,M,%.1f,M,,", f.clock(), f.place(), f.satellites, f.hdop, f.altitude, geoid)
}

// Satellites of each system: GPS, and GLONASS with its numbers from 65.
var (
	gpsSatellites     = []int{2, 5, 7, 9, 13, 16, 20, 29}
	glonassSatellites = []int{66, 67, 75, 76, 82, 83}
)

// used splits the satellites used between the systems.
func (f fix) used() (gps, glonass []int) {
	n := min(f.satellites, len(gpsSatellites))
	return gpsSatellites[:n], glonassSatellites[:f.satellites-n]
}

// gsa is the mode of the fix, once for each system.
func (f fix) gsa() string {
	mode, pdop, hdop, vdop := 1, 99.99, 99.99, 99.99
	if f.valid {
		mode, hdop = 3, f.hdop
		pdop, vdop = math.Hypot(f.hdop, 1.4*f.hdop), 1.4*f.hdop
	}
	one := func(satellites []int) string {
		var ids strings.Builder
		for i := range 12 {
			if ids.WriteByte(','); i < len(satellites) {
				fmt.Fprintf(&ids, "%02d", satellites[i])
			}
		}
		return sentence("GNGSA,A,%d%s,%.2f,%.2f,%.2f", mode, ids.String(), pdop, hdop, vdop)
	}
	gps, glonass := f.used()
	return one(gps) + one(glonass)
}

// gsv is the satellites in view, four in a sentence.
func (f fix) gsv() string {
	if !f.valid {
		return sentence("GPGSV,1,1,00") + sentence("GLGSV,1,1,00")
	}
	return satellitesInView("GP", gpsSatellites) + satellitesInView("GL", glonassSatellites)
}

func satellitesInView(talker string, ids []int) string {
	var all strings.Builder
	sentences := (len(ids) + 3) / 4
	for i := range sentences {
		var s strings.Builder
		fmt.Fprintf(&s, "%sGSV,%d,%d,%02d", talker, sentences, i+1, len(ids))
		for _, id := range ids[4*i : min(4*i+4, len(ids))] {
			fmt.Fprintf(&s, ",%02d,%02d,%03d,%02d", id, 15+id*7%60, id*47%360, 28+id%15)
		}
		all.WriteString(sentence("%s", s.String()))
	}
	return all.String()
}
