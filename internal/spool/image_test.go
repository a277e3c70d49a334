package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// A disk that writes down what is asked of it, so that every disk which a power cut at
// any moment could have left can be built: what was synced is there; of each later
// 512-byte sector, size and name, a coin decides.

const sector = 512

// content is the sectors of a file. A sector is never written in place: images share them.
type content [][]byte

var zeros = make([]byte, sector)

// inode is a file: what it holds now, and what a power cut cannot take.
type inode struct {
	now, safe content
	size      int // in bytes
	safeSize  int
}

func (in *inode) bytes() []byte { return bytes.Join(in.now, nil)[:in.size] }

type memFS struct {
	mu     sync.Mutex
	now    map[string]*inode
	safe   map[string]*inode
	fail   func() bool // whether the next datasync fails
	full   func() bool // whether the next create fails
	moment func()      // called before each effect
}

type memFile struct {
	fs   *memFS
	in   *inode
	name string // as it was opened
}

func (f *memFile) segment() bool {
	return strings.HasSuffix(strings.TrimSuffix(f.name, tmpSuffix), segSuffix)
}

var errDisk = errors.New("input/output error")

func newMemFS() *memFS { return &memFS{now: map[string]*inode{}, safe: map[string]*inode{}} }

func (m *memFS) effect(do func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.moment != nil {
		m.moment()
	}
	do()
}

func (m *memFS) mkdirAll(string) error { return nil }

func (m *memFS) list(dir string) (names []string, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for path := range m.now {
		if filepath.Dir(path) == dir {
			names = append(names, filepath.Base(path))
		}
	}
	return names, nil
}

func (m *memFS) size(path string) (int64, error) {
	f, err := m.open(path)
	if err != nil {
		return 0, err
	}
	return f.size()
}

func (m *memFS) free(string) (int64, error) { return 1 << 40, nil }

func (m *memFS) create(path string) (file, error) {
	if m.full != nil && m.full() {
		return nil, errDisk
	}
	in := &inode{}
	m.effect(func() { m.now[path] = in })
	return &memFile{m, in, filepath.Base(path)}, nil
}

func (m *memFS) open(path string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	in := m.now[path]
	if in == nil {
		return nil, fs.ErrNotExist
	}
	return &memFile{m, in, filepath.Base(path)}, nil
}

func (m *memFS) remove(path string) error {
	m.effect(func() { delete(m.now, path) })
	return nil
}

func (m *memFS) rename(from, to string) error {
	m.effect(func() { m.now[to] = m.now[from]; delete(m.now, from) })
	return nil
}

func (m *memFS) syncDir(string) error {
	m.effect(func() { m.safe = maps.Clone(m.now) })
	return nil
}

func (m *memFS) stands(path string, f file) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now[path] != f.(*memFile).in {
		return fs.ErrNotExist
	}
	return nil
}

func (m *memFS) lock(string) (lock, error) { return viewLock{}, nil }

func (m *memFS) readFile(path string) ([]byte, error) {
	f, err := m.open(path)
	if err != nil {
		return nil, err
	}
	return f.(*memFile).in.bytes(), nil
}

func (f *memFile) ReadAt(b []byte, off int64) (n int, _ error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	for at := int(off); n < len(b) && at < f.in.size; {
		part := f.in.now[at/sector][at%sector : min(sector, f.in.size-at/sector*sector)]
		k := copy(b[n:], part)
		n, at = n+k, at+k
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	f.fs.effect(func() {
		in := f.in
		if end := int(off) + len(b); end > in.size {
			in.size = end
		}
		now := slices.Clone(in.now)
		for len(now)*sector < in.size {
			now = append(now, zeros)
		}
		for n, at := 0, int(off); n < len(b); {
			s := slices.Clone(now[at/sector])
			k := copy(s[at%sector:], b[n:])
			now[at/sector] = s
			n, at = n+k, at+k
		}
		in.now = now
	})
	return len(b), nil
}

func (f *memFile) Close() error { return nil }

func (f *memFile) size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(f.in.size), nil
}

func (f *memFile) sync() error {
	f.fs.effect(func() { f.in.safe, f.in.safeSize = f.in.now, f.in.size })
	return nil
}

func (f *memFile) datasync() error {
	if f.fs.fail != nil && f.fs.fail() {
		return errDisk
	}
	return f.sync()
}

