package obd

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"telemetryd/internal/telemetry"
	"telemetryd/sim"
)

// scenarios say of each fault how it must be counted: as one of these causes, or told
// by a condition of health.
var scenarios = map[string]struct {
	causes     []Cause
	conditions []string
	canOnly    bool
	lasts      time.Duration // what fits it when zero
	limit      time.Duration // until values flow again, once the adapter can; 10 s when zero
}{
	"no_data":               {causes: []Cause{NoData}},
	"unable_to_connect":     {causes: []Cause{UnableToConnect}},
	"bus_init_error":        {causes: []Cause{BusInitError}},
	"bus_busy":              {causes: []Cause{BusTrouble}},
	"bus_error":             {causes: []Cause{BusTrouble}},
	"can_error":             {causes: []Cause{BusTrouble}},
	"data_error":            {causes: []Cause{DataError}},
	"fb_error":              {causes: []Cause{BusTrouble}},
	"buffer_full":           {causes: []Cause{BufferFull}},
	"stopped":               {causes: []Cause{Stopped}},
	"unknown_command":       {causes: []Cause{NotUnderstood}},
	"err_code":              {causes: []Cause{Restarted}, limit: restartLimit},
	"lp_alert":              {causes: []Cause{Alert}},
	"act_alert":             {causes: []Cause{Alert}},
	"data_error_mark":       {causes: []Cause{DataError}},
	"rx_error_mark":         {causes: []Cause{DataError}},
	"lv_reset":              {causes: []Cause{Restarted}, conditions: []string{"adapter_restarted"}, limit: restartLimit},
	"restart":               {causes: []Cause{Restarted}, conditions: []string{"adapter_restarted"}, limit: restartLimit},
	"silent_restart":        {causes: []Cause{Garbage, Echo}, conditions: []string{"adapter_restarted"}, limit: restartLimit},
	"mute":                  {causes: []Cause{NoPrompt}},
	"no_prompt":             {causes: []Cause{NoPrompt}},
	"late":                  {causes: []Cause{NoPrompt}},
	"banner_without_prompt": {causes: []Cause{Restarted}, limit: restartLimit},
	"stray_line":            {causes: []Cause{OtherECU, Incomplete}},
	"junk":                  {causes: []Cause{Junk}},
	"half_line":             {causes: []Cause{Incomplete, Garbage, Checksum}},
	"lost_bytes":            {causes: []Cause{Incomplete, Garbage, Checksum, WrongShape}},
	"echo_stuck":            {causes: []Cause{Echo}},
	"searching":             {causes: []Cause{Progress}},
	"bus_init_prefix":       {causes: []Cause{Progress}},
	"spare_prompt":          {causes: []Cause{SparePrompt}},
	"wrong_ecu":             {causes: []Cause{OtherECU}},
	"negative":              {causes: []Cause{Negative}},
	"negative_first":        {causes: []Cause{Negative}},
	"pending":               {causes: []Cause{AsksForTime}},
	"interleaved":           {causes: []Cause{OtherECU}, canOnly: true},
	"wrong_order":           {causes: []Cause{Incomplete}, canOnly: true},
	"lost_frame":            {causes: []Cause{Incomplete}, canOnly: true},
	"repeated_frame":        {causes: []Cause{Incomplete}, canOnly: true},
	"stall":                 {causes: []Cause{Late, NoPrompt}},
	"half_close":            {conditions: []string{"adapter_missing"}, limit: restartLimit},
	"unplug":                {conditions: []string{"adapter_missing"}, limit: restartLimit},
	"ignition_off":          {conditions: []string{"car_silent", "car_off"}, lasts: 10 * time.Second},
}

// A link that holds back what it carries for less than an answer may take: what comes
// then has no known time.
func TestShortStall(t *testing.T) {
	r := drive(t, sim.OBDConfig{Listen: "pty", ECUs: 2, Baud: 115200}, nil, 0)
	r.await("first values", 20*time.Second, r.after(time.Now(), 30))
	before := r.counters.Read()
	for range 3 {
		r.injectFor("stall", time.Second)
		r.await("the stall has acted", 20*time.Second, func() bool { return len(r.vehicle.Pending()) == 0 })
		r.await("values flow again", 10*time.Second, r.after(time.Now(), 20))
	}
	if after := r.counters.Read(); after.Trouble[Late] < before.Trouble[Late]+2 {
		t.Errorf("late answers: %d of at least 2 counted", after.Trouble[Late]-before.Trouble[Late])
	}
	r.check()
}

