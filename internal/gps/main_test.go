package gps

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"telemetryd/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// say is a line as a receiver sends it: body between $ and * with the checksum.
func say(body string) string {
	var sum byte
	for i := range len(body) {
		sum ^= body[i]
	}
	return fmt.Sprintf("$%s*%02X\r\n", body, sum)
}

// saying is a line for each body.
func saying(bodies ...string) string {
	var b strings.Builder
	for _, body := range bodies {
		b.WriteString(say(body))
	}
	return b.String()
}

const where = "4808.2293,N,01134.5674,E"

// sample renders a reading as `telemetryd decode` does.
func sample(r telemetry.Reading) string { return string(r.AppendSample(nil, r.FixTime)) }

// decoded decodes and lists the fixes, and what was refused.
func decoded(t testing.TB, in string) (fixes, drops []string) {
	t.Helper()
	err := Decode(strings.NewReader(in),
		func(r telemetry.Reading) error { fixes = append(fixes, sample(r)); return nil },
		func(reason, _ string) error { drops = append(drops, reason); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return fixes, drops
}

// second is a whole cycle at n seconds past noon: RMC, GGA, GSA, VTG, on the way west
// at the speed that it tells.
func second(n int) string {
	where := fmt.Sprintf("4808.2293,N,011%07.4f,E", 34.5674-float64(n)*0.0116)
	return saying(
		fmt.Sprintf("GPRMC,12%02d%02d.00,A,%s,27.9,271.3,231126,,,A", n/60, n%60, where),
		fmt.Sprintf("GPGGA,12%02d%02d.00,%s,1,09,0.9,519.2,M,47.0,M,,", n/60, n%60, where),
		"GPGSA,A,3,01,02,03,04,05,06,07,08,09,,,,1.6,0.9,1.3",
		"GPVTG,271.3,T,,M,27.9,N,51.7,K,A")
}

var errStop = errors.New("stop")

const ms = time.Millisecond
