package telemetry

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// A small value that is kept often wears a card by what its file costs, not by its size: a
// new file under the old name is some 70 kB of journal. So it is written in place, into one
// of two slots in turn, each with a generation and a checksum: the last good one stays as it
// was until the next is synced.
//
//	0         room        2*room
//	+---------+-----------+
//	| slot    | slot      |   slot: "tlmd.kpt"  u32 bytes  u32 CRC-32 (IEEE) of
//	+---------+-----------+         generation and value  u64 generation  value
//
// All numbers are little endian.
const (
	keptMagic  = "tlmd.kpt"
	keptHeader = 24
	keptRoom   = 4096 // of a slot, at least
	// mostKept bounds what is read of a file.
	mostKept = 4 << 20
)

// keptSlot is what a slot holds.
type keptSlot struct {
	generation uint64
	value      []byte
}

func encodeSlot(s keptSlot) []byte {
	b := make([]byte, keptHeader, keptHeader+len(s.value))
	copy(b, keptMagic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], uint32(len(s.value)))
	le.PutUint64(b[16:], s.generation)
	b = append(b, s.value...)
	le.PutUint32(b[12:], crc32.ChecksumIEEE(b[16:]))
	return b
}

// decodeSlots returns the slots that hold, the newest first, and which is the newest.
func decodeSlots(b []byte) (slots []keptSlot, newest int) {
	room := len(b) / 2
	le := binary.LittleEndian
	for i := range 2 {
		s := b[i*room : (i+1)*room]
		if len(s) < keptHeader || string(s[:8]) != keptMagic {
			continue
		}
		n := int(le.Uint32(s[8:]))
		if n < 0 || n > len(s)-keptHeader || le.Uint32(s[12:]) != crc32.ChecksumIEEE(s[16:keptHeader+n]) {
			continue
		}
		k := keptSlot{le.Uint64(s[16:]), s[keptHeader : keptHeader+n]}
		if len(slots) == 0 || k.generation > slots[0].generation {
			slots, newest = append([]keptSlot{k}, slots...), i
			continue
		}
		slots = append(slots, k)
	}
	return slots, newest
}

// LoadKept returns the value kept at path. That there is none is an error that is
// fs.ErrNotExist. A file that holds plain JSON, as earlier versions wrote, is the value.
func LoadKept(path string) ([]byte, error) {
	b, err := readKept(path)
	if err != nil {
		return nil, err
	}
	slots, _ := decodeSlots(b)
	switch {
	case len(slots) > 0:
		return slots[0].value, nil
	case bytes.HasPrefix(b, []byte("{")):
		return b, nil
	}
	return nil, fmt.Errorf("read %s: it is damaged", path)
}

func readKept(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, mostKept))
}

// SaveKept keeps a value at path, in place of the one before; it is durable when SaveKept
// returns. What a power cut leaves is the one or the other.
func SaveKept(path string, value []byte) error {
	b, err := readKept(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	slots, newest := decodeSlots(b)
	if room := len(b) / 2; len(slots) == 0 || keptHeader+len(value) > room {
		return newKept(path, value)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	next := int64(1-newest) * int64(len(b)/2)
	_, err = f.WriteAt(encodeSlot(keptSlot{slots[0].generation + 1, value}), next)
	if err == nil {
		err = dataSync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil { // what is in the file now, nobody knows
		return newKept(path, value)
	}
	return nil
}

// dataSync makes the content of a file durable, without what is told of it.
func dataSync(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// newKept makes the file, with room to grow, whole or not at all.
func newKept(path string, value []byte) error {
	room := keptRoom
	for room < keptHeader+len(value) {
		room *= 2
	}
	b := make([]byte, 2*room)
	copy(b, encodeSlot(keptSlot{1, value}))
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = os.Remove(temporary) // gives the space back
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
