package gps

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"telemetryd/internal/telemetry"
)

// The rules that make epochs of sentences.
func TestEpochs(t *testing.T) {
	const (
		rmc0 = "GPRMC,120000,A," + where + ",10.0,90.0,231126,,"
		rmc1 = "GPRMC,120001,A," + where + ",11.0,91.0,231126,,"
		gga0 = "GPGGA,120000," + where + ",1,09,0.9,519.2,M,47.0,M,,"
		gga1 = "GPGGA,120001," + where + ",1,08,1.1,519.4,M,47.0,M,,"
		vtg  = "GPVTG,45.0,T,,M,5.0,N,9.3,K,A"
		gsa2 = "GPGSA,A,2,01,02,03,,,,,,,,,,2.6,1.9,1.3"
		gsa3 = "GLGSA,A,3,65,66,67,68,,,,,,,,,2.6,1.8,1.3"
		zda  = "GPZDA,120000,23,11,2026,00,00"
	)
	const (
		t0, t1 = `{"t":"2026-11-23T12:00:00.000Z",`, `{"t":"2026-11-23T12:00:01.000Z",`
		pos    = `"latitude":48.137155,"longitude":11.5761233,`
		gga    = `"altitude_m":519.2,"satellites":9,"hdop":0.9,"fix":"3d"}`
		rmc    = `"gps_speed_kmh":18.52,"heading_deg":90,"fix":"2d"}`
		full0  = `"altitude_m":519.2,"gps_speed_kmh":18.52,"heading_deg":90,"satellites":9,"hdop":0.9,"fix":"3d"}`
		full1  = `"altitude_m":519.4,"gps_speed_kmh":20.37,"heading_deg":91,"satellites":8,"hdop":1.1,"fix":"3d"}`
	)
	for _, c := range []struct {
		name, in, want, drop string
	}{
		{"RMC leads", saying(rmc0, gga0, rmc1, gga1), t0 + pos + full0 + t1 + pos + full1, ""},
		{"GGA leads", saying(gga0, rmc0, gga1, rmc1), t0 + pos + full0 + t1 + pos + full1, ""},
		{"ZDA leads", saying(zda, gga0, rmc0), t0 + pos + full0, ""},
		{"no RMC at all (mr-350p)", saying(gga0, gsa2, zda), t0 + pos + `"altitude_m":519.2,"satellites":9,"hdop":0.9,"fix":"2d"}`, ""},
		{"VTG after RMC", saying(rmc0, vtg), t0 + pos + `"gps_speed_kmh":9.26,"heading_deg":45,"fix":"2d"}`, ""},
		{"RMC after VTG", saying(gga0, vtg, rmc0), t0 + pos + full0, ""},
		{"the later one with a value", saying(rmc0, "GPVTG,,T,,M,5.0,N,9.3,K,A"), t0 + pos + `"gps_speed_kmh":9.26,"heading_deg":90,"fix":"2d"}`, ""},
		{"VTG before the first time", saying(vtg, rmc0), t0 + pos + `"gps_speed_kmh":18.52,"heading_deg":90,"fix":"2d"}`, ""},
		{"no speed is derived", saying(gga0, zda), t0 + pos + gga, ""},
		{"nothing is carried on but the date", saying(rmc0, gga0, gsa3, "GPGLL,"+where+",120001,A"),
			t0 + pos + full0 + t1 + pos + `"fix":"2d"}`, ""},
		{"the best GSA", saying(rmc0, gsa2, gsa3, gsa2), t0 + pos + `"gps_speed_kmh":18.52,"heading_deg":90,"hdop":1.9,"fix":"3d"}`, ""},
		{"GSA against an altitude", saying(gga0, zda, gsa2), t0 + pos + `"altitude_m":519.2,"satellites":9,"hdop":0.9,"fix":"2d"}`, ""},
		{"the last valid position, GLL included", saying(rmc0, "GPGLL,4808.2294,N,01134.5675,E,120000,A", "GPGGA,120000,4808.0000,N,01134.0000,E,0,00,,,M,,M,,"),
			t0 + `"latitude":48.1371567,"longitude":11.576125,"gps_speed_kmh":18.52,"heading_deg":90,"fix":"2d"}`, ""},
		{"RMC V with GGA 0", saying("GPRMC,120000,V,"+where+",,,231126,,", "GPGGA,120000,"+where+",0,00,,,M,,M,,", rmc1), t1 + pos + `"gps_speed_kmh":20.37,"heading_deg":91,"fix":"2d"}`, ""},
		{"GNS counts all systems", saying(rmc0, gga0, "GNGNS,120000,"+where+",AA,15,0.7,519.2,47.0,,", gga0),
			t0 + pos + `"altitude_m":519.2,"gps_speed_kmh":18.52,"heading_deg":90,"satellites":15,"hdop":0.9,"fix":"3d"}`, ""},
		{"coasting (Hemisphere)", saying(zda, "GPGGA,120000,"+where+",1,00,3.3,10.8,M,,M,,", vtg), "", "coasting"},
		{"few satellites but RMC A", saying("GPGGA,120000,"+where+",1,02,3.3,10.8,M,,M,,", rmc0),
			t0 + pos + `"altitude_m":10.8,"gps_speed_kmh":18.52,"heading_deg":90,"satellites":2,"hdop":3.3,"fix":"2d"}`, ""},
		{"coasting but GLL A", saying(zda, "GPGGA,120000,"+where+",1,00,3.3,10.8,M,,M,,", "GPGLL,"+where+",120000,A"), t0 + pos + `"fix":"2d"}`, ""},
		{"few satellites but RMC A without a position", saying("GPRMC,120000,A,,,,,,,231126,,", "GPGGA,120000,"+where+",1,02,3.3,10.8,M,,M,,"),
			t0 + pos + `"altitude_m":10.8,"satellites":2,"hdop":3.3,"fix":"2d"}`, ""},
		{"RMC A without a date", saying("GPRMC,120000,A," + where + ",,,,,"), "", "no_date"},
		{"a position before the date", saying(gga0, rmc1, gga1), t1 + pos + full1, "no_date"},
		{"the date of RMC V is not believed", saying("GPRMC,120000,V,,,,,,,050180,,", gga0, gga1), "", "no_date no_date"},
		{"an RMC without a good date keeps the rest", saying(rmc0, "GPRMC,120001,A,"+where+",11.0,91.0,2311-1,,", gga1), t0 + pos + rmc + t1 + pos + full1, "bad_date"},
		{"the date of ZDA right before the first position", saying(zda, gga1), t1 + pos + `"altitude_m":519.4,"satellites":8,"hdop":1.1,"fix":"3d"}`, ""},
		{"the date of ZDA, a silent second before", saying(zda, "GPGGA,120001,,,,,0,,,,,,,,", "GPGLL,"+where+",120003,A"),
			`{"t":"2026-11-23T12:00:03.000Z",` + pos + `"fix":"2d"}`, ""},
		{"the date of ZDA is not believed when the time jumps to the first position", saying("GPZDA,115955,06,01,1980,00,00", gga0), "", "no_date"},
		{"nor when it jumps back", saying("GPZDA,120005,06,01,1980,00,00", gga0), "", "no_date"},
		{"nor when it jumped on the way", saying("GPZDA,115955,06,01,1980,00,00", "GPGGA,115959,,,,,0,,,,,,,,", gga0), "", "no_date"},
		{"a date known from a fix goes before a ZDA without one", saying(rmc0, "GPZDA,120001,06,01,1980,00,00", "GPGLL,"+where+",120002,A"),
			t0 + pos + rmc + `{"t":"2026-11-23T12:00:02.000Z",` + pos + `"fix":"2d"}`, ""},
		{"a position without a time", saying(rmc0, "GPGLL,"+where+",,A"), t0 + pos + `"gps_speed_kmh":18.52,"heading_deg":90,"fix":"2d"}`, "no_time"},
		{"a cold receiver's empty sentences", saying("GPRMC,,V,,,,,,,,,,N", "GPGGA,,,,,,0,00,99.99,,,,,,", "GPGLL,,,,,,V,N", "GPVTG,,,,,,,,,N"), "", ""},
		{"no end of the last line", saying(rmc0) + strings.TrimSpace(say(gga0)), t0 + pos + full0, ""},
		{"the last line is cut off", saying(rmc0) + "$GPGGA,1200", t0 + pos + `"gps_speed_kmh":18.52,"heading_deg":90,"fix":"2d"}`, "cut_off"},
		{"no checksum", "$" + rmc0 + "\r\n", "", "no_checksum"},
		{"a wrong checksum", strings.Replace(say(rmc0), "48", "49", 1), "", "wrong_checksum"},
		{"not NMEA", "ELM327 v1.5\r\r>", "", "not_nmea"},
		{"nothing", "", "", ""},
	} {
		fixes, drops := decoded(t, c.in)
		if got := strings.Join(fixes, ""); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		if got := strings.Join(drops, " "); got != c.drop {
			t.Errorf("%s: dropped %q, want %q", c.name, got, c.drop)
		}
	}
}

