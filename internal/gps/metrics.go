package gps

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics makes counters readable for Prometheus.
type metrics struct{ counters *Counters }

// Metrics is what a receiver's reader counts, for Prometheus.
func Metrics(c *Counters) prometheus.Collector { return metrics{c} }

var (
	sentencesDesc = prometheus.NewDesc("telemetryd_gps_sentences_total", "NMEA sentences with a good checksum, of any type.", nil, nil)
	fixesDesc     = prometheus.NewDesc("telemetryd_gps_fixes_total", "Times for which the receiver gave a valid position.", nil, nil)
	droppedDesc   = prometheus.NewDesc("telemetryd_gps_dropped_total", "What did not become a published fix, by reason; frozen and jumped are positions that were called valid and cannot be true.", []string{"reason"}, nil)
)

// Describe implements prometheus.Collector.
func (m metrics) Describe(c chan<- *prometheus.Desc) {
	c <- sentencesDesc
	c <- fixesDesc
	c <- droppedDesc
}

// Collect implements prometheus.Collector.
func (m metrics) Collect(c chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	count(sentencesDesc, m.counters.Sentences())
	count(fixesDesc, m.counters.Fixes())
	drops := m.counters.Drops()
	for _, why := range slices.Sorted(maps.Keys(drops)) {
		count(droppedDesc, drops[why], string(why))
	}
}
