package obd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Codes are the trouble codes that stand in the car.
type Codes struct {
	// MIL and Count are lamp and number of stored codes as the engine's ECU tells them;
	// nil when it does not.
	MIL   *bool `json:"mil_on,omitempty"`
	Count *int  `json:"dtc_count,omitempty"`
	// Codes by kind, never nil: none stand there, or the kind is not supported.
	Stored    []Code `json:"stored"`
	Pending   []Code `json:"pending"`
	Permanent []Code `json:"permanent"`
	// NotSupported are the kinds that this car does not tell.
	NotSupported []Kind `json:"not_supported,omitempty"`
}

// Code is a trouble code and the ECU that reports it.
type Code struct {
	Code string `json:"code"`          // P0301
	ECU  string `json:"ecu,omitempty"` // as its header names it; empty without headers
}

// of is where the codes of a kind go.
func (c *Codes) of(k Kind) *[]Code {
	return map[Kind]*[]Code{Stored: &c.Stored, Pending: &c.Pending, Permanent: &c.Permanent}[k]
}

// codesHeard is what became of the last request for codes of a kind.
type codesHeard struct {
	found           map[string][]string // by ECU; nil for no answer
	damaged, denied bool
	at              time.Duration
}

// heardIn judges an answer to a request for codes.
func heardIn(a Answer, found map[string][]string) codesHeard {
	switch {
	case damaged(a):
		return codesHeard{damaged: true}
	case len(found) > 0:
		return codesHeard{found: found}
	}
	return codesHeard{denied: a.Has(Negative), damaged: !a.Has(Negative) && !a.Has(NoData)}
}

// codeTries is how often something is asked that nobody answers.
const codeTries = 3

var errNoModes = errors.New("this car answers nothing of OBD-II but own signals: it has no trouble codes and no identity to read")

// ReadCodes reads the stored, pending and permanent codes of all ECUs, and the lamp, at
// once.
func (c *Control) ReadCodes(ctx context.Context) (Codes, error) {
	return ask(ctx, c, func(_ context.Context, d *reading, out *result[Codes]) (func() bool, error) {
		if out.err = d.modes(); out.err != nil {
			return nil, nil
		}
		began := d.Uptime()
		d.heardCodes = map[Kind]codesHeard{}
		tries := map[*task]int{}
		for _, t := range d.codes {
			t.soon(began)
		}
		lamp := d.plan.find(lampPID)
		if lamp != nil {
			lamp.soon(began)
		}
		again := func(t *task, answered bool) (pending bool) {
			if t.asked && !answered && tries[t] < codeTries-1 {
				tries[t]++
				t.soon(d.Uptime())
			}
			return !t.asked
		}
		return func() bool {
			pending := lamp != nil && again(lamp, d.lampRead >= began)
			for kind, t := range d.codes {
				if again(t, d.heardCodes[kind].found != nil) {
					pending = true
				}
			}
			for _, h := range d.heardCodes { // who says nothing may have been switched off
				pending = pending || h.found == nil && !h.denied && d.heard <= h.at
			}
			if !pending {
				out.value, out.err = d.collectCodes(began)
			}
			return !pending
		}, nil
	})
}

// modes is the error of a car that tells own signals alone.
func (d *reading) modes() error {
	if d.codes == nil {
		return errNoModes
	}
	return nil
}

// find is the task of a mode 01 parameter; nil for none.
func (s *schedule) find(pid byte) *task {
	if i := slices.IndexFunc(s.tasks, func(t *task) bool { return t.packs && t.pid == pid }); i >= 0 {
		return s.tasks[i]
	}
	return nil
}

// collectCodes makes Codes of what was heard since began.
func (d *reading) collectCodes(began time.Duration) (Codes, error) {
	c := Codes{Stored: []Code{}, Pending: []Code{}, Permanent: []Code{}}
	for _, kind := range []Kind{Stored, Pending, Permanent} {
		list, h := c.of(kind), d.heardCodes[kind]
		for ecu, codes := range h.found {
			for _, code := range codes {
				*list = append(*list, Code{code, ecu})
			}
		}
		slices.SortFunc(*list, func(a, b Code) int { return cmp.Or(cmp.Compare(a.ECU, b.ECU), cmp.Compare(a.Code, b.Code)) })
		*list = slices.Compact(*list)
		switch {
		case h.found != nil:
		case h.damaged:
			return Codes{}, fmt.Errorf("what the car tells of its %s codes comes damaged; ask again, and if it stays so look at the adapter's plug", kind)
		case h.denied, kind == Permanent, busOf(d.s.protocol).isCAN():
			c.NotSupported = append(c.NotSupported, kind)
		} // else: on older buses an ECU without codes may keep silent (SAE J1979)
	}
	if d.lampRead >= began && d.lamp.known {
		c.MIL, c.Count = new(d.lamp.on), new(d.lamp.count)
		if d.lamp.count > 0 && len(c.Stored) == 0 {
			return Codes{}, fmt.Errorf("the car counts %d stored codes, but tells none of them; ask again", d.lamp.count)
		}
	}
	return c, nil
}

// Identity is who the vehicle says it is (mode 09).
type Identity struct {
	VIN          string   `json:"vin,omitempty"`
	Calibrations []string `json:"calibration_ids,omitempty"`
	ECUName      string   `json:"ecu_name,omitempty"`
	ECU          string   `json:"ecu,omitempty"` // that was asked
	// Known is set when the car did not tell it now, but before: AgeS seconds ago.
	Known bool    `json:"known_before,omitempty"`
	AgeS  float64 `json:"age_s,omitempty"`
}

// ReadIdentity asks for VIN, calibration ids and the name of the ECU. What the car told
// before is returned where it tells nothing now.
func (c *Control) ReadIdentity(ctx context.Context) (Identity, error) {
	return ask(ctx, c, func(_ context.Context, d *reading, out *result[Identity]) (func() bool, error) {
		if out.err = d.modes(); out.err != nil {
			return nil, nil
		}
		done := false
		d.planIdentity(d.Uptime(), func(id identity) {
			done = true
			out.value = Identity{VIN: id.VIN, Calibrations: id.Calibrations, ECUName: id.ECUName, ECU: d.s.speaker}
			switch before := d.reader.identity; {
			case !id.equal(identity{}):
			case before == nil || d.identified == 0:
				out.err = errors.New("this car does not tell who it is: it has no VIN, calibration id or ECU name to read (mode 09), as many before 2002")
			default:
				out.value = Identity{VIN: before.VIN, Calibrations: before.Calibrations, ECUName: before.ECUName, ECU: d.s.speaker,
					Known: true, AgeS: round((d.Uptime() - d.identified).Seconds())}
			}
		})
		return func() bool { return done }, nil
	})
}