func TestTimes(t *testing.T) {
	at := func(clock, date string) string {
		return "GPRMC," + clock + ",A," + where + ",,," + date + ",,"
	}
	for _, c := range []struct {
		name string
		in   string
		want []string
	}{
		{"fractions", saying(at("120000.2", "231126"), at("120000.40", "231126"), at("120000.600", "231126"), at("120000.8004", "231126"), at("120001.", "231126")),
			[]string{"2026-11-23T12:00:00.200Z", "2026-11-23T12:00:00.400Z", "2026-11-23T12:00:00.600Z", "2026-11-23T12:00:00.800Z", "2026-11-23T12:00:01.000Z"}},
		{"a period of 0.32 s", saying(at("120000.00", "231126"), at("120000.32", "231126"), at("120000.640", "231126")),
			[]string{"2026-11-23T12:00:00.000Z", "2026-11-23T12:00:00.320Z", "2026-11-23T12:00:00.640Z"}},
		{"one time in two ways of writing is one epoch", saying(at("120000", "231126"), "GPGGA,120000.000,"+where+",1,09,,,,,,,"), []string{"2026-11-23T12:00:00.000Z"}},
		{"Millisecond 1000", saying(at("235959.9996", "311226")), []string{"2027-01-01T00:00:00.000Z"}},
		{"a leap second is the next second", saying(at("235960", "311226")), []string{"2027-01-01T00:00:00.000Z"}},
		{"midnight without a date", saying(at("235959", "281226"), "GPGGA,000000,"+where+",1,09,,,,,,,", "GPGGA,000001,"+where+",1,09,,,,,,,"),
			[]string{"2026-12-28T23:59:59.000Z", "2026-12-29T00:00:00.000Z", "2026-12-29T00:00:01.000Z"}},
		{"midnight after Millisecond 1000", saying(at("235959.9996", "281226"), "GPGGA,000001,"+where+",1,09,,,,,,,"),
			[]string{"2026-12-29T00:00:00.000Z", "2026-12-29T00:00:01.000Z"}},
		{"midnight between ZDA and the first position", saying("GPZDA,235959,31,12,2026,00,00", "GPGLL,"+where+",000000,A"), []string{"2027-01-01T00:00:00.000Z"}},
		{"late behind midnight", saying(at("235959", "231126"), at("000000", "241126"), "GPGLL,"+where+",235959,A", "GPGGA,000001,"+where+",1,09,,,,,,,"),
			[]string{"2026-11-23T23:59:59.000Z", "2026-11-24T00:00:00.000Z", "2026-11-23T23:59:59.000Z", "2026-11-24T00:00:01.000Z"}},
		{"a step back is no midnight", saying(at("120005", "281226"), "GPGGA,120003,"+where+",1,09,,,,,,,"),
			[]string{"2026-12-28T12:00:05.000Z", "2026-12-28T12:00:03.000Z"}},
		{"last century", saying(at("120000", "220899")), []string{"1999-08-22T12:00:00.000Z"}},
		{"29 February", saying(at("120000", "290228")), []string{"2028-02-29T12:00:00.000Z"}},
	} {
		fixes, drops := decoded(t, c.in)
		var got []string
		for _, f := range fixes {
			got = append(got, f[6:30])
		}
		if !slices.Equal(got, c.want) || drops != nil {
			t.Errorf("%s: %q (dropped %q), want %q", c.name, got, drops, c.want)
		}
	}
}

