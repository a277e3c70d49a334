package publish

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
)

// What an earlier boot recorded with a guessed time leaves with the right one where the
// offset of that boot became known, and with its guess where it did not.
func TestCorrectedOverReboot(t *testing.T) {
	truth := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	clock := telemetry.NewClock(telemetry.ClockConfig{BootID: "now", Uptime: func() time.Duration { return time.Minute },
		System: func() telemetry.SystemTime { return telemetry.SystemTime{} },
		State:  telemetry.ClockState{Boots: map[string]telemetry.Boot{"known": {Guessed: true, GuessZero: truth, GuessClock: telemetry.GPS}, "unknown": {Guessed: true}}}})
	s := &sender{publisher: &publisher{Config: Config{Clock: clock, Log: slog.New(slog.DiscardHandler)}}}
	for boot, want := range map[string]string{
		"known":   `"clock":"gps","samples":[{"t":"2026-11-25T10:00:07.000Z","vehicle_speed_kmh":50}]}`,
		"unknown": `"clock":"unsynced","samples":[{"t":"1970-01-01T00:00:07.000Z","uptime_ms":7000,"vehicle_speed_kmh":50}]}`,
		"now":     `"clock":"unsynced","samples":[{"t":"1970-01-01T00:00:07.000Z","uptime_ms":7000,"vehicle_speed_kmh":50}]}`,
	} {
		reading := telemetry.Reading{Arrived: 7 * time.Second}
		reading.Add("vehicle_speed_kmh", 50)
		var b telemetry.Batch
		b.Add(reading)
		stored, err := b.Seal("van-1", boot, time.Unix(0, 0), telemetry.Unsynced).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		p := parcel{}
		if p.message, err = telemetry.ParseRecord(stored); err != nil {
			t.Fatal(err)
		}
		if got := string(s.corrected(p).Message("s", 1)); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %s\nwant %s", boot, got, want)
		}
	}
}
