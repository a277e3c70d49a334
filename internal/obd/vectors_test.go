package obd

import (
	"os"
	"slices"
	"strings"
	"testing"

	"telemetryd/internal/telemetry"
)

// Every parameter of the signal table decodes as testdata/vectors.txt says, which names
// its sources; and none is missing there.
func TestDecodingTable(t *testing.T) {
	text, err := os.ReadFile("testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	sources, tested, ends := map[string]bool{}, map[string]int{}, map[string][2]float64{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "# source "):
			sources[words[2]] = true
		case line == "" || line[0] == '#':
		case words[0] == "DTC":
			b := unhex(words[1])
			if got := troubleCode(b[0], b[1]); got != words[2] {
				t.Errorf("%s is %s, want %s", words[1], got, words[2])
			}
		default:
			pid, data := unhex(words[0])[0], unhex(words[1])
			if !sources[words[0]] {
				t.Errorf("PID %s has no source", words[0])
			}
			items, err := split(append([]byte{0x41, pid}, data...), []byte{pid})
			if err != nil {
				t.Errorf("%s: %v", line, err)
				continue
			}
			var r telemetry.Reading
			if err := measure(&r, items[0], nil); err != nil {
				t.Errorf("%s: %v", line, err)
			}
			var got []string
			for _, f := range r.Fields {
				got = append(got, f.Name+"="+f.Value.String())
				x, isNumber := f.Value.Float()
				if !isNumber && f.Value == telemetry.Bool(true) {
					x = 1
				}
				e := ends[f.Name]
				if tested[f.Name]++; tested[f.Name] == 1 {
					e = [2]float64{x, x}
				}
				ends[f.Name] = [2]float64{min(e[0], x), max(e[1], x)}
			}
			if !slices.Equal(got, words[2:]) {
				t.Errorf("%s: got %v", line, got)
			}
		}
	}
	for _, s := range telemetry.Signals() {
		if s.Source != telemetry.FromCar {
			continue
		}
		if tested[s.Name] < 4 {
			t.Errorf("%s has %d vectors", s.Name, tested[s.Name])
		}
		if e := ends[s.Name]; e != [2]float64{s.Min, s.Max} {
			t.Errorf("%s is tested from %v to %v, its range is %v to %v", s.Name, e[0], e[1], s.Min, s.Max)
		}
	}
}

// Codes of each service on CAN and on older buses; what does not fit is no list.
func TestTroubleCodes(t *testing.T) {
	for _, test := range []struct {
		data string
		mode byte
		can  bool
		want string // joined; - for no list
	}{
		{"430203010420", 0x03, true, "P0301 P0420"},
		{"4300", 0x03, true, ""},
		{"470101 71", 0x07, true, "P0171"},
		{"43030301042 0", 0x03, true, "-"}, // three announced
		{"43", 0x03, true, "-"},
		{"47 00", 0x03, true, "-"},
		{"43030104200000", 0x03, false, "P0301 P0420"},
		{"43000000000000", 0x03, false, ""},
		{"4303010420", 0x03, false, "P0301 P0420"},
		{"43030104", 0x03, false, "-"},
	} {
		codes, ok := troubleCodes(unhex(strings.ReplaceAll(test.data, " ", "")), test.mode, test.can)
		if got := strings.Join(codes, " "); ok != (test.want != "-") || ok && got != test.want {
			t.Errorf("%s: %q, %v", test.data, got, ok)
		}
	}
}

func TestCodeBook(t *testing.T) {
	var b codeBook
	p := place{Stored, "7E8"}
	for _, step := range []struct {
		codes  string
		want   string // + appeared, ? appeared with the first reading, - gone
		unsure bool
	}{
		{"P0301", "?P0301", false},
		{"P0301", "", false},
		{"P0420 P0301", "+P0420", false},
		{"P0301", "", true},        // lost on its way,
		{"P0301 P0420", "", false}, // as it shows
		{"P0420", "", true},        // this time
		{"P0420", "-P0301", false}, // it is gone
		{"P0301 P0420", "+P0301", false},
		{"", "", true},
		{"", "-P0301 -P0420", false},
	} {
		changes, unsure := b.learn(p, strings.Fields(step.codes))
		var got []string
		for _, c := range changes {
			switch {
			case c.gone:
				got = append(got, "-"+c.code)
			case c.firstRead:
				got = append(got, "?"+c.code)
			default:
				got = append(got, "+"+c.code)
			}
		}
		if strings.Join(got, " ") != step.want || unsure != step.unsure {
			t.Errorf("%q: %v, unsure %v; want %q, %v", step.codes, got, unsure, step.want, step.unsure)
		}
	}
}
