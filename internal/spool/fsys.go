package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fsys is every effect the spool has on the disk, and nothing more, so that a
// test can fail each one of them, or write them down and build the disks that
// a power cut at any moment could have left.
type fsys interface {
	mkdirAll(dir string) error
	list(dir string) ([]string, error) // names of files, in no order
	size(path string) (int64, error)
	free(dir string) (int64, error)   // bytes that may be written there
	create(path string) (file, error) // new or emptied, mode 0600, for reading and writing
	open(path string) (file, error)   // existing, for reading and writing
	remove(path string) error
	rename(from, to string) error
	syncDir(dir string) error             // names in dir are durable on return
	lock(path string) (lock, error)       // one holder at a time, gone with the process
	stands(path string, f file) error     // an error when the path does not lead to f any more
	readFile(path string) ([]byte, error) // small files only
}

// file is one open file of an fsys.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	size() (int64, error)
	sync() error     // content and size are durable on return
	datasync() error // content is durable on return, and size where it changed
}

// lock is a lock that is held.
type lock interface {
	stands() error // an error when its file is not there any more: another may hold it now
	release() error
}

// LockedError is returned by [Open] when another process, or another Spool of
// this one, holds the directory.
type LockedError struct {
	Dir string
	PID int // 0 when the holder has not written it yet
}

func (e *LockedError) Error() string {
	who := "another process"
	if e.PID > 0 {
		who = "process " + strconv.Itoa(e.PID)
	}
	return fmt.Sprintf("spool: %s is in use by %s: stop it, or use another state directory", e.Dir, who)
}

// osFS is the operating system's file system.
type osFS struct{}

type osFile struct{ *os.File }

func (f osFile) size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func (f osFile) sync() error { return f.Sync() }

func (f osFile) datasync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return wrapPath("fdatasync", f.Name(), err)
		}
	}
}

func wrapPath(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}

func (osFS) mkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

func (osFS) list(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

func (osFS) size(path string) (int64, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func (osFS) free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, wrapPath("statfs", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

func (osFS) create(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) open(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		return osFile{f}, nil
	}
	if errors.Is(err, unix.EROFS) {
		if f, err := os.Open(path); err == nil {
			return readOnlyFile{osFile{f}}, nil
		}
	}
	return nil, err
}

// readOnlyFile was opened on a file system that was read-only then. It is written when that
// is over.
type readOnlyFile struct{ osFile }

func (f readOnlyFile) WriteAt(b []byte, off int64) (int, error) {
	g, err := os.OpenFile(f.Name(), os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer g.Close()
	return g.WriteAt(b, off)
}

func (osFS) remove(path string) error     { return os.Remove(path) }
func (osFS) rename(from, to string) error { return os.Rename(from, to) }
func (osFS) readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 4096))
}

func (osFS) syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (osFS) stands(path string, f file) error {
	there, err := os.Stat(path)
	if err != nil {
		return err
	}
	ours, err := f.(interface{ Stat() (os.FileInfo, error) }).Stat()
	if err == nil && !os.SameFile(there, ours) {
		err = wrapPath("find", path, fs.ErrNotExist)
	}
	return err
}

type osLock struct{ osFile }

func (l osLock) stands() error  { return osFS{}.stands(l.Name(), l.osFile) }
func (l osLock) release() error { return l.Close() }

func (osFS) lock(path string) (lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, unix.EROFS) {
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, wrapPath("flock", path, err)
		}
		text, _ := io.ReadAll(io.LimitReader(f, 32))
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return nil, &LockedError{PID: max(pid, 0)}
	}
	// The number is for people and for the message above; the lock is the flock.
	pid := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt(pid, 0)
	}
	return osLock{osFile{f}}, nil
}

// writeNew makes a file whole or not at all, and returns it open: a temporary file is written
// and synced, then renamed into place, then the directory is synced.
func writeNew(disk fsys, dir, path string, content []byte) (f file, err error) {
	tmp := path + tmpSuffix
	f, err = disk.create(tmp)
	if err != nil {
		return nil, err
	}
	if _, err = f.WriteAt(content, 0); err == nil {
		err = f.sync()
	}
	if err == nil {
		err = disk.rename(tmp, path)
	}
	if err != nil {
		_ = f.Close()
		_ = disk.remove(tmp) // gives the space back; Open removes what stays
		return nil, err
	}
	if err = disk.syncDir(dir); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
