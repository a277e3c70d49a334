package publish

import (
	"encoding/json"
	"fmt"
	"math"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
	"telemetryd/ledger"
)

func TestForms(t *testing.T) {
	var b telemetry.Batch
	for i := range 50 {
		r := telemetry.Reading{Arrived: time.Duration(i) * time.Second}
		r.Add("vehicle_speed_kmh", float64(i))
		b.Add(r)
	}
	record := b.Seal("van-1", "boot", time.Unix(0, 0), telemetry.GPS)
	columns, err := record.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []Form{{}, {true, Plain}, {false, Gzip}, {true, Gzip}, {false, Zstd}, {true, Zstd}} {
		want := record
		if f.Columns {
			want = columns
		}
		got, err := newFormer(f).message(record, "stream", 7)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := ledger.Unpack(got)
		if err != nil || string(plain) != string(want.Message("stream", 7)) || !json.Valid(plain) {
			t.Errorf("%+v: %s, %v", f, plain, err)
		}
		if compressed := f.Compression == Gzip || f.Compression == Zstd; compressed != (got[0] != '{') {
			t.Errorf("%+v begins %x", f, got[:4])
		}
	}
}

// meter is a proxy that counts what goes to the broker and back.
type meter struct {
	address  string
	up, down atomic.Int64
}

func newMeter(t *testing.T, broker string) *meter {
	t.Helper()
	m := &meter{}
	pass := func(to, from net.Conn, n *atomic.Int64) {
		buf := make([]byte, 32<<10)
		for {
			got, err := from.Read(buf)
			n.Add(int64(got))
			if _, failed := to.Write(buf[:got]); err != nil || failed != nil {
				to.Close()
				return
			}
		}
	}
	m.address = newProxy(t, broker, func(far, near net.Conn) { pass(far, near, &m.up) }, func(near, far net.Conn) { pass(near, far, &m.down) })
	return m
}

// drive is a second of driving: six values of the car in one answer, and a fix.
func drive(second int) (car, fix telemetry.Reading) {
	x := float64(second)
	speed := 50 + 35*math.Sin(x/37) + 8*math.Sin(x/5.3)
	at := time.Duration(second) * time.Second
	car = telemetry.Reading{Arrived: at + 371*time.Millisecond}
	car.Add("vehicle_speed_kmh", math.Round(speed))
	car.Add("engine_speed_rpm", math.Round(4*(900+31*speed+20*math.Sin(x)))/4)
	car.Add("engine_load_pct", math.Round((40+20*math.Sin(x/7))*2.55)/2.55)
	car.Add("coolant_temperature_c", math.Round(min(88, 20+x/8)))
	car.Add("throttle_position_pct", math.Round((20+12*math.Sin(x/7))*2.55)/2.55)
	car.Add("fuel_level_pct", math.Round((71-x/400)*2.55)/2.55)
	fix = telemetry.Reading{Arrived: at + 180*time.Millisecond, FixTime: time.Date(2026, 11, 25, 10, 0, second, 0, time.UTC)}
	fix.Add("latitude", 48.137154+x*0.000081+0.0003*math.Sin(x/91))
	fix.Add("longitude", 11.576124+x*0.000113)
	fix.Add("altitude_m", 519+6*math.Sin(x/130))
	fix.Add("gps_speed_kmh", speed+0.4*math.Sin(x*1.7))
	fix.Add("heading_deg", math.Mod(54+20*math.Sin(x/91)+360, 360))
	fix.Add("satellites", 9+math.Round(2*math.Sin(x/300)))
	fix.Add("hdop", 0.9-0.1*math.Sin(x/300))
	fix.AddText("fix", "3d")
	return car, fix
}

// What ten minutes of driving take on the wire, counted between the daemon's socket and
// the broker's, both ways, TLS included; without connecting and status. One message for
// each reading is what simple publishers send.
func TestWire(t *testing.T) {
	const seconds = 600
	dir := t.TempDir()
	ca, cert, key := certificates(t, dir)
	ports := []int{freePort(t)}
	startMosquitto(t, dir, fmt.Sprintf("allow_anonymous true\nlistener %%[1]d 127.0.0.1\ncertfile %s\nkeyfile %s\n", cert, key), ports)
	zero := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	perSecond := func(t *testing.T, f Form, batches []telemetry.Batch) float64 {
		t.Helper()
		m := newMeter(t, fmt.Sprintf("127.0.0.1:%d", ports[0]))
		r := startPublisherWith(t, "mqtts://"+m.address, Credentials{CAFile: ca}, func(c *Config) { c.Form, c.WriteOnly = f, true })
		r.record(t, 50) // connected, and the status is out
		await(t, "the PUBACK of a batch", func() bool { return r.spool.Stats().Records == 0 })
		before := m.up.Load() + m.down.Load()
		for i := range batches {
			payload, err := batches[i].Seal("van-12", "6f1c0e0a-5f0b-4f6e-9c57-0d2f6f7a1b2c", zero, telemetry.GPS).Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.spool.Append(spool.Telemetry, payload); err != nil {
				t.Fatal(err)
			}
		}
		await(t, "all PUBACKs", func() bool { return r.spool.Stats().Records == 0 })
		total := m.up.Load() + m.down.Load() - before
		r.stop()
		return float64(total) / seconds
	}
	var single []telemetry.Batch
	for second := range seconds {
		car, fix := drive(second)
		for _, f := range car.Fields {
			var b telemetry.Batch
			b.Add(telemetry.Reading{Arrived: car.Arrived, Fields: []telemetry.Field{f}})
			single = append(single, b)
		}
		var b telemetry.Batch
		b.Add(fix)
		single = append(single, b)
	}
	t.Logf("%-24s %6.0f B/s", "one message a reading", perSecond(t, Form{}, single))
	for _, each := range []int{1, 10, 60} {
		var batches []telemetry.Batch
		for second := range seconds {
			if second%each == 0 {
				batches = append(batches, telemetry.Batch{})
			}
			car, fix := drive(second)
			batches[len(batches)-1].Add(fix)
			batches[len(batches)-1].Add(car)
		}
		for _, f := range []Form{{false, Plain}, {true, Plain}, {false, Gzip}, {true, Gzip}, {false, Zstd}, {true, Zstd}} {
			got := perSecond(t, f, batches)
			t.Logf("%2d s, columns %-5v %-5s %6.0f B/s", each, f.Columns, f.Compression, got)
			limit := map[Form]float64{{false, Plain}: 2300. / 5, {true, Plain}: 2300. / 10, {true, Zstd}: 2300. / 22, {true, Gzip}: 2300. / 22}[f]
			if each == 10 && limit > 0 && got > limit {
				t.Errorf("more than %.0f", limit)
			}
		}
	}
}
