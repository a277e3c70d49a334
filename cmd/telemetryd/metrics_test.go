package main

import (
	"io"
	"net"
	"net/http"
	"regexp"
	"testing"
	"time"
)

// The running daemon tells over HTTP what it counts.
func TestMetricsOfDaemon(t *testing.T) {
	t.Parallel()
	m, v := newMosquitto(t), startVehicle(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	startDaemon(t, m, v, t.TempDir(), "--http", address)
	wanted := regexp.MustCompile(`(?m)^telemetryd_obd_values_total [1-9]`)
	var body []byte
	for deadline := time.Now().Add(30 * time.Second); !wanted.Match(body); time.Sleep(100 * time.Millisecond) { // waiting for another process
		if time.Now().After(deadline) {
			t.Fatalf("no values within 30 s:\n%s", body)
		}
		r, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			continue
		}
		body, _ = io.ReadAll(r.Body)
		r.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
}
