package obd

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rzetterberg/elmobd"

	"telemetryd/internal/telemetry"
)

// catalogue makes a fresh elmobd command for each PID that the catalogue decodes
// rightly; a command carries its value, so it must not be shared. What elmobd
// lacks or gets wrong has a Formula in the signal table.
var catalogue = map[byte]func() elmobd.OBDCommand{
	0x05: func() elmobd.OBDCommand { return elmobd.NewCoolantTemperature() },
	0x06: func() elmobd.OBDCommand { return elmobd.NewShortFuelTrim1() },
	0x07: func() elmobd.OBDCommand { return elmobd.NewLongFuelTrim1() },
	0x08: func() elmobd.OBDCommand { return elmobd.NewShortFuelTrim2() },
	0x09: func() elmobd.OBDCommand { return elmobd.NewLongFuelTrim2() },
	0x0A: func() elmobd.OBDCommand { return elmobd.NewFuelPressure() },
	0x0B: func() elmobd.OBDCommand { return elmobd.NewIntakeManifoldPressure() },
	0x0C: func() elmobd.OBDCommand { return elmobd.NewEngineRPM() },
	0x0D: func() elmobd.OBDCommand { return elmobd.NewVehicleSpeed() },
	0x0F: func() elmobd.OBDCommand { return elmobd.NewIntakeAirTemperature() },
	0x10: func() elmobd.OBDCommand { return elmobd.NewMafAirFlowRate() },
	0x1C: func() elmobd.OBDCommand { return elmobd.NewOBDStandards() },
	0x1F: func() elmobd.OBDCommand { return elmobd.NewRuntimeSinceStart() },
	0x31: func() elmobd.OBDCommand { return elmobd.NewDistSinceDTCClear() },
	0x33: func() elmobd.OBDCommand { return elmobd.NewAbsoluteBarometricPressure() },
	0x42: func() elmobd.OBDCommand { return elmobd.NewControlModuleVoltage() },
	0x46: func() elmobd.OBDCommand { return elmobd.NewAmbientTemperature() },
	0x5C: func() elmobd.OBDCommand { return elmobd.NewEngineOilTemperature() },
}

// parameter is a mode 01 PID: how many bytes it has and which signals they give.
type parameter struct {
	pid     byte
	width   int
	signals []telemetry.Signal
}

// parameters holds every PID of the signal table.
var parameters = func() map[byte]*parameter {
	m := map[byte]*parameter{}
	for _, s := range telemetry.Signals() {
		if s.Source != telemetry.FromCar {
			continue
		}
		p := m[s.PID]
		if p == nil {
			p = &parameter{pid: s.PID}
			m[s.PID] = p
		}
		if s.Formula != nil {
			p.width = s.Formula.Of
		} else {
			p.width = int(catalogue[s.PID]().DataWidth())
		}
		p.signals = append(p.signals, s)
	}
	return m
}()

// isBitmap reports whether pid lists the supported PIDs among the next 32.
func isBitmap(pid byte) bool { return pid%0x20 == 0 }

// widths are the lengths in bytes of PIDs that give no signal, by SAE J1979: an
// answer to several PIDs can be cut only when the length of each is known.
var widths = func() map[byte]int {
	m := map[byte]int{}
	for w, pids := range map[int][][2]byte{ // first to last
		1: {{0x12, 0x13}, {0x1D, 0x1E}, {0x2C, 0x2E}, {0x47, 0x4B}, {0x51, 0x52}, {0x5A, 0x5B}, {0x5F, 0x5F}},
		2: {{0x02, 0x03}, {0x14, 0x1B}, {0x22, 0x23}, {0x32, 0x32}, {0x3C, 0x3F}, {0x4D, 0x4E}, {0x53, 0x59}, {0x5D, 0x5D}},
		4: {{0x24, 0x2B}, {0x34, 0x3B}, {0x41, 0x41}, {0x4F, 0x50}},
		5: {{0x64, 0x64}},
	} {
		for _, span := range pids {
			for pid := int(span[0]); pid <= int(span[1]); pid++ {
				m[byte(pid)] = w
			}
		}
	}
	for pid := 0; pid < 0x100; pid += 0x20 {
		m[byte(pid)] = 4
	}
	return m
}()

// width returns the length of a PID's data in bytes; 0 when it is not known.
func width(pid byte) int {
	if p := parameters[pid]; p != nil {
		return p.width
	}
	return widths[pid]
}

// item is the data of one PID within a message.
type item struct {
	pid     byte
	data    []byte
	arrived time.Duration // of the message's last byte
}

// errShape is a mode 01 message whose length does not fit its PIDs.
var errShape = errors.New("length does not fit its PIDs")

// split cuts a mode 01 message into its PIDs. allowed are those asked for, nil for
// any. The whole message is refused when a PID was not asked for, comes twice or
// does not end where the message ends: what cannot be cut surely is not cut.
func split(data []byte, allowed []byte) ([]item, error) {
	if len(data) < 2 || data[0] != 0x41 {
		return nil, errShape
	}
	var items []item
	for rest := data[1:]; len(rest) > 0; {
		pid := rest[0]
		w := width(pid)
		switch {
		case w == 0:
			return nil, fmt.Errorf("PID %02X has no known length", pid)
		case allowed != nil && !slices.Contains(allowed, pid):
			return nil, fmt.Errorf("PID %02X was not asked for", pid)
		case len(rest) < 1+w:
			return nil, errShape
		case slices.ContainsFunc(items, func(it item) bool { return it.pid == pid }):
			return nil, fmt.Errorf("PID %02X comes twice", pid)
		}
		items = append(items, item{pid: pid, data: rest[1 : 1+w]})
		rest = rest[1+w:]
	}
	return items, nil
}

// measure appends the signals of one PID to r, those in wanted, or all when wanted
// is nil. A value out of the signal's range is refused and returned as an error.
func measure(r *telemetry.Reading, it item, wanted func(name string) bool) error {
	p := parameters[it.pid]
	if p == nil {
		return nil // gives no signal
	}
	var refused error
	for _, s := range p.signals {
		if wanted != nil && !wanted(s.Name) {
			continue
		}
		if s.Formula != nil && s.Formula.Bool {
			r.Fields = append(r.Fields, telemetry.Field{Name: s.Name, Value: telemetry.Bool(s.Formula.Raw(it.data) != 0)})
			continue
		}
		x, err := number(s, it)
		if err != nil {
			refused = err
		} else if !r.Add(s.Name, x) {
			refused = fmt.Errorf("%s %v is out of range", s.Name, x)
		}
	}
	return refused
}

func number(s telemetry.Signal, it item) (float64, error) {
	if s.Formula != nil {
		return s.Formula.Number(it.data), nil
	}
	// elmobd reads literals with spaces between.
	var line strings.Builder
	fmt.Fprintf(&line, "41 %02X", it.pid)
	for _, b := range it.data {
		fmt.Fprintf(&line, " %02X", b)
	}
	cmd := catalogue[it.pid]()
	result, err := elmobd.NewResult(line.String())
	if err == nil {
		err = result.Validate(cmd)
	}
	if err == nil {
		err = cmd.SetValue(result)
	}
	if err != nil {
		return 0, fmt.Errorf("decode PID %02X: %w", it.pid, err)
	}
	x, err := strconv.ParseFloat(cmd.ValueAsLit(), 64)
	if err != nil {
		return 0, fmt.Errorf("decode PID %02X: %w", it.pid, err)
	}
	return x, nil
}
