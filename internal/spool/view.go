package spool

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
)

// View opens the buffer in dir for looking at it, also while its daemon runs: nothing is
// written, locked or removed, and acknowledging has no effect but on the view. It shows
// the moment at which it was opened; what the daemon removes afterwards is skipped. A dir
// without a buffer is an error that is fs.ErrNotExist.
func View(dir string, log *slog.Logger) (*Spool, error) {
	if _, err := os.Stat(filepath.Join(dir, versionName)); err != nil {
		return nil, wrap("look", dir, err)
	}
	for try := 0; ; try++ {
		before, err := segmentNames(dir)
		if err != nil {
			return nil, wrap("look", dir, err)
		}
		s, err := Open(dir, Options{fs: viewFS{}, Log: log})
		if err != nil && (try == viewTries || !errors.Is(err, fs.ErrNotExist)) {
			return nil, err
		}
		// A segment that came or went meanwhile would look like one that was lost.
		after, failed := segmentNames(dir)
		if err == nil && (try == viewTries || failed == nil && slices.Equal(before, after)) {
			return s, nil
		}
		if err == nil {
			_ = s.Close()
		}
	}
}

// viewTries is how often a buffer is looked at anew that its daemon changes meanwhile;
// it takes more than 256 KiB in the time of one look.
const viewTries = 20

func segmentNames(dir string) ([]string, error) {
	all, err := osFS{}.list(dir)
	names := slices.DeleteFunc(all, func(name string) bool {
		_, _, ok := parseSegmentName(name)
		return !ok
	})
	slices.Sort(names)
	return names, err
}

// viewFS is the operating system's file system without its effects: recovery writes what
// it would, and nothing comes of it.
type viewFS struct{ osFS }

func (viewFS) mkdirAll(string) error       { return nil }
func (viewFS) create(string) (file, error) { return viewFile{}, nil }
func (viewFS) remove(string) error         { return nil }
func (viewFS) rename(string, string) error { return nil }
func (viewFS) syncDir(string) error        { return nil }
func (viewFS) lock(string) (lock, error)   { return viewLock{}, nil }
func (viewFS) stands(string, file) error   { return nil }

type viewLock struct{}

func (viewLock) stands() error  { return nil }
func (viewLock) release() error { return nil }

func (viewFS) open(path string) (file, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return viewFile{osFile{f}}, nil
}

type viewFile struct{ osFile }

func (viewFile) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }
func (viewFile) sync() error                            { return nil }
func (viewFile) datasync() error                        { return nil }
