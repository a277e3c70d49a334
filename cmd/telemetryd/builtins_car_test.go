package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"telemetryd/internal/command"
	"telemetryd/internal/obd"
	"telemetryd/internal/port"
	"telemetryd/internal/status"
	"telemetryd/internal/telemetry"
	"telemetryd/sim"
)

// readCar reads a virtual car with a Control.
func readCar(t *testing.T, o sim.OBDConfig) (*sim.Vehicle, *obd.Control) {
	t.Helper()
	o.Listen = "tcp://127.0.0.1:0"
	v, err := sim.Start(t.Context(), sim.Config{Seed: 1, OBD: o})
	if err != nil {
		t.Fatal(err)
	}
	a, err := port.Parse(v.OBDAddress(), "tcp")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	control, first := new(obd.Control), make(chan struct{})
	var once sync.Once
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	var done sync.WaitGroup
	done.Go(func() {
		obd.Run(ctx, obd.Config{Address: &a, MaxRequests: 20, Uptime: uptime, Health: status.NewHealth(logger), Log: logger, Control: control,
			Deliver: func(telemetry.Reading) { once.Do(func() { close(first) }) }})
	})
	t.Cleanup(func() {
		stop()
		done.Wait()
		v.Close()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	select {
	case <-first:
	case <-time.After(20 * time.Second):
		t.Fatal("no reading")
	}
	return v, control
}

// Each built-in command of the car, by its name and in the JSON of its response.
func TestCarCommands(t *testing.T) {
	t.Parallel()
	v, control := readCar(t, sim.OBDConfig{ECUs: 2})
	commands := carCommands(control, carLimits{})
	do := func(name string, args map[string]string) (string, error) {
		t.Helper()
		out, err := commands[name](t.Context(), args)
		if err != nil {
			if out != nil {
				t.Errorf("%s: output %v beside the error %v", name, out, err)
			}
			return "", err
		}
		b, err := json.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		return string(b), nil
	}
	for _, test := range []struct {
		name string
		args map[string]string
		want string
	}{
		{"read_dtc", nil, `{"mil_on":true,"dtc_count":2,"stored":[{"code":"P0301","ecu":"7E8"},{"code":"P0420","ecu":"7E8"}],"pending":[{"code":"P0171","ecu":"7E8"}],"permanent":[{"code":"P0301","ecu":"7E8"}]}`},
		{"read_vin", map[string]string{}, `{"vin":"WVWZZZ1KZ8W123456","calibration_ids":["SIM20L-R05-A0001"],"ecu_name":"ECM-EngineControl","ecu":"7E8"}`},
		{"set_rate", map[string]string{"signal": "engine_speed_rpm", "hz": "10", "for": "5s"}, `{"signal":"engine_speed_rpm","hz":10,"for_s":5}`},
		{"set_rate", map[string]string{"signal": "engine_speed_rpm", "hz": "0.5"}, `{"signal":"engine_speed_rpm","hz":0.5,"for_s":60}`},
	} {
		if got, err := do(test.name, test.args); err != nil || got != test.want {
			t.Errorf("%s %v:\ngot  %s, %v\nwant %s", test.name, test.args, got, err, test.want)
		}
	}
	sample, err := do("sample_now", nil)
	var values map[string]any
	if err != nil || json.Unmarshal([]byte(sample), &values) != nil || len(values) < 30 || values["engine_speed_rpm"] == nil || values["mil_on"] != true {
		t.Errorf("sample_now: %s, %v", sample, err)
	}
	if _, err := do("clear_dtc", nil); err == nil {
		t.Error("codes were cleared with the engine running")
	}
	v.StopEngine(true)
	want := `{"cleared":true,"left":{"mil_on":false,"dtc_count":0,"stored":[],"pending":[],"permanent":[{"code":"P0301","ecu":"7E8"}]}}`
	if got, err := do("clear_dtc", nil); err != nil || got != want {
		t.Errorf("clear_dtc:\ngot  %s, %v\nwant %s", got, err, want)
	}
}

// What is asked for wrongly is refused before the car hears of it: here nobody reads one.
func TestCarCommandArguments(t *testing.T) {
	commands := carCommands(new(obd.Control), carLimits{})
	few := carCommands(new(obd.Control), carLimits{mostHertz: 2, longest: 30 * time.Second})
	for _, test := range []struct {
		commands map[string]command.Builtin
		name     string
		args     map[string]string
		want     string // empty: only the car is missing
	}{
		{commands, "read_dtc", nil, ""},
		{commands, "read_vin", nil, ""},
		{commands, "sample_now", nil, ""},
		{commands, "clear_dtc", nil, ""},
		{commands, "read_dtc", map[string]string{"mode": "04"}, `argument "mode"; this command takes none`},
		{commands, "clear_dtc", map[string]string{"force": "yes"}, "takes none"},
		{commands, "set_rate", map[string]string{"signal": "engine_speed_rpm", "hz": "20", "for": "10m"}, ""},
		{commands, "set_rate", map[string]string{"signal": "engine_speed_rpm", "hz": "5", "to": "9"}, `argument "to"; allowed: signal, hz, for`},
		{commands, "set_rate", nil, "no signal is named"},
		{commands, "set_rate", map[string]string{"signal": "engine_speed_rpm"}, "a number from 0.1 to 20"},
		{commands, "set_rate", map[string]string{"signal": "engine_speed_rpm", "hz": "0"}, "a number from 0.1 to 20"},
		{commands, "set_rate", map[string]string{"signal": "engine_speed_rpm", "hz": "NaN"}, "a number from 0.1 to 20"},
		{commands, "set_rate", map[string]string{"signal": "engine_speed_rpm", "hz": "21"}, "a number from 0.1 to 20"},
		{commands, "set_rate", map[string]string{"signal": "engine_speed_rpm", "hz": "max"}, "a number from 0.1 to 20"},
		{commands, "set_rate", map[string]string{"signal": "engine_speed_rpm", "hz": "5", "for": "11m"}, "from 1s to 10m0s"},
		{commands, "set_rate", map[string]string{"signal": "engine_speed_rpm", "hz": "5", "for": "60"}, "from 1s to 10m0s"},
		{few, "set_rate", map[string]string{"signal": "engine_speed_rpm", "hz": "2"}, ""},
		{few, "set_rate", map[string]string{"signal": "engine_speed_rpm", "hz": "3"}, "a number from 0.1 to 2"},
		{few, "set_rate", map[string]string{"signal": "engine_speed_rpm", "hz": "1", "for": "31s"}, "from 1s to 30s"},
	} {
		_, err := test.commands[test.name](t.Context(), test.args)
		switch {
		case test.want == "" && !errors.Is(err, obd.ErrNotRead):
			t.Errorf("%s %v: %v", test.name, test.args, err)
		case test.want != "" && (err == nil || errors.Is(err, obd.ErrNotRead) || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s %v: %v, want %q", test.name, test.args, err, test.want)
		}
	}
}
