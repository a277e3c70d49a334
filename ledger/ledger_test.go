package ledger

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

const batch = `{"schema":1,"vehicle_id":"van-1","stream_id":"s","boot_id":"b","seq":7,"clock":"gps",`

func TestParse(t *testing.T) {
	rows := batch + `"samples":[{"t":"2026-11-25T10:00:01.000Z","vehicle_speed_kmh":50},{"t":"2026-11-25T10:00:02.123Z","fix":"3d","latitude":48.1}]}`
	columns := batch + `"columns":{"t":[1795600801000,1795600802123],"vehicle_speed_kmh":[50,null],"fix":[null,"3d"],"latitude":[null,48.1]}}`
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write([]byte(columns))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, payload := range map[string][]byte{"rows": []byte(rows), "columns": []byte(columns), "gzip": z.Bytes(), "zstd": e.EncodeAll([]byte(rows), nil)} {
		m, err := Parse(payload)
		if err != nil || m.Seq != 7 || m.VehicleID != "van-1" || m.StreamID != "s" || m.Clock != "gps" {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
		if got, _ := json.Marshal(m.Samples); string(got) != strings.TrimSuffix(rows[strings.Index(rows, "["):], "}") {
			t.Errorf("%s: %s", name, got)
		}
	}
	bomb := bytes.Repeat([]byte{' '}, mostBytes+1)
	for name, bad := range map[string][]byte{
		"nothing": nil, "text": []byte("led_on"), "array": []byte("[]"), "no stream": []byte(`{"seq":1}`), "no seq": []byte(`{"stream_id":"s"}`),
		"seq": []byte(`{"stream_id":"s","seq":18446744073709551615}`), "short gzip": z.Bytes()[:20], "short zstd": {0x28, 0xb5, 0x2f, 0xfd},
		"uneven": []byte(batch + `"columns":{"t":[1],"a":[1,2]}}`), "no columns": []byte(batch + `"columns":[]}`), "t": []byte(batch + `"columns":{"t":["now"]}}`),
		"bomb": e.EncodeAll(bomb, nil),
	} {
		if m, err := Parse(bad); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

func message(stream string, seq uint64, typ, data string) Message {
	return Message{StreamID: stream, Seq: seq, Type: typ, Data: json.RawMessage(data)}
}

func status(stream string, last, unacked uint64) Message {
	return Message{StreamID: stream, State: "online", LastSeq: last, OldestUnackedSeq: unacked}
}

func TestLedger(t *testing.T) {
	var l Ledger
	want := func(what, want string) {
		t.Helper()
		r := l.Report()
		var missing []Span
		for _, s := range r.Streams {
			missing = append(missing, s.Missing...)
		}
		if got := fmt.Sprint(r.Received, r.Duplicates, r.Named, r.OnItsWay, r.Missing, missing, r.Corrections); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	add := func(ms ...Message) {
		t.Helper()
		for _, m := range ms {
			if err := l.Add(m); err != nil {
				t.Error(err)
			}
		}
	}
	want("nothing", "0 0 0 0 0 [] 0")
	add(status("a", 10, 8)) // joined: 8 to 10 wait
	want("joined", "0 0 0 3 0 [] 0")
	add(message("a", 11, "", ""), message("a", 9, "", ""), message("a", 9, "", ""), message("a", 3, "", ""))
	want("some came", "2 1 0 2 0 [] 0")
	add(status("a", 12, 11))
	want("what the broker had", "2 1 0 1 2 [{8 8} {10 10}] 0")
	add(message("a", 12, "data_gap", `{"gap_stream_id":"a","first_seq":8,"last_seq":8,"reason":"evicted"}`), message("a", 13, "clock_correction", `{}`))
	want("named", "4 1 1 0 1 [{10 10}] 1")
	add(message("b", 1, "stream_start", `{"previous_stream_id":"a","previous_last_seq":15}`))
	want("restarted", "5 1 1 0 3 [{10 10} {14 15}] 1")
	add(message("a", 10, "", ""), message("a", 14, "", ""), message("a", 15, "", ""), status("b", 1, 0))
	want("complete", "8 1 1 0 0 [] 1")
	if r := l.Report(); fmt.Sprintf("%.2f", r.Complete) != "88.89" {
		t.Errorf("%v %%", r.Complete)
	}
	if err := l.Add(message("b", 2, "data_gap", `[]`)); err == nil {
		t.Error("a gap without data")
	}
	for n := range 2 * mostStreams {
		add(status(fmt.Sprint(n), 1, 1))
	}
	if len(l.streams) != mostStreams {
		t.Errorf("%d streams are kept", len(l.streams))
	}
}

// Whatever comes in whatever order and how often: what the ledger calls missing is what
// did not come and was not named.
func TestLedgerIsRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(1, 60).Draw(t, "n")
		var l Ledger
		if err := l.Add(status("s", 0, 1)); err != nil {
			t.Fatal(err)
		}
		order := rapid.Permutation(func() (all []uint64) {
			for seq := range n {
				all = append(all, seq+1)
			}
			return all
		}()).Draw(t, "order")
		came, named, twice := map[uint64]bool{}, map[uint64]bool{}, uint64(0)
		for _, seq := range order {
			for range rapid.SampledFrom([]int{0, 1, 1, 1, 2}).Draw(t, "times") {
				if came[seq] {
					twice++
				}
				came[seq] = true
				if err := l.Add(message("s", seq, "", "")); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range rapid.IntRange(0, 3).Draw(t, "gaps") {
			lo := rapid.Uint64Range(1, n).Draw(t, "lo")
			hi := rapid.Uint64Range(lo, n).Draw(t, "hi")
			for seq := lo; seq <= hi; seq++ {
				named[seq] = true
			}
			l.find("s").named.add(lo, hi)
		}
		unacked := rapid.Uint64Range(1, n+1).Draw(t, "unacked")
		if err := l.Add(status("s", n, unacked)); err != nil {
			t.Fatal(err)
		}
		var want Report
		for seq := uint64(1); seq <= n; seq++ {
			switch {
			case came[seq]:
				want.Received++
			case named[seq]:
				want.Named++
			case seq >= unacked:
				want.OnItsWay++
			default:
				want.Missing++
			}
		}
		got := l.Report()
		if got.Received != want.Received || got.Named != want.Named || got.OnItsWay != want.OnItsWay || got.Missing != want.Missing || got.Duplicates != twice {
			t.Fatalf("%+v, want %+v, %d twice", got, want, twice)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(batch + `"samples":[{"t":"2026-11-25T10:00:01.000Z"}]}`))
	f.Add([]byte(batch + `"columns":{"t":[1795600801000,1],"a":[50,null]}}`))
	f.Add([]byte(`{"stream_id":"s","state":"online","last_seq":3}`))
	f.Add([]byte(`{"stream_id":"s","seq":5,"type":"data_gap","data":{"gap_stream_id":"s","first_seq":1,"last_seq":4611686018427387904}}`))
	f.Add([]byte{0x1f, 0x8b, 8, 0, 0})
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 4, 0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, payload []byte) {
		m, err := Parse(payload)
		if err != nil {
			return
		}
		for _, s := range m.Samples {
			if !json.Valid(s) {
				t.Errorf("%s", s)
			}
		}
		var l Ledger
		_ = l.Add(status("s", 10, 1))
		_ = l.Add(m)
		_ = l.Add(m)
		l.Report()
	})
}
