package status

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"telemetryd/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// free is an address nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) { // it is starting
		r, err := client.Get(url)
		if err != nil {
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			continue
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(b)
	}
}

// Metrics and health are what holds now, and the service ends with its context.
func TestServe(t *testing.T) {
	h := NewHealth(slog.New(slog.DiscardHandler))
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "telemetryd_test_total", Help: "Of this test."})
	counter.Add(3)
	ctx, stop := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	address := free(t)
	serving.Go(func() { Serve(ctx, address, h, slog.New(slog.DiscardHandler), counter) })
	if code, body := get(t, "http://"+address+"/healthz"); code != http.StatusOK || strings.TrimSpace(body) != `{"conditions":[]}` {
		t.Errorf("%d %s", code, body)
	}
	h.Set("obd", telemetry.Condition{Code: "adapter_missing", Severity: telemetry.Warning, Title: "OBD adapter not reached", Remedy: "plug it in"})
	h.Set("gps", telemetry.Condition{Code: "gps_no_fix", Severity: telemetry.Info, Title: "No fix", Remedy: "wait"})
	if code, body := get(t, "http://"+address+"/healthz"); code != http.StatusServiceUnavailable || !strings.Contains(body, `"code":"adapter_missing","severity":"warning","title":"OBD adapter not reached","remedy":"plug it in"`) {
		t.Errorf("%d %s", code, body)
	}
	code, body := get(t, "http://"+address+"/metrics")
	for _, want := range []string{"telemetryd_test_total 3", `telemetryd_condition{code="adapter_missing",severity="warning"} 1`, "process_resident_memory_bytes", "go_goroutines"} {
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%d, no %s", code, want)
		}
	}
	if code, _ := get(t, "http://"+address+"/nothing"); code != http.StatusNotFound {
		t.Errorf("%d", code)
	}
	stop()
	serving.Wait()
}

// A port that others use is told, and keeps nobody waiting.
func TestServeInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := NewHealth(slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { Serve(ctx, l.Addr().String(), h, slog.New(slog.DiscardHandler)) })
	<-h.Changed()
	if c := h.Conditions(); len(c) != 1 || c[0].Code != "http_unavailable" || !strings.Contains(c[0].Title, "address already in use") {
		t.Errorf("%+v", c)
	}
	stop()
	serving.Wait()
	Serve(ctx, "", h, slog.New(slog.DiscardHandler)) // off: ends at once
}