// image builds one disk that a power cut now could leave. The caller holds mu.
func (m *memFS) image(coin *rand.Rand) *memFS {
	heads := func() bool { return coin.IntN(2) == 0 }
	after := map[*inode]*inode{}
	survive := func(in *inode) *inode {
		if after[in] != nil {
			return after[in]
		}
		b, size := slices.Clone(in.safe), in.safeSize
		if in.size > size && heads() {
			size = in.size
			for len(b) < len(in.now) {
				b = append(b, zeros)
			}
		}
		for i := range b {
			if i < len(in.now) && &b[i][0] != &in.now[i][0] && heads() {
				b[i] = in.now[i]
			}
		}
		after[in] = &inode{b, b, size, size}
		return after[in]
	}
	out := map[string]*inode{}
	names := slices.Collect(maps.Keys(m.now))
	for name := range m.safe {
		if m.now[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		in := m.safe[name]
		if now := m.now[name]; in != now && heads() {
			in = now
		}
		if in != nil {
			out[name] = survive(in)
		}
	}
	return &memFS{now: out, safe: maps.Clone(out)}
}

// clone is a disk of its own with the same files, all of them synced.
func (m *memFS) clone() *memFS {
	files := map[string]*inode{}
	for name, in := range m.now {
		files[name] = &inode{in.now, in.now, in.size, in.size}
	}
	return &memFS{now: files, safe: maps.Clone(files)}
}

var digests = maphash.MakeSeed()

// digest tells images apart.
func (m *memFS) digest() uint64 {
	var h maphash.Hash
	h.SetSeed(digests)
	for _, name := range slices.Sorted(maps.Keys(m.now)) {
		_, _ = h.WriteString(name)
		maphash.WriteComparable(&h, m.now[name].size)
		for i, s := range m.now[name].now {
			if &s[0] != &zeros[0] {
				maphash.WriteComparable(&h, i)
				_, _ = h.Write(s)
			}
		}
	}
	return h.Sum64()
}

// Disks and formats that are wrong: each of them has to be found by the images.

// noSync loses what it says is synced, of segments or of all other files.
type noSync struct {
	*memFS
	segments bool
}

func (d noSync) open(path string) (file, error) {
	f, err := d.memFS.open(path)
	if err != nil {
		return nil, err
	}
	return noSyncFile{f.(*memFile), d.segments}, nil
}

func (d noSync) create(path string) (file, error) {
	f, err := d.memFS.create(path)
	if err != nil {
		return nil, err
	}
	return noSyncFile{f.(*memFile), d.segments}, nil
}

func (d noSync) stands(path string, f file) error {
	return d.memFS.stands(path, f.(noSyncFile).memFile)
}

type noSyncFile struct {
	*memFile
	segments bool
}

func (f noSyncFile) datasync() error {
	if f.segment() == f.segments {
		return nil
	}
	return f.memFile.datasync()
}

// noDirSync keeps no name.
type noDirSync struct{ *memFS }

func (noDirSync) syncDir(string) error { return nil }

// removeFirst removes segments, and gives them new names, before what was written to acks and
// gaps earlier is synced.
type removeFirst struct {
	*memFS
	late map[*memFile]bool
}

type lateFile struct {
	*memFile
	disk *removeFirst
}

func (d *removeFirst) open(path string) (file, error) {
	f, err := d.memFS.open(path)
	if err != nil {
		return nil, err
	}
	return lateFile{f.(*memFile), d}, nil
}

func (d *removeFirst) create(path string) (file, error) {
	f, err := d.memFS.create(path)
	if err != nil {
		return nil, err
	}
	return lateFile{f.(*memFile), d}, nil
}

func (d *removeFirst) stands(path string, f file) error {
	return d.memFS.stands(path, f.(lateFile).memFile)
}

func (f lateFile) datasync() error {
	if f.segment() {
		return f.memFile.datasync()
	}
	f.disk.late[f.memFile] = true
	return nil
}

func (d *removeFirst) remove(path string) error {
	err := d.memFS.remove(path)
	d.catchUp()
	return err
}

func (d *removeFirst) rename(from, to string) error {
	err := d.memFS.rename(from, to)
	if strings.HasSuffix(from, segSuffix) {
		_ = d.memFS.syncDir("")
		d.catchUp()
	}
	return err
}

func (d *removeFirst) catchUp() {
	for f := range d.late {
		_ = f.datasync()
	}
	clear(d.late)
}

// mendChecksums makes each frame's checksum hold, as if there were none.
func mendChecksums(m *memFS) {
	le := binary.LittleEndian
	for name, in := range m.now {
		if !strings.HasSuffix(name, segSuffix) {
			continue
		}
		b := in.bytes()
		if len(b) < headerSize {
			continue
		}
		h, ok := decodeHeader(b[:headerSize])
		if !ok {
			continue
		}
		for off := headerSize; off+frameHeader <= len(b)-headerSize; {
			n := int(le.Uint32(b[off:]))
			if n == 0 || n > len(b)-headerSize-off-frameHeader {
				break
			}
			frame := b[off : off+frameHeader+n]
			le.PutUint32(frame[4:], frameCRC(h.crc, frame))
			off += len(frame)
		}
		mended := &inode{size: in.size, safeSize: in.size}
		for at := 0; at < len(b); at += sector {
			mended.now = append(mended.now, append(slices.Clone(b[at:min(at+sector, len(b))]), zeros...)[:sector])
		}
		mended.safe = mended.now
		m.now[name] = mended
	}
}
