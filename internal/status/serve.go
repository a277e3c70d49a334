package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"telemetryd/internal/telemetry"
)

const (
	listenRetry   = 10 * time.Second
	requestLimit  = 10 * time.Second
	shutdownLimit = 500 * time.Millisecond
	// maxClients bounds the connections; more wait.
	maxClients = 32
)

// Serve offers metrics and health over HTTP on address until ctx ends; an empty
// address is no service. A port that others use is a condition of health, and tried
// again: it keeps nothing else from running.
func Serve(ctx context.Context, address string, h *Health, log *slog.Logger, metrics ...prometheus.Collector) {
	if address == "" {
		return
	}
	for {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			h.Clear("http", "Metrics can be read")
			log.Info("metrics and health can be read", "address", "http://"+l.Addr().String())
			serve(ctx, limited{l, make(chan struct{}, maxClients)}, handler(h, metrics), log)
		} else if ctx.Err() == nil {
			h.Set("http", telemetry.Condition{Code: "http_unavailable", Severity: telemetry.Info,
				Title:  fmt.Sprintf("Metrics cannot be offered on %s: %v", address, unwrap(err)),
				Remedy: "does another telemetryd run? Give this one another --http address, or --http off"})
		}
		select {
		case <-time.After(listenRetry):
		case <-ctx.Done():
			return
		}
	}
}

// unwrap drops the address that our own message names already.
func unwrap(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		return op.Err
	}
	return err
}

func serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) {
	server := &http.Server{Handler: h, ReadTimeout: requestLimit, WriteTimeout: requestLimit, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	var closing sync.WaitGroup
	served := make(chan struct{})
	closing.Go(func() {
		select {
		case <-ctx.Done():
		case <-served:
		}
		end, stop := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
		defer stop()
		if server.Shutdown(end) != nil {
			_ = server.Close()
		}
	})
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		log.Warn("metrics are not offered for a while", "error", err)
	}
	close(served)
	closing.Wait()
}

// limited bounds the connections that are served at a time.
type limited struct {
	net.Listener
	slots chan struct{}
}

// Accept implements net.Listener.
func (l limited) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &slotConn{Conn: c, free: sync.OnceFunc(func() { <-l.slots })}, nil
}

type slotConn struct {
	net.Conn
	free func()
}

// Close implements net.Conn.
func (c *slotConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}

func handler(h *Health, metrics []prometheus.Collector) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(append(metrics, h.metrics(),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))...)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", h.serveHealth)
	return mux
}

// serveHealth answers with every condition; its status is 503 while one is worse than
// info.
func (h *Health) serveHealth(w http.ResponseWriter, _ *http.Request) {
	type condition struct {
		telemetry.Condition
		Title  string `json:"title"`
		Remedy string `json:"remedy"`
	}
	body := struct {
		Conditions []condition `json:"conditions"`
	}{[]condition{}}
	code := http.StatusOK
	for _, c := range h.Conditions() {
		body.Conditions = append(body.Conditions, condition{c, c.Title, c.Remedy})
		if c.Severity != telemetry.Info {
			code = http.StatusServiceUnavailable
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // a client that left
}

type healthMetrics struct{ h *Health }

func (h *Health) metrics() prometheus.Collector { return healthMetrics{h} }

var conditionDesc = prometheus.NewDesc("telemetryd_condition", "1 for each condition that holds now; none when all is well.", []string{"code", "severity"}, nil)

// Describe implements prometheus.Collector.
func (m healthMetrics) Describe(c chan<- *prometheus.Desc) { c <- conditionDesc }

// Collect implements prometheus.Collector.
func (m healthMetrics) Collect(c chan<- prometheus.Metric) {
	told := map[string]bool{} // two sources may have the same
	for _, x := range m.h.Conditions() {
		if !told[x.Code] {
			told[x.Code] = true
			c <- prometheus.MustNewConstMetric(conditionDesc, prometheus.GaugeValue, 1, x.Code, string(x.Severity))
		}
	}
}
