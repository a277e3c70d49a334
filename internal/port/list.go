package port

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Found is a serial port of this machine.
type Found struct {
	// Path is its most stable name: under /dev/serial/by-id where it has one, then
	// /dev/serial0 (the header of a Raspberry Pi), then that of the device.
	Path string
	// Device is the device behind it, "/dev/ttyUSB0".
	Device string
}

// Address is what to open.
func (f Found) Address() Address { return Address{Scheme: "serial", Path: f.Path} }

// Receiver and Adapter tell what the port is by its name; a name may tell nothing.
func (f Found) Receiver() bool { return receiverName.MatchString(filepath.Base(f.Path)) }

// Adapter reports whether the port is an OBD adapter by its name.
func (f Found) Adapter() bool {
	return adapterName.MatchString(filepath.Base(f.Path)) && !f.Receiver()
}

// Named is the port at path, under its most stable name.
func Named(path string) Found { return Found{StableName(path), realPath(path)} }

// List lists the serial ports that something may be connected to. The sockets of a
// PC's board (ttyS*) are not among them: most are not there. Nothing is opened.
func List() []Found { return list("/dev") }

// portPatterns are names of serial ports, the most stable first.
var portPatterns = []string{"serial/by-id/*", "serial[0-9]", "rfcomm[0-9]*", "ttyUSB[0-9]*", "ttyACM[0-9]*", "ttyAMA[0-9]*", "ttyTHS[0-9]*"}

func list(dev string) []Found {
	var all []Found
	for _, pattern := range portPatterns {
		names, err := filepath.Glob(filepath.Join(dev, pattern))
		if err != nil {
			continue // only of a malformed pattern
		}
		for _, name := range names {
			device := realPath(name)
			if !slices.ContainsFunc(all, func(f Found) bool { return f.Device == device }) {
				all = append(all, Found{name, device})
			}
		}
	}
	return all
}

// FindHeader lists the serial port on the header of a Raspberry Pi, unless it is the
// console. It has no DTR and RTS: to open it and listen resets nothing.
func FindHeader() []Address { return header("/dev", "/sys/class/tty/console/active") }

func header(dev, consoles string) []Address {
	name := filepath.Join(dev, "serial0")
	device, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil
	}
	active, err := os.ReadFile(consoles) // "tty0 ttyAMA0"
	if err == nil && slices.Contains(strings.Fields(string(active)), filepath.Base(device)) {
		return nil
	}
	return []Address{{Scheme: "serial", Path: name}}
}

// Holder is a process that has a device open.
type Holder struct {
	PID     int
	Program string
}

// Holders lists the processes that have device open, as far as this user may see
// (proc(5)); this process is not among them.
func Holders(device string) []Holder { return holders("/proc", device) }

func holders(proc, device string) []Holder {
	var found []Holder
	for pid, program := range processes(proc) {
		dir := filepath.Join(proc, strconv.Itoa(pid), "fd")
		entries, err := os.ReadDir(dir)
		if err != nil || pid == os.Getpid() {
			continue // of another user, or ended
		}
		for _, e := range entries {
			if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && target == device {
				found = append(found, Holder{pid, program})
				break
			}
		}
	}
	slices.SortFunc(found, func(a, b Holder) int { return a.PID - b.PID })
	return found
}

// Running reports whether a program of this name runs.
func Running(program string) bool {
	for _, name := range processes("/proc") {
		if name == program {
			return true
		}
	}
	return false
}

// processes lists the processes and their programs' names.
func processes(proc string) map[int]string {
	all := map[int]string{}
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if name, err := os.ReadFile(filepath.Join(proc, e.Name(), "comm")); err == nil {
			all[pid] = strings.TrimSpace(string(name))
		}
	}
	return all
}
