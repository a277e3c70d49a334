package obd

// noteSilence notes the places whose ECU said nothing when asked for its codes. On buses
// other than CAN one without codes may keep silent (SAE J1979), so that this may say that
// they are gone; or that the car was just switched off. The lamp, which every ECU of an
// engine tells, shows which: it is asked at once.
func (d *reading) noteSilence(a Answer, kind Kind, found map[string][]string) {
	if kind == Permanent || busOf(d.s.protocol).isCAN() || a.Has(Negative) || len(found) == 0 && !a.Has(NoData) {
		return
	}
	for p, codes := range d.reader.codes.known {
		if _, spoke := found[p.ecu]; p.kind != kind || spoke || len(codes) == 0 {
			continue
		}
		if d.quiet == nil {
			d.quiet = map[place]bool{}
		}
		d.quiet[p] = true
		if t := d.plan.find(lampPID); t != nil {
			t.soon(d.Uptime())
		}
	}
}

// believeSilence takes it for none where the car has spoken since, unless its engine still
// counts stored codes.
func (d *reading) believeSilence(count int) {
	for p := range d.quiet {
		delete(d.quiet, p)
		if p.kind == Stored && p.ecu == d.s.speaker && count > 0 {
			continue
		}
		if d.learnCodes(p, nil) {
			d.codes[p.kind].soon(d.Uptime())
		}
	}
}
