package obd

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"telemetryd/internal/telemetry"
)

// What is read beside the signals, and how often: trouble codes, and whenever lamp or
// count change; identity once after the car was found.
const (
	codesRate     = 1.0 / 60
	permanentRate = 1.0 / 300
	onceRate      = 1 // how often what is read once is tried until it is known
)

// lamp is what PID 01 says of the malfunction indicator and of stored codes.
type lamp struct {
	known bool
	count int
	on    bool
}

// CodeData is the data of the events dtc_appeared and dtc_cleared.
type CodeData struct {
	Code string `json:"code"` // P0301
	Kind Kind   `json:"kind"`
	ECU  string `json:"ecu,omitempty"` // as its header names it: 7E8, 18DAF110, 10
	// FirstRead is set on codes found when the daemon first read them: they may have
	// appeared before.
	FirstRead bool `json:"first_read,omitempty"`
}

// LampData is the data of the event mil_changed.
type LampData struct {
	On    bool `json:"mil_on"`
	Count int  `json:"dtc_count"`
}

// FreezeFrameData is the data of the event freeze_frame: what the ECU kept of the
// moment in which a code was stored.
type FreezeFrameData struct {
	Code   string                     `json:"code"`
	ECU    string                     `json:"ecu,omitempty"`
	Values map[string]telemetry.Value `json:"values"`
}

// identity is the data of the event vehicle_identity (mode 09).
type identity struct {
	VIN          string   `json:"vin,omitempty"`
	Calibrations []string `json:"calibration_ids,omitempty"`
	ECUName      string   `json:"ecu_name,omitempty"`
}

func (i identity) equal(j identity) bool {
	return i.VIN == j.VIN && i.ECUName == j.ECUName && slices.Equal(i.Calibrations, j.Calibrations)
}

func (d *reading) event(kind string, severity telemetry.Severity, data any) {
	d.Event(telemetry.Event{Type: kind, Severity: severity, At: d.Uptime(), Data: data})
}

// planCodes plans trouble codes and identity. A car without mode 01 is left alone.
func (d *reading) planCodes() {
	if !d.s.speaks() {
		return
	}
	now := d.Uptime()
	d.codes = map[Kind]*task{}
	for _, mode := range []byte{0x03, 0x07, 0x0A} {
		kind, rate := codeModes[mode], codesRate
		if kind == Permanent {
			rate = permanentRate
		}
		t := newTask(fmt.Sprintf("%02X", mode), rate, now)
		t.take = func(a Answer) bool { return d.takeCodes(a, mode, kind) }
		d.codes[kind] = d.plan.alone(t)
	}
	d.planIdentity(now, func(identity) {})
	if d.owed {
		d.planFreezeFrame()
	}
}

// alone plans a request of its own to all ECUs.
func (s *schedule) alone(t *task) *task {
	t.query = query{text: t.request, undated: true}
	s.add(t)
	return t
}

// lampPID is the parameter that holds the lamp and the number of stored codes. It is
// read even when nobody wants its signals.
const (
	lampPID  = 0x01
	lampRate = 0.1
)

// lampChanged reads the codes at once when lamp or count of codes have changed.
func (d *reading) lampChanged(items []item) {
	i := slices.IndexFunc(items, func(it item) bool { return it.pid == lampPID })
	if i < 0 {
		return
	}
	d.lampRead = d.Uptime()
	now := lamp{known: true, on: items[i].data[0]&0x80 != 0, count: int(items[i].data[0] & 0x7F)}
	before := d.lamp
	d.believeSilence(now.count)
	if now == before {
		return
	}
	d.lamp = now
	if before.known {
		for _, t := range d.codes {
			t.soon(d.Uptime())
		}
	}
	if d.told.known && d.told.on == now.on {
		return
	}
	d.told = now
	severity := telemetry.Info
	if now.on {
		severity = telemetry.Warning
	}
	d.event("mil_changed", severity, LampData{now.on, now.count})
}

