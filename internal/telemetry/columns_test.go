package telemetry

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestColumns(t *testing.T) {
	var b Batch
	b.Add(Reading{Arrived: time.Second, Fields: []Field{{"vehicle_speed_kmh", Number(50, 0)}, {"engine_speed_rpm", Number(1830.25, 2)}}})
	b.Add(Reading{Arrived: 2 * time.Second, FixTime: truth.Add(2 * time.Second), Fields: []Field{{"latitude", Number(48.1371541, 7)}, {"fix", Text("3d")}}})
	b.Add(Reading{Arrived: 3 * time.Second, Fields: []Field{{"vehicle_speed_kmh", Number(51, 0)}, {"mil_on", Bool(false)}}})
	for _, test := range []struct {
		q    Quality
		want string
	}{
		{GPS, `"clock":"gps","columns":{"t":[1795600801000,1795600802000,1795600803000],"vehicle_speed_kmh":[50,null,51],"engine_speed_rpm":[1830.25,null,null],"latitude":[null,48.1371541,null],"fix":[null,"3d",null],"mil_on":[null,null,false]}}`},
		{Unsynced, `"clock":"unsynced","columns":{"t":[1795600801000,1795600802000,1795600803000],"uptime_ms":[1000,null,3000],`},
	} {
		r, err := b.Seal("v", "boot", truth, test.q).Columns()
		if got := string(r.Message("s", 1)); err != nil || !strings.Contains(got, test.want) || !json.Valid([]byte(got)) {
			t.Errorf("%s, %v; want %s", got, err, test.want)
		}
	}
	e := Event{Type: "note", Severity: Info, At: time.Second, Data: map[string]any{"samples": []int{1}}}
	sealed, err := e.Seal("v", "boot", truth, GPS)
	if err != nil {
		t.Fatal(err)
	}
	got, err := sealed.Columns()
	if err != nil || string(got.Message("s", 1)) != string(sealed.Message("s", 1)) {
		t.Errorf("an event became %s, %v", got.Message("s", 1), err)
	}
	for _, bad := range []string{`"samples":`, `"samples":[`, `"samples":[{`, `"samples":[{"t":"yesterday"}]}`, `"samples":[{"t":5}]}`, `"samples":[{"t":]`, `"samples":{}}`, `"samples":[[]]}`} {
		if _, err := (Record{body: []byte(`"clock":"gps",` + bad)}).Columns(); err == nil {
			t.Errorf("%s has columns", bad)
		}
	}
}

// Columns say what rows say: read back, they are the same samples.
func TestColumnsAreRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b Batch
		for i := range rapid.IntRange(1, 30).Draw(t, "readings") {
			r := Reading{Arrived: time.Duration(i) * 10 * time.Millisecond}
			for name := range rapid.IntRange(1, 5).Draw(t, "fields") {
				v := Number(rapid.Float64Range(-1e6, 1e6).Draw(t, "x"), 3)
				if rapid.Bool().Draw(t, "text") {
					v = Text(rapid.StringN(1, 8, -1).Draw(t, "s"))
				}
				r.Fields = append(r.Fields, Field{fmt.Sprintf("s%d", name*rapid.IntRange(1, 3).Draw(t, "which")), v})
			}
			b.Add(Reading{r.Arrived, r.FixTime, mergeFields(nil, unique(r.Fields))})
		}
		rows := b.Seal("v", "boot", truth, rapid.SampledFrom([]Quality{GPS, Unsynced}).Draw(t, "clock"))
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		var want struct{ Samples []map[string]any }
		var got struct{ Columns map[string][]any }
		if err := json.Unmarshal(rows.Message("s", 1), &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(columns.Message("s", 1), &got); err != nil {
			t.Fatal(err)
		}
		back := make([]map[string]any, len(want.Samples))
		for name, column := range got.Columns {
			if len(column) != len(back) {
				t.Fatalf("%s has %d values of %d", name, len(column), len(back))
			}
			for i, v := range column {
				if v == nil {
					continue
				}
				if back[i] == nil {
					back[i] = map[string]any{}
				}
				if ms, ok := v.(float64); ok && name == "t" {
					v = FormatTime(time.UnixMilli(int64(ms)))
				}
				back[i][name] = v
			}
		}
		a, _ := json.Marshal(want.Samples)
		c, _ := json.Marshal(back)
		if string(a) != string(c) {
			t.Fatalf("rows %s\ncolumns %s", a, c)
		}
	})
}

// unique keeps the last field of each name, as a source gives them.
func unique(fields []Field) (kept []Field) {
	for _, f := range fields {
		kept = mergeFields(kept, []Field{f})
	}
	return kept
}
