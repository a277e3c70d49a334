package local

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Name is the socket's in the state directory.
const Name = "socket"

const (
	// mostPath is how long the path of a socket may be (unix(7), sun_path).
	mostPath = 107
	// mode lets the group of the daemon in.
	mode = 0o660
)

// address is a way to the socket that the kernel takes. Where the path is too long for it,
// that leads over the directory, held open until done is called.
func address(dir string) (path string, done func(), err error) {
	if path = filepath.Join(dir, Name); len(path) <= mostPath {
		return path, func() {}, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), Name), func() { d.Close() }, nil
}

// listener is the socket of a daemon.
type listener struct {
	*net.UnixListener
	path string
	done func()
	file fs.FileInfo
}

// listen opens the socket in a directory that is ours alone: who left one there is dead.
func listen(dir string) (*listener, error) {
	path, done, err := address(dir)
	if err != nil {
		return nil, err
	}
	l, err := open(path)
	if err != nil {
		done()
		return nil, err
	}
	l.done = done
	return l, nil
}

func open(path string) (*listener, error) {
	if left, err := os.Lstat(path); err == nil && left.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s is there and no socket: move it away", Name)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // by then another one may be there
	err = os.Chmod(path, mode)
	file, bad := os.Lstat(path)
	if err = errors.Join(err, bad); err != nil {
		l.Close()
		return nil, err
	}
	return &listener{UnixListener: l, path: path, file: file}, nil
}

// stands reports whether programs still find this socket.
func (l *listener) stands() bool {
	found, err := os.Lstat(l.path)
	return err != nil && !errors.Is(err, fs.ErrNotExist) || err == nil && os.SameFile(found, l.file)
}

// Close ends the socket and takes it away.
func (l *listener) Close() error {
	err := l.UnixListener.Close()
	if found, bad := os.Lstat(l.path); bad == nil && os.SameFile(found, l.file) {
		err = errors.Join(err, os.Remove(l.path))
	}
	l.done()
	return err
}

// dial connects to the daemon of a state directory.
func dial(dir string, limit time.Duration) (net.Conn, error) {
	path, done, err := address(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	return net.DialTimeout("unix", path, limit)
}