// One misunderstood request costs itself alone: the rate is as before.
func TestRateAfterTrouble(t *testing.T) {
	all := map[string]float64{}
	for name := range benchSignals {
		all[name] = math.Inf(1)
	}
	for _, fault := range []string{"unknown_command", "pending", "wrong_ecu", "lost_bytes", "no_data"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			r := drive(t, sim.OBDConfig{Listen: "pty", Baud: 115200}, all, 0)
			r.await("first values", 20*time.Second, r.after(time.Now(), 300))
			before := r.rate(2 * time.Second)
			for range 2 {
				r.inject(fault)
				r.await("the fault has acted", 20*time.Second, func() bool { return len(r.vehicle.Pending()) == 0 })
			}
			r.await("as many values as before", 10*time.Second, func() bool { return r.rate(2*time.Second) > 0.85*before })
			t.Logf("%.0f values/s before", before)
			r.check()
		})
	}
}

// restartLimit is for a chip that restarts and a plug that comes back.
const restartLimit = 15 * time.Second

// Each fault that the sim knows, on real ptys and on TCP, on CAN, on K-lines with the
// fast and the slow initialisation: values flow again soon, and every value ever
// delivered is one that the wanted ECU served at that time. On CAN a signal of one's
// own is read beside the engine's.
func TestToughness(t *testing.T) {
	own, err := Define(Definition{Name: "battery_soc_pct", Unit: "%", Request: "220105", Header: "7E4", Formula: "AF/2", Max: 100, Rate: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range sim.Faults() {
		s, told := scenarios[f.Name]
		if !told || len(s.causes) == 0 && s.conditions == nil {
			t.Errorf("no scenario for the fault %s", f.Name)
			continue
		}
		for _, bus := range []struct {
			name     string
			protocol byte
			listen   string
			speedup  float64
			own      []OwnSignal
			only     []string // faults
		}{
			{"CAN", '6', "pty:", 10, []OwnSignal{own}, nil},
			{"K-line", '5', "pty:", 10, nil, nil},
			// A bus is opened as slowly as in life.
			{"K-line at 5 baud", '3', "pty:", 1, nil, []string{"lv_reset", "restart", "unplug", "ignition_off", "no_data", "silent_restart"}},
			{"TCP", '7', "tcp://127.0.0.1:0", 10, nil, []string{"half_close", "unplug", "stall", "restart", "no_prompt"}},
		} {
			if s.canOnly && bus.own == nil || bus.only != nil && !slices.Contains(bus.only, f.Name) {
				continue
			}
			t.Run(f.Name+"/"+bus.name, func(t *testing.T) {
				t.Parallel()
				listen := bus.listen
				if listen == "pty:" {
					listen += filepath.Join(t.TempDir(), "usb-OBD-adapter")
				}
				r := driveFaster(t, bus.speedup, sim.OBDConfig{Listen: listen, Protocol: bus.protocol, ECUs: 2, Baud: 115200}, nil, 0, bus.own...)
				r.await("first values", 20*time.Second, r.after(time.Now(), 30))
				before := r.counters.Read()
				if f.Name == "banner_without_prompt" { // shows itself at a restart only
					r.inject("restart")
				}
				r.injectFor(f.Name, s.lasts)
				r.await("the fault has acted", 20*time.Second, func() bool { return len(r.vehicle.Pending()) == 0 })
				able := time.Now()
				limit := max(s.limit, 10*time.Second)
				r.await("values flow again", limit, func() bool {
					return r.after(able, 20)() && (bus.own == nil || r.since(able)["battery_soc_pct"] > 0)
				})
				t.Logf("%s: values flow again after %v", f.Says, r.firstAfter(able).Round(time.Millisecond))
				after := r.counters.Read()
				if len(s.causes) > 0 && !slices.ContainsFunc(s.causes, func(c Cause) bool { return after.Trouble[c] > before.Trouble[c] }) {
					t.Errorf("not counted as %v: %v", s.causes, after.Trouble)
				}
				if s.conditions != nil && !slices.ContainsFunc(s.conditions, func(c string) bool { return slices.Contains(r.conditions(), c) }) {
					t.Errorf("health never said %s, but %v", s.conditions, r.conditions())
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
		if slices.Contains([]string{"", "7E8", "10", "18DAF110", "7EC", "7BB", "18DAF1E4"}, s.ECU) {
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
	r.injectFor(name, 0)
}

func (r *rig) injectFor(name string, d time.Duration) {
	r.t.Helper()
	if err := r.vehicle.Inject(name, d); err != nil {
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

// since counts the values by signal from a time on.
func (r *rig) since(t time.Time) map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := map[string]int{}
	for _, x := range r.delivered {
		if r.start.Add(x.Arrived).After(t) {
			for _, f := range x.Fields {
				n[f.Name]++
			}
		}
	}
	return n
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