// takeCodes tells what appeared and what went.
func (d *reading) takeCodes(a Answer, mode byte, kind Kind) bool {
	found := codesOf(a, mode, busOf(d.s.protocol).isCAN())
	if d.heardCodes != nil {
		h := heardIn(a, found)
		h.at = d.Uptime()
		d.heardCodes[kind] = h
	}
	if damaged(a) {
		return false
	}
	for ecu, codes := range found {
		unsure := d.learnCodes(place{kind, ecu}, codes)
		d.codes[kind].again = d.codes[kind].again || unsure
	}
	d.noteSilence(a, kind, found)
	return len(found) > 0
}

// learnCodes takes the codes that stand at a place now; unsure asks for a second reading.
func (d *reading) learnCodes(p place, codes []string) (unsure bool) {
	changes, unsure := d.reader.codes.learn(p, codes)
	for _, c := range changes {
		data := CodeData{Code: c.code, Kind: p.kind, ECU: p.ecu, FirstRead: c.firstRead}
		if c.gone {
			d.event("dtc_cleared", telemetry.Info, data)
			continue
		}
		severity := telemetry.Info
		if p.kind == Stored {
			severity = telemetry.Warning
		}
		d.event("dtc_appeared", severity, data)
		if p.kind == Stored && p.ecu == d.s.speaker {
			d.planFreezeFrame()
		}
	}
	return unsure
}

// freezeFrame collects frame 0 of mode 02, a request at a time.
type freezeFrame struct {
	FreezeFrameData
	r       telemetry.Reading
	pending int
}

// planFreezeFrame plans the reading of frame 0: for which code it stands, which
// parameters it holds, then those.
func (d *reading) planFreezeFrame() {
	if d.frame != nil {
		return
	}
	f := &freezeFrame{FreezeFrameData: FreezeFrameData{ECU: d.s.speaker, Values: map[string]telemetry.Value{}}}
	d.frame, d.owed = f, true
	d.planFrozen(f, 0x02, func(data []byte) {
		if len(data) == 2 && (data[0] != 0 || data[1] != 0) {
			f.Code = troubleCode(data[0], data[1])
		}
	})
	d.planFrozenMap(f, 0)
}

// planFrozenMap plans the reading of which parameters the frame holds, and of those.
func (d *reading) planFrozenMap(f *freezeFrame, base byte) {
	d.planFrozen(f, base, func(data []byte) {
		if len(data) != 4 {
			return
		}
		for _, pid := range members(base, binary.BigEndian.Uint32(data)) {
			switch p := parameters[pid]; {
			case pid == base+0x20 && pid > base:
				d.planFrozenMap(f, pid)
			case p != nil && pid != lampPID:
				d.planFrozen(f, pid, func(data []byte) { _ = measure(&f.r, item{pid: pid, data: data}, nil) })
			}
		}
	})
}

// planFrozen plans the reading of one parameter of the frame.
func (d *reading) planFrozen(f *freezeFrame, pid byte, use func(data []byte)) {
	f.pending++
	t := newTask(fmt.Sprintf("02%02X00", pid), onceRate, d.Uptime())
	t.once = true
	t.ended = func() {
		if f.pending--; f.pending == 0 {
			d.frozen(f)
		}
	}
	t.take = func(a Answer) bool {
		for _, m := range a.Messages {
			if m.ECU == d.s.speaker && len(m.Data) == 3+width(pid) && m.Data[0] == 0x42 && m.Data[1] == pid && m.Data[2] == 0 {
				use(m.Data[3:])
				return true
			}
		}
		return false
	}
	d.plan.alone(t)
}

// frozen tells a frame whose every parameter was read or refused.
func (d *reading) frozen(f *freezeFrame) {
	d.frame, d.owed = nil, false
	for _, field := range f.r.Fields {
		f.Values[field.Name] = field.Value
	}
	if f.Code != "" && len(f.Values) > 0 {
		d.event("freeze_frame", telemetry.Info, f.FreezeFrameData)
	}
}

