package budget

import "github.com/prometheus/client_golang/prometheus"

// metrics makes an account readable for Prometheus.
type metrics struct {
	account *Account
	link    func() (sent, received uint64)
}

// Metrics is the account for Prometheus, and what the link has carried: bytes on the
// sockets, without headers of TCP and IP.
func Metrics(a *Account, link func() (sent, received uint64)) prometheus.Collector {
	return metrics{a, link}
}

var (
	linkDesc     = prometheus.NewDesc("telemetryd_link_bytes_total", "Bytes on the sockets to the brokers since the start, TLS included, headers of TCP and IP not.", []string{"direction"}, nil)
	monthDesc    = prometheus.NewDesc("telemetryd_data_month_bytes", "Bytes that this month of the plan has taken, with the headers of TCP and IP, which are estimated.", []string{"direction"}, nil)
	budgetDesc   = prometheus.NewDesc("telemetryd_data_budget_bytes", "The data budget of a month, both directions; absent without one.", nil, nil)
	forecastDesc = prometheus.NewDesc("telemetryd_data_forecast_bytes", "What this month of the plan will come to, both directions: what is used, and as much per time for the rest.", nil, nil)
	stepDesc     = prometheus.NewDesc("telemetryd_data_throttle", "What is held back for the data budget: 0 nothing, 1 backlog, 2 backlog and the rate of live values.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m metrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{linkDesc, monthDesc, budgetDesc, forecastDesc, stepDesc} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (m metrics) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, x float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, x, labels...)
	}
	sent, received := m.link()
	c <- prometheus.MustNewConstMetric(linkDesc, prometheus.CounterValue, float64(sent), "sent")
	c <- prometheus.MustNewConstMetric(linkDesc, prometheus.CounterValue, float64(received), "received")
	a := m.account
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.countLocked()
	u := a.months.Month
	gauge(monthDesc, float64(u.Sent), "sent")
	gauge(monthDesc, float64(u.Received), "received")
	gauge(forecastDesc, float64(u.Forecast(now)))
	gauge(stepDesc, float64(a.step))
	if a.Budget > 0 {
		gauge(budgetDesc, float64(a.Budget))
	}
}