func date(y, m, d int) time.Time { return time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC) }

func TestRollover(t *testing.T) {
	build := time.Date(2018, 6, 1, 15, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		build, own, want time.Time
		ok               bool
	}{
		{build, date(1999, 8, 22), date(2019, 4, 7), true}, // Telit HE910
		{build, date(2018, 6, 1), date(2018, 6, 1), true},
		{build, date(2018, 5, 31), date(2038, 1, 14), false}, // the day before: 20 years ahead
		{build, date(2027, 6, 1), date(2027, 6, 1), true},
		{build, date(2030, 6, 1), date(2030, 6, 1), false},
		{date(2039, 1, 1), date(2000, 1, 1), date(2039, 4, 2), true}, // twice
		{time.Time{}, date(1999, 8, 22), date(1999, 8, 22), true},
	} {
		got, ok := unroll(c.own, c.build)
		if !got.Equal(c.want) || ok != c.ok {
			t.Errorf("unroll(%v, %v) = %v, %v; want %v, %v", c.own, c.build, got, ok, c.want, c.ok)
		}
	}
}

// A carried date ends with a gap in which a midnight could hide.
func TestDateIsKept(t *testing.T) {
	c := calendar{}
	if _, why := c.date(time.Time{}, 0, 0); why != NoDate {
		t.Errorf("date before any: %q", why)
	}
	if _, why := c.date(date(2026, 11, 23), 22*time.Hour, 0); why != "" {
		t.Error(why)
	}
	if d, why := c.date(time.Time{}, 9*time.Hour, 11*time.Hour); why != "" || !d.Equal(date(2026, 11, 24)) {
		t.Errorf("11 h later: %v, %q", d, why)
	}
	if _, why := c.date(time.Time{}, 21*time.Hour, 23*time.Hour); why != NoDate {
		t.Errorf("12 h later: %q", why)
	}
}

