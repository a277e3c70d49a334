package obd

import (
	"maps"
	"math"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics makes counters and rates readable for Prometheus.
type metrics struct {
	counters *Counters
	rates    *Rates
}

// Metrics is what a reader counts and reaches, for Prometheus.
func Metrics(c *Counters, r *Rates) prometheus.Collector { return metrics{c, r} }

func obdDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("telemetryd_obd_"+name, help, labels, nil)
}

var (
	requestsDesc   = obdDesc("requests_total", "Requests put on the car's bus.")
	valuesDesc     = obdDesc("values_total", "Values read, of car and adapter.")
	outOfRangeDesc = obdDesc("values_refused_total", "Values refused because they were out of the signal's range or could not be decoded.")
	resyncsDesc    = obdDesc("resyncs_total", "Times that adapter and program had to be brought back in step after a missing prompt.")
	strayDesc      = obdDesc("stray_bytes_total", "Bytes from the adapter that answered no request.")
	noticedDesc    = obdDesc("noticed_total", "What adapter and car did other than answering, by cause: error texts, refusals, damaged, late and other control units' messages. other_ecu is usual on cars with several.", "cause")
	wantedDesc     = obdDesc("wanted_hertz", "How often a signal is wanted, readings per second; +Inf for max. Present while the car is read, from the first full minute on.", "signal")
	achievedDesc   = obdDesc("achieved_hertz", "How often a signal was read over the last full minute, readings per second.", "signal")
)

// Describe implements prometheus.Collector.
func (m metrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requestsDesc, valuesDesc, outOfRangeDesc, resyncsDesc, strayDesc, noticedDesc, wantedDesc, achievedDesc} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (m metrics) Collect(c chan<- prometheus.Metric) {
	n := m.counters.Read()
	count := func(d *prometheus.Desc, x uint64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(x), labels...)
	}
	count(requestsDesc, n.Requests)
	count(valuesDesc, n.Values)
	count(outOfRangeDesc, n.OutOfRange)
	count(resyncsDesc, n.Resyncs)
	count(strayDesc, n.StrayBytes)
	for _, cause := range slices.Sorted(maps.Keys(n.Trouble)) {
		count(noticedDesc, n.Trouble[cause], string(cause))
	}
	for _, r := range m.rates.Read() {
		wanted := r.Wanted
		if wanted == 0 {
			wanted = math.Inf(1)
		}
		c <- prometheus.MustNewConstMetric(wantedDesc, prometheus.GaugeValue, wanted, r.Signal)
		c <- prometheus.MustNewConstMetric(achievedDesc, prometheus.GaugeValue, r.Achieved, r.Signal)
	}
}
