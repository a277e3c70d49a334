package spool

import (
	"encoding/binary"
	"time"
)

const (
	ackName  = "acks"
	ackMagic = "tlmd.ack"
	ackRoom  = 32 << 10 // bytes per slot
	maxRun   = 2 * binary.MaxVarintLen64

	isClean    = 1 // flags
	hasDurable = 2
)

// ackState is what one slot of the file acks says.
type ackState struct {
	clean   bool   // written by Close
	highest uint64 // LSN, the highest used when it was written, be its record in memory alone
	durable uint64 // LSN, the highest whose record was on disk
	stream  stream // of the highest; no id when there is none
	settled spans  // acknowledged, or named in a gap
}

// encodeAcks is the body of a slot. Where not all runs fit, the lowest are
// kept; up to cutoff the slot is complete.
func encodeAcks(a ackState) (body []byte, cutoff uint64) {
	flags := byte(hasDurable)
	if a.clean {
		flags |= isClean
	}
	b := []byte{flags}
	b = binary.AppendUvarint(b, a.highest)
	b = binary.AppendUvarint(b, a.durable)
	b = putStream(b, a.stream)
	floor := a.settled.floor()
	b = binary.AppendUvarint(b, floor)
	prev := floor
	for i, r := range a.settled {
		if r.hi <= floor {
			continue
		}
		if len(b)+maxRun > ackRoom-slotHeader {
			return b, a.settled[i-1].hi
		}
		b = binary.AppendUvarint(b, r.lo-prev)
		b = binary.AppendUvarint(b, r.hi-r.lo)
		prev = r.hi
	}
	return b, maxLSN
}

func decodeAcks(body []byte) (ackState, bool) {
	r := reader{b: body}
	flags := r.u8()
	a := ackState{clean: flags&isClean != 0, highest: r.lsn()}
	if a.durable = a.highest; flags&hasDurable != 0 {
		a.durable = r.lsn()
	}
	a.stream = r.stream()
	prev := r.lsn()
	if prev > 0 {
		a.settled = spans{{1, prev}}
	}
	for len(r.b) > 0 && !r.bad {
		lo := prev + r.lsn()
		hi := lo + r.lsn()
		if lo <= prev || hi > maxLSN {
			r.bad = true
			break
		}
		a.settled.add(lo, hi)
		prev = hi
	}
	if r.bad || prev > a.highest || a.stream.base > a.highest {
		return ackState{}, false
	}
	return a, true
}

// covered says whether both slots of the file hold everything settled up to
// the version v, as far as the LSN reaches. Both, so that the loss of one
// never makes a record that was acknowledged and removed look missing.
func (s *Spool) covered(v int64, lsn uint64) bool {
	for i := range 2 {
		if s.slotVer[i] < v || s.slotCut[i] < lsn {
			return false
		}
	}
	return true
}

// save writes what is settled into the next slot, the gaps before it: a record must not count
// as settled on disk before the gap that names it is there. The caller holds wmu.
func (s *Spool) save(clean bool) error {
	for s.mu.Lock(); s.gapsDirty; s.mu.Lock() { // reading may find more meanwhile
		s.mu.Unlock()
		if err := s.saveGaps(); err != nil {
			return err
		}
	}
	v := s.version
	s.unsaved = 0
	st, _ := s.streamOf(s.last)
	durable := s.durable
	if s.shaky {
		durable = s.known
	}
	body, cutoff := encodeAcks(ackState{clean: clean, highest: s.last, durable: durable, stream: st, settled: s.settled})
	s.mu.Unlock()
	slot, both, err := s.acks.write(body)
	if err != nil {
		s.slotVer[slot] = -1
		s.mu.Lock()
		s.unsaved++
		s.mu.Unlock()
		return wrap("save acknowledgements", s.dir, err)
	}
	s.saved = time.Now()
	s.slotVer[slot], s.slotCut[slot] = v, cutoff
	if both {
		s.slotVer[1-slot], s.slotCut[1-slot] = v, cutoff
	}
	return nil
}

// cover persists until both slots hold all that is settled now. The caller
// holds wmu.
func (s *Spool) cover() error {
	for range 2 {
		s.mu.Lock()
		v := s.version
		s.mu.Unlock()
		if min(s.slotVer[0], s.slotVer[1]) >= v {
			return nil
		}
		if err := s.save(false); err != nil {
			return err
		}
	}
	return nil
}

// settle marks LSNs as needing no delivery any more. The caller holds mu.
func (s *Spool) settle(lo, hi uint64) {
	s.settled.add(lo, hi)
	s.version++
	s.unsaved++
	if s.unsaved == 1 || s.unsaved == saveMany {
		s.wake()
	}
}
