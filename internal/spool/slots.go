package spool

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"path/filepath"
)

const slotHeader = 32

// slots is a small file that is always whole: two slots of a fixed size,
// written in turn, each with a generation and a checksum. The older one stays
// as it was until the newer one is synced. Both are filled when the file is
// made, so that writing needs no space on a full disk.
type slots struct {
	disk  fsys
	dir   string
	path  string
	f     file   // nil: not there; the next write makes it
	magic string // 8 bytes
	room  int64  // bytes per slot, header included
	gen   uint64 // of the newest valid slot
	next  int    // slot to write next
}

// openSlots opens the file name in dir. bodies are those of the valid slots, the newest
// first. A file that is not there is made by the first write.
func openSlots(disk fsys, dir, name, magic string, room int64) (s *slots, bodies [][]byte, err error) {
	s = &slots{disk: disk, dir: dir, path: filepath.Join(dir, name), magic: magic, room: room}
	f, err := disk.open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	s.f = f
	for i := range 2 {
		gen, body, ok := s.read(i)
		switch {
		case !ok:
		case gen > s.gen:
			s.gen, s.next = gen, 1-i
			bodies = append([][]byte{body}, bodies...)
		default:
			bodies = append(bodies, body)
		}
	}
	return s, bodies, nil
}

// make makes the file with a body in both slots.
func (s *slots) make(body []byte) error {
	b := make([]byte, 2*s.room)
	copy(b, s.encode(s.gen+1, body))
	copy(b[s.room:], s.encode(s.gen+2, body))
	f, err := writeNew(s.disk, s.dir, s.path, b)
	if err != nil {
		return err
	}
	s.close()
	s.f, s.gen, s.next = f, s.gen+2, 0
	return nil
}

func (s *slots) close() {
	if s.f != nil {
		_ = s.f.Close()
	}
	s.f = nil
}

func (s *slots) encode(gen uint64, body []byte) []byte {
	b := make([]byte, slotHeader, slotHeader+len(body))
	copy(b, s.magic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], formatVersion)
	le.PutUint32(b[12:], uint32(len(body)))
	le.PutUint64(b[16:], gen)
	b = append(b, body...)
	le.PutUint32(b[24:], slotCRC(b))
	return b
}

func slotCRC(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:24], castagnoli), castagnoli, b[slotHeader:])
}

// read returns slot i when it is valid.
func (s *slots) read(i int) (gen uint64, body []byte, ok bool) {
	le := binary.LittleEndian
	head := make([]byte, slotHeader)
	if _, err := s.f.ReadAt(head, int64(i)*s.room); err != nil || string(head[:8]) != s.magic {
		return 0, nil, false
	}
	n := int64(le.Uint32(head[12:]))
	if le.Uint32(head[8:]) != formatVersion || n > s.room-slotHeader {
		return 0, nil, false
	}
	b := make([]byte, slotHeader+n)
	if _, err := s.f.ReadAt(b, int64(i)*s.room); err != nil || le.Uint32(b[24:]) != slotCRC(b) {
		return 0, nil, false
	}
	return le.Uint64(b[16:]), b[slotHeader:], true
}

// write puts body into the older slot; it is durable on return. Where the file has to be
// made, both slots get it. After an error the same slot is written again next time: the other
// one is the good one.
func (s *slots) write(body []byte) (slot int, both bool, err error) {
	slot = s.next
	err = fs.ErrNotExist
	if s.f != nil {
		err = s.disk.stands(s.path, s.f)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return slot, true, s.make(body)
	}
	if err != nil {
		return slot, false, err
	}
	if _, err := s.f.WriteAt(s.encode(s.gen+1, body), int64(slot)*s.room); err != nil {
		return slot, false, err
	}
	if err := s.f.datasync(); err != nil {
		return slot, false, err
	}
	s.gen++
	s.next = 1 - slot
	return slot, false, nil
}

// reader takes values off a slot's body; bad turns true at the first that is
// not there or not sane.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) bytes(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() byte {
	if v := r.bytes(1); v != nil {
		return v[0]
	}
	return 0
}

// lsn reads a varint that must be an LSN or a count of them.
func (r *reader) lsn() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || v > maxLSN {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) stream() stream {
	st := stream{base: r.lsn()}
	n := int(r.u8())
	if n > maxStreamID {
		r.bad = true
	}
	st.id = string(r.bytes(n))
	return st
}

func putStream(b []byte, st stream) []byte {
	b = binary.AppendUvarint(b, st.base)
	b = append(b, byte(len(st.id)))
	return append(b, st.id...)
}
