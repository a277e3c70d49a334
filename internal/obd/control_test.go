package obd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
	"telemetryd/sim"
)

// requests are what went over the bus, whoever answered.
type requests struct {
	mu  sync.Mutex
	all []string
	at  []time.Time
}

func (q *requests) note(at time.Time, request string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all, q.at = append(q.all, request), append(q.at, at)
}

// ofMode counts those of a mode.
func (q *requests) ofMode(mode string) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range q.all {
		if r[:2] == mode {
			n++
		}
	}
	return n
}

func (q *requests) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.all)
}

// workshop is a rig whose requests are noted, once values flow.
func workshop(t *testing.T, o sim.OBDConfig, rates map[string]float64, ceiling float64, own ...OwnSignal) (*rig, *requests) {
	t.Helper()
	q := new(requests)
	o.OnRequest = q.note
	r := driveFaster(t, 1, o, rates, ceiling, own...)
	r.await("first values", 20*time.Second, r.after(r.start, 1))
	return r, q
}

// within is a context for one call.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every code of every kind, from the car as it is now; what a car does not tell is said to
// be none, or not supported.
func TestReadCodes(t *testing.T) {
	const (
		canStored = `{"mil_on":true,"dtc_count":2,"stored":[{"code":"P0301","ecu":"7E8"},{"code":"P0420","ecu":"7E8"}],"pending":[{"code":"P0171","ecu":"7E8"}],`
		kStored   = `{"mil_on":true,"dtc_count":2,"stored":[{"code":"P0301","ecu":"10"},{"code":"P0420","ecu":"10"}],`
	)
	for _, test := range []struct {
		name string
		obd  sim.OBDConfig
		want string
	}{
		{"CAN", sim.OBDConfig{}, canStored + `"permanent":[{"code":"P0301","ecu":"7E8"}]}`},
		{"CAN, two ECUs", sim.OBDConfig{ECUs: 2}, canStored + `"permanent":[{"code":"P0301","ecu":"7E8"}]}`},
		{"CAN, no permanent codes", sim.OBDConfig{ECUs: 2, Lacks: []byte{0x0A}}, canStored + `"permanent":[],"not_supported":["permanent"]}`},
		{"CAN, no headers, two ECUs", sim.OBDConfig{ECUs: 2, NoHeaders: true}, `{"stored":[{"code":"P0301"},{"code":"P0420"}],"pending":[{"code":"P0171"}],"permanent":[{"code":"P0301"}]}`}, // whose lamp nobody knows
		{"K-line", sim.OBDConfig{Protocol: '5'}, kStored + `"pending":[{"code":"P0171","ecu":"10"}],"permanent":[{"code":"P0301","ecu":"10"}]}`},
		{"K-line, two ECUs, silent where they have none", sim.OBDConfig{Protocol: '5', ECUs: 2, Lacks: []byte{0x07, 0x0A}}, kStored + `"pending":[],"permanent":[],"not_supported":["permanent"]}`},
		{"J1850", sim.OBDConfig{Protocol: '2', ECUs: 2}, kStored + `"pending":[{"code":"P0171","ecu":"10"}],"permanent":[{"code":"P0301","ecu":"10"}]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.obd.Listen = "pty"
			r, q := workshop(t, test.obd, nil, 20)
			r.await("codes were read once", 20*time.Second, func() bool { return q.ofMode("0A") > 0 })
			before := q.ofMode("03")
			codes, err := r.control.ReadCodes(within(t, 20*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			if got := asJSON(t, codes); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if q.ofMode("03") == before {
				t.Error("nothing was asked")
			}
			r.check()
		})
	}
	t.Run("counted but not told", func(t *testing.T) {
		t.Parallel()
		r, _ := workshop(t, sim.OBDConfig{Listen: "pty", Protocol: '5', Lacks: []byte{0x03}}, nil, 0)
		if codes, err := r.control.ReadCodes(within(t, 20*time.Second)); err == nil || !strings.Contains(err.Error(), "counts 2 stored codes") {
			t.Errorf("%+v, %v", codes, err)
		}
	})
}

func TestReadIdentity(t *testing.T) {
	for _, test := range []struct {
		name     string
		protocol byte
		ecu      string
	}{{"CAN", '6', "7E8"}, {"K-line", '5', "10"}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, q := workshop(t, sim.OBDConfig{Listen: "pty", Protocol: test.protocol, ECUs: 2}, nil, 20)
			r.await("identity was read once", 20*time.Second, func() bool { return q.ofMode("09") >= 3 })
			before := q.ofMode("09")
			id, err := r.control.ReadIdentity(within(t, 20*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			want := `{"vin":"WVWZZZ1KZ8W123456","calibration_ids":["SIM20L-R05-A0001"],"ecu_name":"ECM-EngineControl","ecu":"` + test.ecu + `"}`
			if got := asJSON(t, id); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if n := q.ofMode("09") - before; n < 3 {
				t.Errorf("%d requests of mode 09", n)
			}
		})
	}
	t.Run("known before", func(t *testing.T) {
		t.Parallel()
		r, _ := workshop(t, sim.OBDConfig{Listen: "pty"}, nil, 0)
		r.await("identity", 20*time.Second, func() bool { return r.coded("vehicle_identity") > 0 })
		read := time.Now()
		r.vehicle.Silence(0x09)
		id, err := r.control.ReadIdentity(within(t, 20*time.Second))
		if err != nil || id.VIN != "WVWZZZ1KZ8W123456" || !id.Known || id.AgeS <= 0 || id.AgeS > time.Since(read).Seconds()+1 {
			t.Errorf("%+v, %v", id, err)
		}
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		r, _ := workshop(t, sim.OBDConfig{Listen: "pty", Lacks: []byte{0x09}}, nil, 0)
		if id, err := r.control.ReadIdentity(within(t, 20*time.Second)); err == nil || !strings.Contains(err.Error(), "does not tell who it is") {
			t.Errorf("%+v, %v", id, err)
		}
	})
}

// All wanted signals at once, of seldom ones too; each is also delivered, and true.
func TestSampleNow(t *testing.T) {
	rates := map[string]float64{"engine_speed_rpm": 2}
	for _, name := range []string{"vehicle_speed_kmh", "coolant_temperature_c", "fuel_level_pct", "odometer_km", "intake_air_temperature_c", "battery_voltage_v", "dtc_count", "mil_on"} {
		rates[name] = 0.001
	}
	own, err := Define(Definition{Name: "battery_soc_pct", Unit: "%", Request: "220105", Header: "7E4", Formula: "AF/2", Max: 100, Rate: 0.001})
	if err != nil {
		t.Fatal(err)
	}
	rates["battery_soc_pct"] = 0.001
	for _, test := range []struct {
		name string
		obd  sim.OBDConfig
		want int
	}{{"CAN", sim.OBDConfig{ECUs: 2}, 10}, {"K-line", sim.OBDConfig{Protocol: '5', ECUs: 2}, 9}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.obd.Listen = "pty"
			r, _ := workshop(t, test.obd, rates, 20, own)
			r.await("each signal once", 20*time.Second, func() bool { return len(r.names()) == test.want })
			time.Sleep(500 * time.Millisecond)
			asked := time.Now()
			values, err := r.control.SampleNow(within(t, 20*time.Second))
			took := time.Since(asked)
			if err != nil {
				t.Fatal(err)
			}
			if len(values) != test.want || took > 3*time.Second {
				t.Errorf("%d values after %v: %v", len(values), took, values)
			}
			if delivered := r.since(asked); len(delivered) != test.want {
				t.Errorf("delivered: %v", delivered)
			}
			t.Logf("%d values in %v", len(values), took.Round(time.Millisecond))
			r.check()
		})
	}
}

// Other rates hold for their time, survive that the adapter is pulled out, and go back.
func TestSetRates(t *testing.T) {
	t.Parallel()
	r, _ := workshop(t, sim.OBDConfig{Listen: "pty:" + t.TempDir() + "/usb-OBD-adapter", ECUs: 2},
		map[string]float64{"vehicle_speed_kmh": 1, "engine_speed_rpm": 1, "coolant_temperature_c": 0.1}, 0)
	rate := func(name string, d time.Duration) float64 {
		from := time.Now()
		time.Sleep(d)
		return float64(r.since(from)[name]) / d.Seconds()
	}
	const lasts = 9 * time.Second
	began := time.Now()
	if err := r.control.SetRates(within(t, 5*time.Second), map[string]float64{"vehicle_speed_kmh": 20, "engine_speed_rpm": 0, "fuel_level_pct": 10}, lasts); err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	time.Sleep(2 * time.Second)
	n := r.since(from.Add(100 * time.Millisecond))
	if n["vehicle_speed_kmh"] < 30 || n["fuel_level_pct"] < 15 || n["engine_speed_rpm"] > 0 {
		t.Errorf("in 2 s at other rates: %v", n)
	}
	r.injectFor("unplug", time.Second)
	r.await("the adapter is back", 20*time.Second, func() bool {
		return len(r.vehicle.Pending()) == 0 && r.after(time.Now().Add(-200*time.Millisecond), 1)()
	})
	if left := lasts - time.Since(began); left > 1500*time.Millisecond {
		if got := rate("vehicle_speed_kmh", time.Second); got < 15 {
			t.Errorf("after the adapter came back: %v Hz", got)
		}
	} else {
		t.Errorf("the adapter came back too late to tell: %v left", left)
	}
	time.Sleep(time.Until(began.Add(lasts + 200*time.Millisecond)))
	from = time.Now()
	time.Sleep(3 * time.Second)
	n = r.since(from)
	if n["vehicle_speed_kmh"] < 2 || n["vehicle_speed_kmh"] > 4 || n["engine_speed_rpm"] < 2 || n["engine_speed_rpm"] > 4 || n["fuel_level_pct"] > 0 {
		t.Errorf("in 3 s after that: %v", n)
	}
	r.check()
}

// The status tells the rates that hold, and those reached, within seconds.
func TestSetRatesShown(t *testing.T) {
	t.Parallel()
	r, _ := workshop(t, sim.OBDConfig{Listen: "pty"}, map[string]float64{"vehicle_speed_kmh": 4, "engine_speed_rpm": 2}, 0) // a reading more or less is 5 % at the most
	shows := func(name string, wanted float64) func() bool {
		return func() bool {
			return slices.ContainsFunc(r.rates.Read(), func(x telemetry.Rate) bool {
				return x.Signal == name && x.Wanted == wanted && x.Achieved > 0.9*wanted && x.Achieved < 1.1*wanted
			})
		}
	}
	if err := r.control.SetRates(within(t, 5*time.Second), map[string]float64{"vehicle_speed_kmh": 10}, 13*time.Second); err != nil {
		t.Fatal(err)
	}
	r.await("other rates are told", 12*time.Second, shows("vehicle_speed_kmh", 10))
	r.await("usual rates are told", 20*time.Second, shows("vehicle_speed_kmh", 4))
	if !shows("engine_speed_rpm", 2)() {
		t.Errorf("%+v", r.rates.Read())
	}
}

// What is asked for has bounds.
func TestSetRatesBounds(t *testing.T) {
	t.Parallel()
	r, _ := workshop(t, sim.OBDConfig{Listen: "pty"}, map[string]float64{"vehicle_speed_kmh": 5}, 0)
	for _, test := range []struct {
		name  string
		hertz float64
		d     time.Duration
		want  string
	}{
		{"vehicle_speed_kmh", 10, time.Second, ""},
		{"engine_speed_rpm", math.Inf(1), time.Second, ""},
		{"vehicle_speed_kmh", -1, time.Second, "allowed: 0 to 1000"},
		{"vehicle_speed_kmh", 1001, time.Second, "allowed: 0 to 1000"},
		{"vehicle_speed_kmh", math.NaN(), time.Second, "allowed: 0 to 1000"},
		{"vehicle_speed_kmh", 1, 0, "up to 1h"},
		{"vehicle_speed_kmh", 1, 2 * time.Hour, "up to 1h"},
		{"speed", 1, time.Second, `no signal is called "speed"; this car has: `},
		{"latitude", 1, time.Second, "GPS receiver"},
		{"short_term_fuel_trim_bank2_pct", 1, time.Second, "this car does not have"},
	} {
		err := r.control.SetRates(within(t, 5*time.Second), map[string]float64{test.name: test.hertz}, test.d)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s at %v for %v: %v, want %q", test.name, test.hertz, test.d, err, test.want)
		}
	}
}

// While the car is not read every call says why, at once, and nothing goes on the bus.
func TestControlNotRead(t *testing.T) {
	all := func(t *testing.T, c *Control, want string) {
		t.Helper()
		ctx := within(t, time.Second)
		_, codes := c.ReadCodes(ctx)
		_, identity := c.ReadIdentity(ctx)
		_, sample := c.SampleNow(ctx)
		rates := c.SetRates(ctx, map[string]float64{"vehicle_speed_kmh": 1}, time.Second)
		for i, err := range []error{codes, identity, sample, rates, c.ClearCodes(ctx)} {
			if !errors.Is(err, ErrNotRead) || !strings.Contains(err.Error(), want) {
				t.Errorf("call %d: %v, want %q", i, err, want)
			}
		}
	}
	t.Run("nobody reads", func(t *testing.T) {
		all(t, nil, "no adapter is set")
		all(t, new(Control), "is still looked for")
	})
	t.Run("no adapter", func(t *testing.T) {
		t.Parallel()
		r, _ := workshop(t, sim.OBDConfig{Listen: "pty:" + t.TempDir() + "/usb-OBD-adapter"}, nil, 0)
		r.injectFor("unplug", 5*time.Second)
		r.await("the adapter is gone", 10*time.Second, func() bool { return slices.Contains(r.conditions(), "adapter_missing") })
		all(t, r.control, "OBD adapter not reached")
	})
	t.Run("car off", func(t *testing.T) {
		t.Parallel()
		r, q := workshop(t, sim.OBDConfig{Listen: "pty"}, nil, 0)
		r.injectFor("ignition_off", 12*time.Second)
		r.await("the car is silent", 10*time.Second, func() bool { return slices.Contains(r.conditions(), "car_silent") })
		before, asked := q.count(), time.Now()
		all(t, r.control, "ignition on")
		if took := time.Since(asked); took > 500*time.Millisecond || q.count() > before+1 { // one of its own
			t.Errorf("%d requests in %v", q.count()-before, took)
		}
	})
}

// A call whose adapter is pulled out, or whose car is switched off, ends with the reason.
func TestControlLostInMidCall(t *testing.T) {
	for _, fault := range []string{"unplug", "ignition_off", "restart"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			// On a K-line at two requests a second a sample takes long.
			r, _ := workshop(t, sim.OBDConfig{Listen: "pty:" + t.TempDir() + "/usb-OBD-adapter", Protocol: '5'}, nil, 2)
			done := make(chan error, 1)
			go func() {
				_, err := r.control.SampleNow(within(t, 25*time.Second))
				done <- err
			}()
			time.Sleep(time.Second)
			r.injectFor(fault, 8*time.Second)
			err := <-done
			if err == nil || !strings.Contains(err.Error(), "the car was lost while it was asked") {
				t.Errorf("%v", err)
			}
			t.Log(err)
		})
	}
}

// Who gives up is free at once; the conversation goes on in step, and the next is served.
func TestControlContext(t *testing.T) {
	t.Parallel()
	r, _ := workshop(t, sim.OBDConfig{Listen: "pty", Protocol: '5'}, nil, 10)
	resyncs := r.counters.Read().Resyncs
	for range 5 {
		asked := time.Now()
		_, err := r.control.SampleNow(within(t, 150*time.Millisecond))
		if took := time.Since(asked); !errors.Is(err, context.DeadlineExceeded) || took > time.Second {
			t.Errorf("%v after %v", err, took)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.control.ReadCodes(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if codes, err := r.control.ReadCodes(within(t, 20*time.Second)); err != nil || len(codes.Stored) != 2 {
		t.Errorf("%+v, %v", codes, err)
	}
	if n := r.counters.Read().Resyncs; n != resyncs {
		t.Errorf("%d times out of step", n-resyncs)
	}
	r.check()
}

// Many calls at once are done one after the other, some are turned away with the reason,
// none is lost; and no second sees more requests than the ceiling allows.
func TestControlCrowd(t *testing.T) {
	const ceiling = 20
	for _, protocol := range []byte{'6', '5'} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			r, q := workshop(t, sim.OBDConfig{Listen: "pty", Protocol: protocol, ECUs: 2}, nil, ceiling)
			var crowd sync.WaitGroup
			var mu sync.Mutex
			served, turnedAway := 0, 0
			for i := range 40 {
				crowd.Go(func() {
					ctx := within(t, 60*time.Second)
					var err error
					switch i % 4 {
					case 0:
						_, err = r.control.ReadCodes(ctx)
					case 1:
						_, err = r.control.ReadIdentity(ctx)
					case 2:
						var values map[string]telemetry.Value
						if values, err = r.control.SampleNow(ctx); err == nil && len(values) < 20 {
							err = fmt.Errorf("only %d values", len(values))
						}
					case 3:
						err = r.control.SetRates(ctx, map[string]float64{"vehicle_speed_kmh": 10}, time.Second)
					}
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						served++
					case strings.Contains(err.Error(), "calls wait"):
						turnedAway++
					default:
						t.Error(err)
					}
				})
			}
			crowd.Wait()
			if served < mostCalls || turnedAway == 0 {
				t.Errorf("%d served, %d turned away", served, turnedAway)
			}
			q.mu.Lock()
			defer q.mu.Unlock()
			for i := range q.at {
				if i >= ceiling && q.at[i].Sub(q.at[i-ceiling]) < time.Second {
					t.Errorf("%d requests within %v", ceiling+1, q.at[i].Sub(q.at[i-ceiling]))
				}
			}
			t.Logf("%d served, %d turned away, %d requests", served, turnedAway, len(q.at))
			r.check()
		})
	}
}
