package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// insideNamespace is set in the copy of the test that has mounts of its own.
const insideNamespace = "TORTURE_INSIDE"

// inNamespace runs a test of this binary again as a process that sees mounts of its own,
// with the rights to make them: as root, or as root of a user namespace. However it ends,
// the mounts end with it. possible is false where the kernel allows neither.
func inNamespace(t *testing.T, limit time.Duration, env ...string) (possible bool) {
	t.Helper()
	id := func(host int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: host, Size: 1}} }
	for _, attr := range []*syscall.SysProcAttr{
		{Cloneflags: syscall.CLONE_NEWNS},
		{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER, UidMappings: id(os.Getuid()), GidMappings: id(os.Getgid())},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout="+limit.String())
		cmd.Env = append(append(os.Environ(), insideNamespace+"=1"), env...)
		cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
		cmd.SysProcAttr = attr
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
		switch err := cmd.Start(); {
		case err == nil:
			if err := cmd.Wait(); err != nil {
				t.Errorf("the test in a namespace of its own: %v", err)
			}
			return true
		case slices.ContainsFunc(refusals, func(refused error) bool { return errors.Is(err, refused) }):
			t.Logf("NOT ALLOWED to have mounts of its own: %v", err)
		default:
			t.Fatal(err)
		}
	}
	return false
}

// refusals are the kernel's ways to say that there are no namespaces for us (clone(2)).
var refusals = []error{syscall.EPERM, syscall.EACCES, syscall.ENOSPC, syscall.EUSERS, syscall.ENOSYS, syscall.EINVAL}

// diskSize is that of the file system of the state directory.
const diskSize = 24 << 20

// disk is a small file system that can be full, read-only and broken: ext4 on a loop
// device or, without the rights to one, in memory.
type disk struct {
	t      testing.TB
	dir    string    // where it is mounted
	image  string    // "" for one in memory
	bad    bool      // it fails now
	healed time.Time // when it last ceased to
}

func newDisk(t testing.TB) *disk {
	t.Helper()
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatalf("keep mounts to this process: %v", err)
	}
	d := &disk{t: t, dir: filepath.Join(t.TempDir(), "disk"), image: filepath.Join(t.TempDir(), "image")}
	err := errors.Join(os.Mkdir(d.dir, 0o700), os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, diskSize))
	if err != nil {
		t.Fatal(err)
	}
	made := run("mkfs.ext4", "-q", "-F", "-m", "0", d.image)
	if made == nil {
		made = d.mount()
	}
	if made != nil {
		t.Logf("no loop device (%v): the disk is one in memory, and never breaks while it is used", made)
		d.image = ""
		if err := d.mount(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := d.unmount(); err != nil {
			t.Errorf("the disk of the test stays mounted: %v", err)
		}
	})
	return d
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}

func (d *disk) mount() error {
	if d.image == "" {
		return run("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d,mode=0700", diskSize), "tmpfs", d.dir)
	}
	return run("mount", "-o", "loop,noatime", d.image, d.dir)
}

func (d *disk) unmount() error { return run("umount", d.dir) }

// must ends the test when the disk does not obey.
func (d *disk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// breaks reports whether the disk can become read-only while files are open for writing.
func (d *disk) breaks() bool { return d.image != "" }

// fill takes all room that there is at the moment.
func (d *disk) fill() {
	d.t.Helper()
	d.bad = true
	f, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	d.must(err)
	defer f.Close()
	for piece := make([]byte, 1<<20); len(piece) > 0; {
		if _, err := f.Write(piece); errors.Is(err, syscall.ENOSPC) {
			piece = piece[:len(piece)/2]
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *disk) ballast() string { return filepath.Join(d.dir, "ballast") }

// free gives the room back, for good: not only until the disk breaks next.
func (d *disk) free() {
	d.t.Helper()
	d.must(os.Remove(d.ballast()))
	f, err := os.Open(d.dir)
	d.must(err)
	defer f.Close()
	d.must(unix.Syncfs(int(f.Fd())))
	d.heal()
}

// abort makes it read-only under whoever uses it, as the kernel does after an error of the
// device. Only repair, when nobody uses it, brings it back.
func (d *disk) abort() {
	d.t.Helper()
	d.bad = true
	d.must(run("mount", "-o", "remount,abort", d.dir))
}

func (d *disk) repair() {
	d.t.Helper()
	d.must(errors.Join(d.unmount(), d.mount()))
	d.heal()
}

// protect makes it read-only while nobody uses it.
func (d *disk) protect() {
	d.t.Helper()
	d.bad = true
	d.must(syscall.Mount("", d.dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
}

func (d *disk) permit() {
	d.t.Helper()
	d.must(syscall.Mount("", d.dir, "", syscall.MS_REMOUNT, ""))
	d.heal()
}

func (d *disk) heal() { d.bad, d.healed = false, time.Now() }

// settles is how long after a failing disk a daemon may still hold records in memory
// alone.
const settles = 5 * time.Second

// troubled reports whether what was accepted now may be in memory alone.
func (d *disk) troubled() bool { return d.bad || time.Since(d.healed) < settles }