// A date that a receiver claimed before its first fix ends with a gap as well, and is
// as late as any other.
func TestClaimedDate(t *testing.T) {
	for _, c := range []struct {
		name    string
		build   time.Time
		passed  time.Duration // by the receiver's time of day
		arrived time.Duration // after the claim
		want    time.Time
		why     Reason
	}{
		{"half a second later", time.Time{}, 500 * ms, time.Second, date(2026, 12, 31), ""},
		{"the longest period", time.Time{}, 2 * time.Second, 2 * time.Second, date(2027, 1, 1), ""},
		{"longer", time.Time{}, 2001 * ms, 2 * time.Second, time.Time{}, NoDate},
		{"a day asleep", time.Time{}, time.Second, 24*time.Hour + time.Second, time.Time{}, NoDate},
		{"1024 weeks late", date(2030, 1, 1), 500 * ms, time.Second, time.Time{}, BadDate},
		{"1024 weeks late, in time", date(2040, 1, 1), 500 * ms, time.Second, date(2046, 8, 16), ""},
	} {
		cal := calendar{build: c.build}
		at := 24*time.Hour - time.Second
		cal.claim(date(2026, 12, 31), at, 0)
		got, why := cal.date(time.Time{}, (at+c.passed)%(24*time.Hour), c.arrived)
		if why != c.why || why == "" && !got.Equal(c.want) {
			t.Errorf("%s: %v, %q; want %v, %q", c.name, got, why, c.want, c.why)
		}
	}
}

func TestBadDateIsCounted(t *testing.T) {
	var counters Counters
	var n int
	d := newDecoder(true, date(2026, 1, 1), &counters, func(telemetry.Reading) { n++ }, func(Reason, string) {})
	d.feed([]byte(say("GPRMC,120000,A,"+where+",,,010140,,")), 0)
	d.end()
	if got := counters.Drops()[BadDate]; got != 1 || n != 0 || counters.Sentences() != 1 || counters.Fixes() != 0 {
		t.Errorf("%d dropped for the date, %d fixes, %d counted", got, n, counters.Fixes())
	}
}

func TestCounters(t *testing.T) {
	var counters Counters
	d := newDecoder(false, time.Time{}, &counters, func(telemetry.Reading) {}, func(Reason, string) {})
	d.feed([]byte(second(0)+second(1)+"$GPTXT,x\n$GPTXT,x*00\n"), 0)
	d.end()
	drops := counters.Drops()
	if counters.Sentences() != 8 || counters.Fixes() != 2 || drops[NoChecksum] != 1 || drops[WrongChecksum] != 1 || len(drops) != len(reasons) {
		t.Errorf("%d sentences, %d fixes, drops %v", counters.Sentences(), counters.Fixes(), drops)
	}
}

func TestDecodeEndsAtErrors(t *testing.T) {
	no := func(string, string) error { return nil }
	calls := 0
	err := Decode(strings.NewReader(second(0)+second(1)+second(2)), func(telemetry.Reading) error { calls++; return errStop }, no)
	if err != errStop || calls != 1 {
		t.Errorf("error %v after %d fixes", err, calls)
	}
	calls = 0
	err = Decode(strings.NewReader("$A\n$B\n"), nil, func(string, string) error { calls++; return errStop })
	if err != errStop || calls != 1 {
		t.Errorf("error %v after %d drops", err, calls)
	}
	calls = 0
	broken := io.MultiReader(strings.NewReader(second(0)), iotest.ErrReader(errStop))
	err = Decode(broken, func(telemetry.Reading) error { calls++; return nil }, no)
	if !errors.Is(err, errStop) || calls != 1 {
		t.Errorf("error %v after %d fixes of a broken file", err, calls)
	}
}
