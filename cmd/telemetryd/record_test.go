package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A signal of the user's own, trouble codes and identity arrive; the drive was recorded,
// can be decoded, and is played back to a second daemon.
func TestRecordAndReplay(t *testing.T) {
	m := newMosquitto(t)
	watch := subscribe(t, m, "vehicles/#")
	v := startVehicle(t, "--obd-baud", "115200")
	config := filepath.Join(t.TempDir(), "van.yaml")
	if err := os.WriteFile(config, []byte(`own_signals:
  battery_soc_pct: {request: "220105", header: 7E4, formula: AF/2, unit: "%", range: [0, 100], rate: 2}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "recordings")
	d := startDaemon(t, m, v, t.TempDir(), "--config", config, "--record", dir)
	ms := watch.await("own signal, codes and identity", 60*time.Second, func(ms []message) bool {
		seen := map[string]bool{}
		for _, e := range onTopic(ms, "events") {
			seen[e.Type] = true
		}
		for _, b := range onTopic(ms, "telemetry") {
			for _, s := range b.Samples {
				if s["battery_soc_pct"] != nil {
					seen["soc"] = true
				}
			}
		}
		return seen["soc"] && seen["dtc_appeared"] && seen["vehicle_identity"] && seen["freeze_frame"] && len(onTopic(ms, "telemetry")) > 5
	})
	for _, e := range onTopic(ms, "events") {
		if e.Type == "dtc_appeared" && e.Data["code"] == "P0301" && e.Data["kind"] == nil {
			t.Errorf("%v", e.Data)
		}
	}
	d.end(syscall.SIGTERM)
	checkSamples(t, onTopic(watch.messages(), "telemetry"), v.truth)

	for _, kind := range []string{"obd", "gps"} {
		files, err := filepath.Glob(filepath.Join(dir, kind+"-*.rec"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%s recordings: %v, %v", kind, files, err)
		}
		out, err := exec.CommandContext(t.Context(), "telemetryd", "decode", kind, files[0]).Output()
		if want := map[string]string{"obd": `"engine_speed_rpm":`, "gps": `"latitude":`}[kind]; err != nil || bytes.Count(out, []byte(want)) < 3 {
			t.Errorf("decode %s: %v\n%s", kind, err, out)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "obd-*.rec"))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	start(t, w, "telemetryd", "sim", "--replay", files[0], "--obd", "tcp://127.0.0.1:0")
	w.Close()
	address, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, address, _ = strings.Cut(strings.TrimSpace(address), " ")
	before := len(onTopic(watch.messages(), "telemetry"))
	startDaemon(t, m, vehicle{obd: address, gps: "off"}, t.TempDir(), "--config", config)
	watch.await("values from the recording", 30*time.Second, func(ms []message) bool {
		for _, b := range onTopic(ms, "telemetry")[before:] {
			for _, s := range b.Samples {
				if s["engine_speed_rpm"] != nil {
					return true
				}
			}
		}
		return false
	})
}
