package hook

import "github.com/prometheus/client_golang/prometheus"

type counters struct{ runs *prometheus.CounterVec }

func newCounters() *counters {
	return &counters{prometheus.NewCounterVec(prometheus.CounterOpts{Name: "telemetryd_hook_runs_total",
		Help: "Programs of hooks by what they are on and how they ended: done, failed, or dropped because too many waited."}, []string{"on", "result"})}
}

func (c *counters) count(on, result string) { c.runs.WithLabelValues(on, result).Inc() }

// Metrics are the hooks for Prometheus.
func (h *Hooks) Metrics() prometheus.Collector { return h.runs }
