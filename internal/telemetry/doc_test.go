package telemetry

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/signals.md anew")

// docs/signals.md is the signal table; `make docs` writes it.
func TestSignalsDoc(t *testing.T) {
	const name = "../../docs/signals.md"
	want := signalsDoc()
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not the signal table any more: run make docs", name)
	}
}

func signalsDoc() string {
	var b strings.Builder
	b.WriteString(`# Signals

Every signal that telemetryd reads by itself, from the one table in ` + "`internal/telemetry/signal.go`" + ` (written by ` + "`make docs`" + `). What a
car does not have is absent. A value out of its range is refused and counted, never published. The rate is the default, in readings a
second; ` + "`-`" + ` is read only when ` + "`--signals`" + ` names it. PIDs are those of mode 01 (SAE J1979); formulas are proven by
` + "`internal/obd/testdata/vectors.txt`" + `, which names its sources.
`)
	for _, part := range []struct {
		title  string
		source Source
	}{{"Of the car", FromCar}, {"Of the adapter", FromAdapter}, {"Of the GPS receiver", FromReceiver}} {
		fmt.Fprintf(&b, "\n## %s\n\n| signal | unit | PID | range | published to | rate | COVESA VSS | Home Assistant class |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n", part.title)
		for _, s := range Signals() {
			if s.Source != part.source {
				continue
			}
			pid := map[Source]string{FromCar: fmt.Sprintf("%02X", s.PID), FromAdapter: "`ATRV`"}[s.Source]
			span, step, rate := fmt.Sprintf("%s to %s", plain(s.Min), plain(s.Max)), plain(pow10(-s.Digits)), plain(s.Rate)
			switch {
			case s.Formula != nil && s.Formula.Bool:
				span, step = "true, false", ""
			case s.Name == "fix":
				span, step = "2d, 3d", ""
			}
			if s.Rate == 0 {
				rate = "-"
			}
			if s.Source == FromReceiver {
				rate = "the receiver's"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s | %s |\n", s.Name, s.Unit, pid, span, step, rate, s.VSS, s.HomeAssistant)
		}
	}
	return b.String()
}

func plain(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

func pow10(n int) float64 {
	x, _ := strconv.ParseFloat(fmt.Sprintf("1e%d", n), 64)
	return x
}
