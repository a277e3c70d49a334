package obd

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
	"telemetryd/sim"
)

// scenarios say of each fault how it must be counted. Health tells some of them by a
// condition instead.
var scenarios = map[string]struct {
	cause     Cause
	condition string
	canOnly   bool
	limit     time.Duration // until values flow again, once the adapter can; 10 s when zero
}{
	"no_data":               {cause: NoData},
	"unable_to_connect":     {cause: UnableToConnect},
	"bus_init_error":        {cause: BusInitError},
	"bus_busy":              {cause: BusTrouble},
	"bus_error":             {cause: BusTrouble},
	"can_error":             {cause: BusTrouble},
	"data_error":            {cause: DataError},
	"fb_error":              {cause: BusTrouble},
	"buffer_full":           {cause: BufferFull},
	"stopped":               {cause: Stopped},
	"unknown_command":       {cause: NotUnderstood},
	"err_code":              {cause: Restarted, limit: 15 * time.Second},
	"lp_alert":              {cause: Alert},
	"act_alert":             {cause: Alert},
	"data_error_mark":       {cause: DataError},
	"rx_error_mark":         {cause: DataError},
	"lv_reset":              {cause: Restarted, condition: "adapter_restarted", limit: 15 * time.Second},
	"restart":               {cause: Restarted, condition: "adapter_restarted", limit: 15 * time.Second},
	"silent_restart":        {condition: "adapter_restarted", limit: 15 * time.Second},
	"mute":                  {cause: NoPrompt},
	"no_prompt":             {cause: NoPrompt},
	"late":                  {cause: NoPrompt},
	"banner_without_prompt": {},
	"stray_line":            {},
	"junk":                  {},
	"half_line":             {},
	"echo_stuck":            {},
	"searching":             {},
	"bus_init_prefix":       {},
	"spare_prompt":          {},
	"wrong_ecu":             {},
	"negative":              {cause: Negative},
	"negative_first":        {cause: Negative},
	"pending":               {},
	"interleaved":           {canOnly: true},
	"wrong_order":           {cause: Incomplete, canOnly: true},
	"lost_frame":            {cause: Incomplete, canOnly: true},
	"repeated_frame":        {cause: Incomplete, canOnly: true},
	"stall":                 {},
	"half_close":            {condition: "adapter_missing", limit: 15 * time.Second},
	"unplug":                {condition: "adapter_missing", limit: 15 * time.Second},
	"ignition_off":          {condition: "car_silent"},
}

// Each fault that the sim knows, on a real pty (half_close on TCP, too), on CAN and
// on a K-line: values flow again soon, and every value ever delivered is one that the
// engine's ECU served at that time.
func TestToughness(t *testing.T) {
	for _, f := range sim.Faults() {
		s, told := scenarios[f.Name]
		if !told {
			t.Errorf("no scenario for the fault %s", f.Name)
			continue
		}
		for _, bus := range []struct {
			name     string
			protocol byte
			listen   string
		}{{"CAN", '6', "pty:"}, {"K-line", '5', "pty:"}, {"TCP", '7', "tcp://127.0.0.1:0"}} {
			if s.canOnly && bus.name == "K-line" || bus.name == "TCP" && !slices.Contains([]string{"half_close", "unplug", "stall", "restart", "no_prompt"}, f.Name) {
				continue
			}
			t.Run(f.Name+"/"+bus.name, func(t *testing.T) {
				t.Parallel()
				listen := bus.listen
				if listen == "pty:" {
					listen += filepath.Join(t.TempDir(), "usb-OBD-adapter")
				}
				r := drive(t, sim.OBDConfig{Listen: listen, Protocol: bus.protocol, ECUs: 2, Baud: 115200}, nil, 0)
				r.await("first values", 20*time.Second, r.after(time.Now(), 30))
				before := r.counters.Read()
				if f.Name == "banner_without_prompt" { // shows itself at a restart only
					r.inject("restart")
				}
				r.inject(f.Name)
				r.await("the fault has acted", 20*time.Second, func() bool { return len(r.vehicle.Pending()) == 0 })
				able := time.Now()
				limit := max(s.limit, 10*time.Second)
				r.await("values flow again", limit, r.after(able, 20))
				t.Logf("%s: values flow again after %v", f.Says, r.firstAfter(able).Round(time.Millisecond))
				after := r.counters.Read()
				if s.cause != "" && after.Trouble[s.cause] == before.Trouble[s.cause] {
					t.Errorf("not counted as %s: %v", s.cause, after.Trouble)
				}
				if s.condition != "" && !slices.Contains(r.conditions(), s.condition) {
					t.Errorf("health never said %s, but %v", s.condition, r.conditions())
				}
				r.check()
			})
		}
	}
}

// tooFarOff is how much the time of a reading may differ from the truth.
const tooFarOff = 200 * time.Millisecond

// check compares every delivered value with the truth log: served under that name, by
// the engine's ECU, at that time.
func (r *rig) check() {
	r.t.Helper()
	time.Sleep(50 * time.Millisecond) // the truth of what is on its way
	r.mu.Lock()
	defer r.mu.Unlock()
	byName := map[string][]sim.Truth{}
	for _, s := range r.served {
		if s.ECU == "" || s.ECU == "7E8" || s.ECU == "10" || s.ECU == "18DAF110" || s.ECU == "7EC" {
			for name := range s.Values {
				byName[name] = append(byName[name], s)
			}
		}
	}
	values, wrong := 0, 0
	for _, got := range r.delivered {
		at := r.start.Add(got.Arrived)
		for _, f := range got.Fields {
			values++
			list := byName[f.Name]
			i, _ := slices.BinarySearchFunc(list, at.Add(-tooFarOff), func(s sim.Truth, t time.Time) int { return s.T.Compare(t) })
			found := false
			for ; i < len(list) && !list[i].T.After(at.Add(tooFarOff)); i++ {
				found = found || same(list[i].Values[f.Name], f.Value)
			}
			if !found {
				if wrong++; wrong <= 5 {
					r.t.Errorf("%s=%v at %v was not served then", f.Name, f.Value, got.Arrived)
				}
			}
		}
	}
	if values == 0 {
		r.t.Error("no value was delivered")
	}
}

func same(truth any, v telemetry.Value) bool {
	if b, ok := truth.(bool); ok {
		return telemetry.Bool(b) == v
	}
	x, ok := v.Float()
	return ok && fmt.Sprint(truth) == fmt.Sprint(x)
}

func (r *rig) inject(name string) {
	r.t.Helper()
	if err := r.vehicle.Inject(name, 0); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) await(what string, limit time.Duration, done func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(limit); !done(); time.Sleep(10 * time.Millisecond) { // waiting for goroutines on real ports
		if time.Now().After(deadline) {
			r.t.Fatalf("within %v not seen: %s; conditions %v", limit, what, strings.Join(r.conditions(), " "))
		}
	}
}

// after reports when n readings of the car came after a time.
func (r *rig) after(t time.Time, n int) func() bool {
	return func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		count := 0
		for i := len(r.delivered) - 1; i >= 0 && r.start.Add(r.delivered[i].Arrived).After(t); i-- {
			if r.delivered[i].Fields[0].Name != "battery_voltage_v" {
				count++
			}
		}
		return count >= n
	}
}

func (r *rig) firstAfter(t time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, got := range r.delivered {
		if at := r.start.Add(got.Arrived); at.After(t) && got.Fields[0].Name != "battery_voltage_v" {
			return at.Sub(t)
		}
	}
	return -1
}

func (r *rig) conditions() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.health)
}
