package gps

import (
	"errors"
	"strings"
	"testing"
)

// Every way in which real receivers depart from what go-nmea takes, and every way
// in which go-nmea takes what is none. Each sentence stands beside an RMC that
// gives the date and, if want has it, the position.
func TestSentences(t *testing.T) {
	const rmc = "GPRMC,120000,A," + where + ",10.0,90.0,231126,,,A"
	const pos = `{"t":"2026-11-23T12:00:00.000Z","latitude":48.137155,"longitude":11.5761233,`
	for _, c := range []struct {
		name, in, want, drop string
	}{
		{"empty fields are absent", "GPRMC,120000,A," + where + ",,,231126,,", pos + `"fix":"2d"}`, ""},
		{"zeros are measured", "GPRMC,120000,A," + where + ",0.0,0.0,231126,,", pos + `"gps_speed_kmh":0,"heading_deg":0,"fix":"2d"}`, ""},
		{"RMC direction not E/W (Motorola T805)", "GPRMC,120000,A," + where + ",10.0,90.0,231126,1.2,Q", pos + `"gps_speed_kmh":18.52,"heading_deg":90,"fix":"2d"}`, ""},
		{"RMC without magnetic fields", "GPRMC,120000,A," + where + ",10.0,90.0,231126", pos + `"gps_speed_kmh":18.52,"heading_deg":90,"fix":"2d"}`, ""},
		{"RMC unknown navigation status", rmc + ",X", pos + `"gps_speed_kmh":18.52,"heading_deg":90,"fix":"2d"}`, ""},
		{"RMC unknown validity", "GPRMC,120000,N," + where + ",10.0,90.0,231126,,", "", ""},
		{"RMC V gives nothing", "GPRMC,120000,V," + where + ",10.0,90.0,231126,,", "", ""},
		{"RMC V is not even read", "GPRMC,120000,V,junk,N,NaN,E,1e3,Inf,321399,,", "", ""},
		{"RMC A without a position", "GPRMC,120000,A,,,,,,,231126,,", "", ""},
		{"speed NaN", "GPRMC,120000,A," + where + ",NaN,90.0,231126,,", "", "bad_number"},
		{"speed Inf", "GPRMC,120000,A," + where + ",Inf,90.0,231126,,", "", "bad_number"},
		{"speed 1e3", "GPRMC,120000,A," + where + ",1e3,90.0,231126,,", "", "bad_number"},
		{"speed 0x1p3", "GPRMC,120000,A," + where + ",0x1p3,90.0,231126,,", "", "bad_number"},
		{"speed -5", "GPRMC,120000,A," + where + ",-5,90.0,231126,,", "", "bad_number"},
		{"speed 1.2.3", "GPRMC,120000,A," + where + ",1.2.3,90.0,231126,,", "", "bad_number"},
		{"course 400", "GPRMC,120000,A," + where + ",10.0,400,231126,,", "", "out_of_range"},
		{"hour 99", "GPRMC,990000,A," + where + ",10.0,90.0,231126,,", "", "out_of_range"},
		{"minute 61", "GPRMC,126100,A," + where + ",10.0,90.0,231126,,", "", "out_of_range"},
		{"second 61", "GPRMC,120061,A," + where + ",10.0,90.0,231126,,", "", "out_of_range"},
		{"time of 5 digits", "GPRMC,12000,A," + where + ",10.0,90.0,231126,,", "", "bad_number"},
		{"date 321399", "GPRMC,120000,A," + where + ",10.0,90.0,321399,,", "", "bad_date no_date"},
		{"date 300226", "GPRMC,120000,A," + where + ",10.0,90.0,300226,,", "", "bad_date no_date"},
		{"date -1-1-1", "GPRMC,120000,A," + where + ",10.0,90.0,-1-1-1,,", "", "bad_date no_date"},
		{"date of zeros", "GPRMC,120000,A," + where + ",10.0,90.0,000000,,", "", "no_date"},
		{"minutes of 60", "GPRMC,120000,A,4860.0000,N,01134.5674,E,10.0,90.0,231126,,", "", "out_of_range"},
		{"latitude 90.1", "GPRMC,120000,A,9006.0000,N,01134.5674,E,10.0,90.0,231126,,", "", "out_of_range"},
		{"longitude 180.1", "GPRMC,120000,A,4808.2293,N,18006.0000,E,10.0,90.0,231126,,", "", "out_of_range"},
		{"latitude E", "GPRMC,120000,A,4808.2293,E,01134.5674,E,10.0,90.0,231126,,", "", "out_of_range"},
		{"longitude N", "GPRMC,120000,A,4808.2293,N,01134.5674,N,10.0,90.0,231126,,", "", "out_of_range"},
		{"latitude without a hemisphere", "GPRMC,120000,A,4808.2293,,01134.5674,E,10.0,90.0,231126,,", "", "out_of_range"},
		{"negative latitude", "GPRMC,120000,A,-4404.1,N,01134.5674,E,10.0,90.0,231126,,", "", "bad_number"},
		{"latitude alone", "GPRMC,120000,A,4808.2293,N,,,10.0,90.0,231126,,", "", "bad_number"},
		{"shortened latitude", "GPRMC,120000,A,808.2293,N,01134.5674,E,10.0,90.0,231126,,", "", "bad_number"},
		{"RMC spliced short", "GPRMC,120000,A," + where + ",10.0", "", "field_count"},
		{"RMC spliced long", rmc + ",V,1,2,3", "", "field_count"},
		{"RMC with a tag block inside", rmc + `\`, "", "unreadable"},
		{"south and west", "GPRMC,120000,A,3356.0000,S,15112.0000,W,,,231126,,", `{"t":"2026-11-23T12:00:00.000Z","latitude":-33.9333333,"longitude":-151.2,"fix":"2d"}`, ""},
		{"makers' own sentences are not ours", "PQGSA,A,3,,,,,,,,,,,,,1,2,3", "", ""},
		{"the TXT that go-nmea panics on", "GPTXT,DEFAULT PVT CONFIGURATION", "", ""},
		{"the ALC that go-nmea panics on", "GPALC", "", ""},
		{"queries are not ours", "GPGPQ,RMC", "", ""},
		{"lower case is not ours", "gprmc,120000,A", "", ""},
		{"no fields at all", "GPRMC", "", "field_count"},
	} {
		fixes, drops := decoded(t, say(c.in))
		if got := strings.Join(fixes, " "); got != c.want {
			t.Errorf("%s: fixes %s, want %s", c.name, got, c.want)
		}
		if got := strings.Join(drops, " "); got != c.drop {
			t.Errorf("%s: dropped %q, want %q", c.name, got, c.drop)
		}
	}
}

// What other sentences add to an RMC without speed.
func TestAdditions(t *testing.T) {
	const pos = `{"t":"2026-11-23T12:00:00.000Z","latitude":48.137155,"longitude":11.5761233,`
	for _, c := range []struct {
		name, in, want, drop string
	}{
		{"GGA", "GNGGA,120000," + where + ",1,09,0.9,519.2,M,47.0,M,,", `"altitude_m":519.2,"satellites":9,"hdop":0.9,"fix":"3d"}`, ""},
		{"GGA of 9 fields", "GNGGA,120000," + where + ",1,09,0.9,519.2", `"altitude_m":519.2,"satellites":9,"hdop":0.9,"fix":"3d"}`, ""},
		{"GGA quality 8 (Garmin)", "GNGGA,120000," + where + ",8,09,0.9,519.2,M,47.0,M,,", `"altitude_m":519.2,"satellites":9,"hdop":0.9,"fix":"3d"}`, ""},
		{"GGA quality 7, manual", "GNGGA,120000," + where + ",7,09,0.9,519.2,M,47.0,M,,", `"altitude_m":519.2,"satellites":9,"hdop":0.9,"fix":"3d"}`, ""},
		{"GGA without a quality", "GNGGA,120000," + where + ",,09,0.9,519.2,M,47.0,M,,", `"fix":"2d"}`, ""},
		{"GSV with a system in hexadecimal (BeiDou)", "GBGSV,1,1,01,11,50,120,41,B", `"fix":"2d"}`, ""},
		{"GGA quality 0", "GNGGA,120000," + where + ",0,00,99.9,519.2,M,47.0,M,,", `"fix":"2d"}`, ""},
		{"GGA below the sea", "GNGGA,120000," + where + ",1,09,0.9,-12.5,M,47.0,M,,", `"altitude_m":-12.5,"satellites":9,"hdop":0.9,"fix":"3d"}`, ""},
		{"GGA altitude in feet", "GNGGA,120000," + where + ",1,09,0.9,519.2,f,47.0,M,,", `"satellites":9,"hdop":0.9,"fix":"2d"}`, ""},
		{"GGA of 3 satellites", "GNGGA,120000," + where + ",1,03,0.9,519.2,M,47.0,M,,", `"altitude_m":519.2,"satellites":3,"hdop":0.9,"fix":"2d"}`, ""},
		{"GGA without satellites", "GNGGA,120000," + where + ",1,,0.9,519.2,M,47.0,M,,", `"altitude_m":519.2,"hdop":0.9,"fix":"3d"}`, ""},
		{"hdop 0.00 is unknown", "GNGGA,120000," + where + ",1,09,0.00,519.2,M,,,,", `"altitude_m":519.2,"satellites":9,"fix":"3d"}`, ""},
		{"hdop 99.0 is unknown", "GNGGA,120000," + where + ",1,09,99.0,519.2,M,,,,", `"altitude_m":519.2,"satellites":9,"fix":"3d"}`, ""},
		{"hdop 99.99 is unknown", "GNGGA,120000," + where + ",1,09,99.99,519.2,M,,,,", `"altitude_m":519.2,"satellites":9,"fix":"3d"}`, ""},
		{"satellites 9.5", "GNGGA,120000," + where + ",1,9.5,0.9,519.2,M,,,,", `"fix":"2d"}`, "bad_number"},
		{"satellites 999", "GNGGA,120000," + where + ",1,999,0.9,519.2,M,,,,", `"fix":"2d"}`, "out_of_range"},
		{"altitude NaN", "GNGGA,120000," + where + ",1,09,0.9,NaN,M,,,,", `"fix":"2d"}`, "bad_number"},
		{"GNS", "GNGNS,120000," + where + ",AANN,15,0.8,519.2,47.0,,", `"altitude_m":519.2,"satellites":15,"hdop":0.8,"fix":"3d"}`, ""},
		{"GNS unknown mode letter", "GNGNS,120000," + where + ",AXNN,15,0.8,519.2,47.0,,,V", `"altitude_m":519.2,"satellites":15,"hdop":0.8,"fix":"3d"}`, ""},
		{"GNS NN", "GNGNS,120000," + where + ",NN,15,0.8,519.2,47.0,,", `"fix":"2d"}`, ""},
		{"GLL status N", "GPGLL,0000.0000,N,00000.0000,E,120000,N", `"fix":"2d"}`, ""},
		{"GLL A but mode N", "GPGLL,0000.0000,N,00000.0000,E,120000,A,N", `"fix":"2d"}`, ""},
		{"GLL V", "GPGLL,0000.0000,N,00000.0000,E,120000,V", `"fix":"2d"}`, ""},
		{"VTG", "GPVTG,271.3,T,,M,10.0,N,18.5,K,A", `"gps_speed_kmh":18.52,"heading_deg":271.3,"fix":"2d"}`, ""},
		{"VTG in km/h only", "GPVTG,271.3,T,,M,,N,18.5,K", `"gps_speed_kmh":18.5,"heading_deg":271.3,"fix":"2d"}`, ""},
		{"VTG without a course", "GPVTG,,T,,M,0.0,N,0.0,K,A", `"gps_speed_kmh":0,"fix":"2d"}`, ""},
		{"VTG mode N", "GPVTG,271.3,T,,M,10.0,N,18.5,K,N", `"fix":"2d"}`, ""},
		{"VTG before NMEA 2.0", "GPVTG,271.3,270.1,010.0,018.5,1,2,3", `"fix":"2d"}`, "field_count"},
		{"GSA 3D", "GPGSA,A,3,01,02,03,04,,,,,,,,,1.6,0.9,1.3", `"hdop":0.9,"fix":"3d"}`, ""},
		{"GSA with a float for system ID (SiRF)", "GPGSA,A,3,01,02,03,04,,,,,,,,,1.6,0.9,1.3,0.5", `"hdop":0.9,"fix":"3d"}`, ""},
		{"GSA short (i.Trek)", "GPGSA,A,1,,,,", `"fix":"2d"}`, ""},
		{"GSA of 24 satellites (Navior)", "GPGSA,A,3,01,02,03,04,05,06,07,08,09,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,1.6,0.7,1.3", `"hdop":0.7,"fix":"3d"}`, ""},
		{"GSA 1 says nothing", "GPGSA,A,1,,,,,,,,,,,,,,,", `"fix":"2d"}`, ""},
		{"ZDA", "GPZDA,120000,23,11,2026,-01,00", `"fix":"2d"}`, ""},
		{"ZDA zone that is none", "GPZDA,120000,23,11,2026,x,y", `"fix":"2d"}`, ""},
		{"ZDA without a date", "GPZDA,120000,,,,,", `"fix":"2d"}`, ""},
		{"ZDA of zeros", "GPZDA,120000,00,00,0000,00,00", `"fix":"2d"}`, ""},
		{"ZDA month 13", "GPZDA,120000,23,13,2026,00,00", `"fix":"2d"}`, "out_of_range"},
	} {
		fixes, drops := decoded(t, saying("GPRMC,120000,A,"+where+",,,231126,,", c.in))
		if got := strings.Join(fixes, " "); got != pos+c.want {
			t.Errorf("%s: fixes %s, want %s%s", c.name, got, pos, c.want)
		}
		if got := strings.Join(drops, " "); got != c.drop {
			t.Errorf("%s: dropped %q, want %q", c.name, got, c.drop)
		}
	}
}

// The sentences that make go-nmea panic are refused even if a type of ours did.
func TestPanicIsRefused(t *testing.T) {
	forms["TXT"] = &form{max: 99, time: -1, position: -1, status: -1, full: 1}
	defer delete(forms, "TXT")
	_, _, err := newParser().parse("$GPTXT,DEFAULT PVT CONFIGURATION*2A")
	if r, ok := errors.AsType[refusal](err); !ok || r.why != Unreadable {
		t.Errorf("error %v, want a refusal", err)
	}
}

// The talker says which system a sentence is of, or who passed it on; what it says
// counts alike.
func TestTalkers(t *testing.T) {
	for _, talker := range []string{"GP", "GN", "GL", "GA", "GB", "BD", "GI", "GQ", "QZ", "IN", "II"} {
		fixes, drops := decoded(t, saying(talker+"RMC,120000,A,"+where+",,,231126,,"))
		if len(fixes) != 1 || drops != nil {
			t.Errorf("%s: fixes %q, dropped %q", talker, fixes, drops)
		}
	}
}