// planIdentity plans the reading of VIN, calibration ids and name of the ECU. read is
// told what the car has said of them, when it was asked for all.
func (d *reading) planIdentity(now time.Duration, read func(identity)) {
	var id identity
	can := busOf(d.s.protocol).isCAN()
	pending := 3
	for info, keep := range map[byte]func([]string){
		0x02: func(texts []string) { id.VIN = texts[0] },
		0x04: func(texts []string) { id.Calibrations = texts },
		0x0A: func(texts []string) { id.ECUName = texts[0] },
	} {
		t := newTask(fmt.Sprintf("09%02X", info), onceRate, now)
		t.once = true
		t.take = func(a Answer) bool {
			texts := vehicleText(a.Messages, d.s.speaker, info, can)
			if len(texts) == 0 {
				return false
			}
			keep(texts)
			return true
		}
		t.ended = func() {
			if pending--; pending > 0 {
				return
			}
			read(id)
			if id.equal(identity{}) {
				return
			}
			d.identified = d.Uptime()
			if d.reader.identity != nil && d.reader.identity.equal(id) {
				return
			}
			if before := d.reader.identity; before != nil && before.VIN != "" && id.VIN != "" && before.VIN != id.VIN {
				d.reader.codes, d.told = codeBook{}, lamp{} // those of another car
			}
			d.reader.identity = &id
			d.event("vehicle_identity", telemetry.Info, id)
		}
		d.plan.alone(t)
	}
}

// ownTasks are the tasks for the user's own signals that this bus can carry, those of one
// request together.
func (d *reading) ownTasks() (tasks []*task) {
	type key struct {
		request string
		to      channel
	}
	together := map[key][]*OwnSignal{}
	rates := map[key]float64{}
	var order []key
	for i := range d.Own {
		own := &d.Own[i]
		rate := d.ownRate(own)
		if rate <= 0 || !own.fits(busOf(d.s.protocol)) {
			continue
		}
		k := key{own.request, own.to}
		if together[k] == nil {
			order = append(order, k)
		}
		together[k] = append(together[k], own)
		rates[k] = max(rates[k], rate)
	}
	for _, k := range order {
		tasks = append(tasks, d.ownTask(together[k], rates[k]))
	}
	return tasks
}

// ownTask plans own signals of one request.
func (d *reading) ownTask(signals []*OwnSignal, rate float64) *task {
	first := signals[0]
	t := newTask(first.request, rate, d.Uptime())
	for _, own := range signals {
		t.signals = append(t.signals, own.Name)
	}
	t.query = query{text: first.request, to: first.to, others: first.to.filter + " " + first.request}
	t.take = func(a Answer) bool {
		var r telemetry.Reading
		answered := false
		for _, own := range signals {
			x, arrived, found, err := own.read(a, d.s.speaker)
			if !found {
				continue
			}
			answered, r.Arrived = true, arrived
			if err != nil || !r.AddTo(own.Signal, x) {
				d.Counters.refused()
			}
		}
		if len(r.Fields) > 0 {
			t.readings++
			d.Counters.values(len(r.Fields))
			d.Health.Clear("obd", "Values come from the car")
			d.deliver(r)
		}
		return answered
	}
	return t
}

// findOwn finds a car that answers no mode 01, as some electric cars do, by the
// user's own signals: the width of their header tells the bus.
func (r *reader) findOwn(ctx context.Context, s *session, silence error) error {
	for i := range r.Own {
		own := &r.Own[i]
		for _, digit := range map[Bus]string{CAN11: "68", CAN29: "79"}[own.bus] { // at 500 and 250 kbit/s
			found, err := s.tryOwn(ctx, own, byte(digit))
			if found || err != nil {
				return err
			}
		}
	}
	return silence
}

// tryOwn asks an own signal on a bus.
func (s *session) tryOwn(ctx context.Context, own *OwnSignal, digit byte) (found bool, err error) {
	taken, err := s.set(ctx, "ATTP"+string(digit))
	if err != nil || !taken {
		return false, err
	}
	s.protocol = digit
	a, err := s.exchange(ctx, query{text: own.request, to: own.to, opens: answerLimit}, never)
	if err != nil {
		return false, err
	}
	if _, _, found, _ = own.read(a, ""); found {
		s.car = car{protocol: digit}
	}
	return found, nil
}
