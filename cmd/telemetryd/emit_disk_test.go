package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// On a disk that has become read-only an emergency is taken all the same: the answer tells
// that it is in memory alone, and the broker gets it.
func TestEmitOnBrokenDisk(t *testing.T) {
	if os.Getenv(insideNamespace) == "" {
		t.Parallel()
		if !inNamespace(t, 2*time.Minute) {
			t.Skip("a disk that breaks needs a mount of its own")
		}
		return
	}
	disk := newDisk(t)
	if !disk.breaks() {
		t.Skip("a disk that breaks needs a loop device")
	}
	m := newMosquitto(t)
	s := subscribe(t, m, "vehicles/van-1/#")
	d := benchDaemon(t, m.address(), disk.dir)
	s.await("the link", 20*time.Second, func(ms []message) bool { return len(events(ms, "stream_start")) > 0 })
	disk.abort()
	if out := emit(t, disk.dir, "emergency", "--wait", "30s"); !strings.Contains(out, ", in memory alone while the disk fails (") ||
		!strings.Contains(out, "read-only file system") || !strings.HasSuffix(out, "; the broker has it\n") {
		t.Errorf("said %q", out)
	}
	if out := emit(t, disk.dir, "door_open", "--json"); !strings.Contains(out, `"durable":false,"trouble":"`) {
		t.Errorf("said %q", out)
	}
	s.await("the emergency", 10*time.Second, func(ms []message) bool { return len(events(ms, "emergency")) > 0 })
	d.end(syscall.SIGKILL)
}
