package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
)

const (
	segmentSize   = 256 << 10
	headerSize    = 512
	frameHeader   = 16
	maxPayload    = 1 << 20
	maxSegment    = maxPayload + frameHeader + 2*headerSize + 4096
	maxStreamID   = 64
	maxLSN        = 1 << 62 // far beyond use; keeps sums of LSNs from wrapping
	formatVersion = 1
	segMagic      = "tlmd.seg"
	segSuffix     = ".seg"
	tmpSuffix     = ".tmp"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the first 512 bytes of a segment, and again its last 512.
type header struct {
	size   uint32 // of the whole file as made
	class  Class
	first  uint64 // no record in here has a lower LSN
	base   uint64 // of the stream
	epoch  uint64 // see doc.go: which copy of an LSN counts
	fence  uint64 // first LSN of the epoch
	before uint64 // records of the class before this segment, for counting only
	stream string
	crc    uint32 // of the header; the frames' checksums start from it
}

func (h *header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, segMagic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], formatVersion)
	le.PutUint32(b[12:], h.size)
	b[16] = byte(h.class)
	b[17] = byte(len(h.stream))
	le.PutUint64(b[24:], h.first)
	le.PutUint64(b[32:], h.base)
	le.PutUint64(b[40:], h.epoch)
	le.PutUint64(b[48:], h.fence)
	le.PutUint64(b[56:], h.before)
	copy(b[64:64+maxStreamID], h.stream)
	h.crc = crc32.Checksum(b[:headerSize-4], castagnoli)
	le.PutUint32(b[headerSize-4:], h.crc)
	return b
}

var errHeader = errors.New("no valid header")

func decodeHeader(b []byte) (header, bool) {
	le := binary.LittleEndian
	if len(b) < headerSize || string(b[:8]) != segMagic || le.Uint32(b[8:]) != formatVersion ||
		le.Uint32(b[headerSize-4:]) != crc32.Checksum(b[:headerSize-4], castagnoli) {
		return header{}, false
	}
	h := header{
		size:   le.Uint32(b[12:]),
		class:  Class(b[16]),
		first:  le.Uint64(b[24:]),
		base:   le.Uint64(b[32:]),
		epoch:  le.Uint64(b[40:]),
		fence:  le.Uint64(b[48:]),
		before: le.Uint64(b[56:]),
		crc:    le.Uint32(b[headerSize-4:]),
	}
	n := int(b[17])
	if h.class >= numClasses || n == 0 || n > maxStreamID || h.size < 2*headerSize || h.size > maxSegment ||
		h.first == 0 || h.first > maxLSN || h.base >= h.first || h.fence <= h.base || h.fence > h.first ||
		h.epoch > maxLSN || h.before > maxLSN {
		return header{}, false
	}
	h.stream = string(b[64 : 64+n])
	return h, true
}

func segmentName(c Class, first uint64) string {
	return fmt.Sprintf("%c-%016x%s", "te"[c], first, segSuffix)
}

func parseSegmentName(name string) (c Class, first uint64, ok bool) {
	hex, found := strings.CutSuffix(name, segSuffix)
	if !found || len(hex) != 18 || hex[1] != '-' {
		return 0, 0, false
	}
	i := strings.IndexByte("te", hex[0])
	first, err := strconv.ParseUint(hex[2:], 16, 64)
	if i < 0 || err != nil || segmentName(Class(i), first) != name {
		return 0, 0, false
	}
	return Class(i), first, true
}

// headerIn finds a segment's header in its bytes: at their beginning or, where that is
// damaged, at their end. It must be the one of the file's name.
func headerIn(b []byte, c Class, first uint64) (header, bool) {
	for _, off := range []int{0, len(b) - headerSize} {
		if off < 0 || off+headerSize > len(b) {
			continue
		}
		if h, ok := decodeHeader(b[off : off+headerSize]); ok && h.class == c && h.first == first {
			return h, true
		}
	}
	return header{}, false
}

// readHeader reads it from the file; errHeader where there is none.
func readHeader(f file, c Class, first uint64) (h header, err error) {
	size, err := f.size()
	if err != nil {
		return header{}, err
	}
	b := make([]byte, headerSize)
	for _, off := range []int64{0, size - headerSize} {
		if off < 0 || size > maxSegment {
			continue
		}
		if _, err = f.ReadAt(b, off); err != nil {
			if errors.Is(err, io.EOF) {
				err = errHeader
			}
			continue
		}
		if h, ok := headerIn(b, c, first); ok {
			return h, nil
		}
		err = errHeader
	}
	if err == nil {
		err = errHeader
	}
	return header{}, err
}

// entry says where in its segment a record lies.
type entry struct {
	lsn uint64
	off uint32 // of the frame
	n   uint32 // bytes of payload
}

// putFrame appends the frame of a record to b.
func putFrame(b []byte, seed uint32, lsn uint64, payload []byte) []byte {
	le := binary.LittleEndian
	at := len(b)
	b = le.AppendUint32(b, uint32(len(payload)))
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, lsn)
	b = append(b, payload...)
	le.PutUint32(b[at+4:], frameCRC(seed, b[at:]))
	return b
}

// frameCRC is the checksum of a whole frame, its own field left out.
func frameCRC(seed uint32, frame []byte) uint32 {
	sum := crc32.Update(seed, castagnoli, frame[:4])
	return crc32.Update(sum, castagnoli, frame[8:])
}

// scan finds the records of a segment in its bytes: whole frames whose
// checksum holds and whose LSNs rise from h.first to limit. After a frame that
// does not hold it looks on at every byte. bad is what lies between records;
// end is where the last record ends.
func scan(b []byte, h header, limit uint64) (idx []entry, bad [][2]int, end int64) {
	le := binary.LittleEndian
	stop := min(len(b), int(h.size)-headerSize) // the copy of the header is no frame
	used := stop
	for used > headerSize && b[used-1] == 0 {
		used--
	}
	// Bytes on disk must not make us compute for ever: the search after
	// damage may checksum this much in all.
	budget := 64 * len(b)
	next, last := h.first, headerSize
	for off := headerSize; off < used && off+frameHeader <= stop; {
		n := int(le.Uint32(b[off:]))
		lsn := le.Uint64(b[off+8:])
		if n <= 0 || n > maxPayload || n > stop-off-frameHeader || lsn < next || lsn > limit {
			off++
			continue
		}
		frame := b[off : off+frameHeader+n]
		if off != last {
			if budget -= n; budget < 0 {
				break
			}
		}
		if le.Uint32(frame[4:]) != frameCRC(h.crc, frame) {
			off++
			continue
		}
		if off != last {
			bad = append(bad, [2]int{last, off})
		}
		idx = append(idx, entry{lsn, uint32(off), uint32(n)})
		next, off = lsn+1, off+len(frame)
		last = off
	}
	return idx, bad, int64(last)
}

// readSegment reads a segment's file. What the device cannot read comes as
// zeros, block by block, so that one bad sector does not take the rest along.
func readSegment(f file) ([]byte, error) {
	size, err := f.size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(max(size, 0), maxSegment))
	n, err := f.ReadAt(b, 0)
	if err == nil || errors.Is(err, io.EOF) {
		clear(b[n:])
		return b, nil
	}
	const block = 4096
	readable := false
	for off := 0; off < len(b); off += block {
		part := b[off:min(off+block, len(b))]
		if _, perr := f.ReadAt(part, int64(off)); perr != nil && !errors.Is(perr, io.EOF) {
			clear(part)
			continue
		}
		readable = true
	}
	if !readable {
		return nil, err // the device is gone rather than a sector bad
	}
	return b, nil
}
