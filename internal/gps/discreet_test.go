package gps

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
)

// What is refused goes into the log of one who looks for a fault; where it is not to be told
// where the vehicle is, only that it was refused.
func TestRefusedInTheLog(t *testing.T) {
	for _, discreet := range []bool{false, true} {
		var log strings.Builder
		s := newSource(Config{
			Uptime: func() time.Duration { return 0 }, Deliver: func(telemetry.Reading) {}, Discreet: discreet,
			Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		for i, latitude := range []float64{48.137154, 52.516275} {
			r := telemetry.Reading{Arrived: time.Duration(i) * time.Second, FixTime: time.Unix(1795600800+int64(i), 0)}
			r.Add("latitude", latitude)
			r.Add("longitude", 11.576124)
			s.deliver(r)
		}
		if !strings.Contains(log.String(), string(Jumped)) || strings.Contains(log.String(), "52.516275") == discreet {
			t.Errorf("discreet %v: %s", discreet, log.String())
		}
	}
}
