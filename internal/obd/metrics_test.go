package obd

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"telemetryd/internal/telemetry"
)

// Counts by cause and rates by signal can be read, under names that last.
func TestMetrics(t *testing.T) {
	c, r := new(Counters), new(Rates)
	c.request()
	c.values(3)
	c.trouble(NoData)
	c.trouble(NoData)
	r.set([]telemetry.Rate{{Signal: "engine_speed_rpm", Achieved: 12.5}, {Signal: "vehicle_speed_kmh", Wanted: 5, Achieved: 4.9}})
	const want = `
# HELP telemetryd_obd_achieved_hertz How often a signal was read over the last full minute, readings per second.
# TYPE telemetryd_obd_achieved_hertz gauge
telemetryd_obd_achieved_hertz{signal="engine_speed_rpm"} 12.5
telemetryd_obd_achieved_hertz{signal="vehicle_speed_kmh"} 4.9
# HELP telemetryd_obd_noticed_total What adapter and car did other than answering, by cause: error texts, refusals, damaged, late and other control units' messages. other_ecu is usual on cars with several.
# TYPE telemetryd_obd_noticed_total counter
telemetryd_obd_noticed_total{cause="no_data"} 2
# HELP telemetryd_obd_values_total Values read, of car and adapter.
# TYPE telemetryd_obd_values_total counter
telemetryd_obd_values_total 3
# HELP telemetryd_obd_wanted_hertz How often a signal is wanted, readings per second; +Inf for max. Present while the car is read, from the first full minute on.
# TYPE telemetryd_obd_wanted_hertz gauge
telemetryd_obd_wanted_hertz{signal="engine_speed_rpm"} +Inf
telemetryd_obd_wanted_hertz{signal="vehicle_speed_kmh"} 5
`
	if err := testutil.CollectAndCompare(Metrics(c, r), strings.NewReader(want),
		"telemetryd_obd_achieved_hertz", "telemetryd_obd_noticed_total", "telemetryd_obd_values_total", "telemetryd_obd_wanted_hertz"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(Metrics(c, r)); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
