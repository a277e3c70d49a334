package spool

import "time"

// mostOld bounds how many records one upkeep gives up, for reading them takes time.
const mostOld = 4096

// Expire gives up, from now on, the oldest records whose payload is too old to be kept, as
// expired tells. It is asked now and then.
func (s *Spool) Expire(expired func(payload []byte) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expired = expired
	s.wake()
}

// giveUpOld gives up the oldest records as long as they are too old, of both classes, and
// names them. The caller holds wmu.
func (s *Spool) giveUpOld() {
	s.mu.Lock()
	expired, soon := s.expired, time.Since(s.aged) < ageEvery
	s.mu.Unlock()
	if expired == nil || soon {
		return
	}
	given := 0
	for c := range numClasses {
		for after := uint64(0); given < mostOld; given++ {
			r, ok, err := s.Next(c, after)
			if err != nil || !ok || !expired(r.Payload) {
				break
			}
			after = r.LSN
			s.giveUp(r.LSN)
		}
	}
	s.mu.Lock()
	if s.aged = time.Now(); given == mostOld {
		s.aged = time.Time{} // there are more
	}
	s.mu.Unlock()
	if given > 0 {
		s.log.Warn("spool: records were too old and are given up", "dir", s.dir, "records", given)
	}
}

// giveUp names a record as evicted.
func (s *Spool) giveUp(lsn uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settled.has(lsn) {
		return
	}
	if i, ok := s.heldIndex(lsn); ok {
		s.letHeld(i)
		s.name(lsn, lsn, reasonEvicted)
		return
	}
	seg, _, err := s.locate(lsn)
	if err != nil || s.settled.has(lsn) {
		return
	}
	s.name(lsn, lsn, reasonEvicted)
	if seg != nil {
		s.lessLeft(seg)
	}
}
