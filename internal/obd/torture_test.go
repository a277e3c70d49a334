package obd

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"telemetryd/sim"
)

// tortureFor is how long TestTorture drives: OBD_TORTURE_FOR=10m makes a day of it.
func tortureFor(t *testing.T) time.Duration {
	if s := os.Getenv("OBD_TORTURE_FOR"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	return 40 * time.Second
}

// tortureSpeedup makes ten minutes a day.
const tortureSpeedup = 144

// A day of driving and parking with a random fault every few seconds: no value that
// was not served, values again after each fault, and neither goroutines nor files nor
// memory grow.
func TestTorture(t *testing.T) {
	link := filepath.Join(t.TempDir(), "usb-OBD-adapter")
	r := driveFaster(t, tortureSpeedup, sim.OBDConfig{Listen: "pty:" + link, ECUs: 2, Baud: 115200}, nil, 0)
	r.await("first values", 30*time.Second, r.after(r.start, 20))
	random := rand.New(rand.NewPCG(1, 2))
	faults := sim.Faults()
	files, goroutines, memory := usage(t)
	injected, values := 0, 0
	for began := time.Now(); time.Since(began) < tortureFor(t); {
		f := faults[random.IntN(len(faults))]
		r.inject(f.Name)
		injected++
		time.Sleep(time.Duration(1000+random.IntN(3000)) * time.Millisecond)
		values += r.checkAndForget()
	}
	r.await("values after the last fault", 60*time.Second, r.after(time.Now(), 20)) // it may be parked now
	values += r.checkAndForget()
	moreFiles, moreGoroutines, moreMemory := usage(t)
	if moreFiles > files+2 || moreGoroutines > goroutines+3 || moreMemory > memory+4<<20 {
		t.Errorf("files %d -> %d, goroutines %d -> %d, heap %d -> %d bytes", files, moreFiles, goroutines, moreGoroutines, memory, moreMemory)
	}
	t.Logf("%d faults, %d values, each true; files %d -> %d, goroutines %d -> %d, heap %d -> %d kB",
		injected, values, files, moreFiles, goroutines, moreGoroutines, memory>>10, moreMemory>>10)
	if values == 0 {
		t.Error("no values")
	}
}

// checkAndForget checks what was delivered so far and drops it and the truth, but for
// what may still be on its way.
func (r *rig) checkAndForget() (values int) {
	r.t.Helper()
	r.mu.Lock()
	n := len(r.delivered)
	for _, x := range r.delivered {
		values += len(x.Fields)
	}
	r.mu.Unlock()
	if n > 0 {
		r.check()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delivered = append(r.delivered[:0:0], r.delivered[n:]...)
	old := 0
	for old < len(r.served) && time.Since(r.served[old].T) > 5*time.Second {
		old++
	}
	r.served = append(r.served[:0:0], r.served[old:]...)
	r.health, r.events = nil, nil
	return values
}

// usage is what the process holds, after a collection.
func usage(t *testing.T) (files, goroutines int, heap uint64) {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return len(names), runtime.NumGoroutine(), m.HeapAlloc
}
