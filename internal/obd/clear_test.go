package obd

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryd/sim"
)

// Codes are cleared with the engine off, and only then; what refuses is told in words, and
// while the engine runs nothing but reading is on the bus.
func TestClearCodes(t *testing.T) {
	for _, test := range []struct {
		name    string
		obd     sim.OBDConfig
		refused string // with the engine off; empty when the codes are gone
	}{
		{"CAN", sim.OBDConfig{}, ""},
		{"CAN, two ECUs", sim.OBDConfig{ECUs: 2}, ""},
		{"CAN, no headers", sim.OBDConfig{NoHeaders: true}, ""},
		{"29 bits, two ECUs", sim.OBDConfig{ECUs: 2, Protocol: '7'}, ""},
		{"K-line, two ECUs", sim.OBDConfig{ECUs: 2, Protocol: '5'}, ""},
		{"K-line, silent without codes", sim.OBDConfig{ECUs: 2, Protocol: '5', SilentIfNone: true}, ""},
		{"refused", sim.OBDConfig{NeverClears: true}, "no codes were cleared: control unit 7E8 refuses: conditions are not right"},
		{"refused by one", sim.OBDConfig{NeverClears: true, ECUs: 2}, "only some codes were cleared: control unit 7E9 has cleared its own, control unit 7E8 refuses"},
		{"no answer", sim.OBDConfig{Lacks: []byte{0x04}}, "no control unit answered"},
		{"no engine speed", sim.OBDConfig{Denies: []byte{0x0C}}, "does not tell engine_speed_rpm"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.obd.Listen = "pty"
			r, q := workshop(t, test.obd, nil, 20)
			r.await("codes of each kind", 30*time.Second, func() bool { return r.coded("dtc_appeared") >= 4 })
			want := "the engine runs ("
			if slices.Contains(test.obd.Denies, 0x0C) {
				want = test.refused
			}
			if err := r.control.ClearCodes(within(t, 10*time.Second)); err == nil || !strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), "the vehicle moves (") {
				t.Errorf("with the engine running: %v", err)
			}
			if n := q.ofMode("04"); n != 0 {
				t.Fatalf("%d requests of mode 04 with the engine running", n)
			}
			r.vehicle.StopEngine(true)
			err := r.control.ClearCodes(within(t, 10*time.Second))
			if test.refused == "" && err != nil || test.refused != "" && (err == nil || !strings.Contains(err.Error(), test.refused)) {
				t.Fatalf("with the engine off: %v, want %q", err, test.refused)
			}
			if n := q.ofMode("04"); n != 1 && test.obd.Denies == nil {
				t.Errorf("%d requests of mode 04", n)
			}
			if test.refused != "" {
				return
			}
			r.await("stored and pending codes are gone", 10*time.Second, func() bool { return r.coded("dtc_cleared") == 3 })
			codes, err := r.control.ReadCodes(within(t, 10*time.Second))
			if err != nil || len(codes.Stored) > 0 || len(codes.Pending) > 0 || len(codes.Permanent) != 1 || codes.MIL == nil || *codes.MIL || *codes.Count != 0 {
				t.Errorf("%s, %v", asJSON(t, codes), err)
			}
			r.check()
		})
	}
}

// A car that is switched off answers nothing either: for that no code is told to be gone,
// and none to be there.
func TestSilenceIsNoAnswer(t *testing.T) {
	for _, protocol := range []byte{'2', '6'} { // on which a car that is off gives NO DATA
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			r, q := workshop(t, sim.OBDConfig{Listen: "pty", Protocol: protocol, ECUs: 2, SilentIfNone: true}, map[string]float64{"engine_speed_rpm": 0.5}, 20)
			r.await("codes of each kind", 30*time.Second, func() bool { return r.coded("dtc_appeared") >= 4 })
			for range 3 {
				asked := q.ofMode("03")
				r.injectFor("ignition_off", 6*time.Second)
				codes, err := r.control.ReadCodes(within(t, 20*time.Second))
				if err == nil || !strings.Contains(err.Error(), "the car was lost while it was asked") {
					t.Errorf("%s, %v", asJSON(t, codes), err)
				}
				if n := q.ofMode("03") - asked; n < 2 {
					t.Errorf("codes were asked for %d times", n)
				}
				r.await("the ignition is on", 20*time.Second, func() bool { return len(r.vehicle.Pending()) == 0 })
				r.await("values again", 20*time.Second, r.after(time.Now(), 1))
			}
			if n := r.coded("dtc_cleared"); n > 0 {
				t.Errorf("%d codes are told to be cleared", n)
			}
		})
	}
}

// coded counts the events of a type.
func (r *rig) coded(kind string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Type == kind {
			n++
		}
	}
	return n
}

// An adapter that is pulled out when the request has left: nobody knows, and that is told.
func TestClearCodesLost(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{}, 1)
	q := new(requests)
	o := sim.OBDConfig{Listen: "pty:" + t.TempDir() + "/usb-OBD-adapter", ECUDelay: 200 * time.Millisecond, OnRequest: func(at time.Time, request string) {
		q.note(at, request)
		if request == clearRequest {
			gone <- struct{}{}
		}
	}}
	r := driveFaster(t, 1, o, map[string]float64{"engine_speed_rpm": 1}, 0)
	r.await("first values", 20*time.Second, r.after(r.start, 1))
	r.vehicle.StopEngine(true)
	done := make(chan error, 1)
	go func() { done <- r.control.ClearCodes(within(t, 20*time.Second)) }()
	<-gone
	r.injectFor("unplug", time.Second)
	if err := <-done; err == nil || !strings.Contains(err.Error(), "whether codes were cleared is not known") {
		t.Errorf("%v", err)
	}
	r.await("values again", 20*time.Second, r.after(time.Now().Add(2*time.Second), 1))
	if n := q.ofMode("04"); n != 1 {
		t.Errorf("%d requests of mode 04", n)
	}
}

// That the engine is off counts for two seconds.
func TestClearCodesStale(t *testing.T) {
	t.Parallel()
	r, q := workshop(t, sim.OBDConfig{Listen: "pty"}, map[string]float64{"engine_speed_rpm": 5}, 0.4)
	r.vehicle.StopEngine(true)
	if err := r.control.ClearCodes(within(t, 30*time.Second)); !errors.Is(err, errStale) {
		t.Errorf("%v", err)
	}
	if n := q.ofMode("04"); n != 0 {
		t.Errorf("%d requests of mode 04", n)
	}
}

// Whatever a session is told to ask, nothing but reading reaches the wire: every service,
// and bytes behind a command that would be a second one.
func TestOnlyReadingIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for mode := range 0x100 {
			l := newLine(func(string) []string { return []string{"NO DATA\r\r>"} })
			s := newSession(l, new(Counters), func() time.Duration { return time.Since(l.began) }, newPacer(0))
			text := fmt.Sprintf("%02X", mode)
			for _, rest := range []string{"", "0C", "010203"} {
				_, err := s.exchange(t.Context(), query{text: text + rest}, never)
				if may := slices.Contains(reads, text); may != (err == nil) || !may && !errors.Is(err, errWrites) {
					t.Errorf("mode %s: %v", text, err)
				}
			}
			if !slices.Contains(reads, text) && len(l.written) > 0 {
				t.Errorf("mode %s: written %q", text, l.written)
			}
		}
		l := newLine(func(string) []string { return []string{"44\r\r>"} })
		s := newSession(l, new(Counters), func() time.Duration { return time.Since(l.began) }, newPacer(0))
		for _, text := range []string{"010C\r04", "ATI\r04\r", "04\r", "", "\r", "04"} {
			if _, err := s.ask(t.Context(), text, time.Second); !errors.Is(err, errWrites) {
				t.Errorf("%q: %v", text, err)
			}
		}
		if len(l.written) > 0 {
			t.Errorf("written %q", l.written)
		}
		// The licence is for one request.
		if a, err := s.clear(t.Context(), func() error { return nil }); err != nil || cleared(a) != nil {
			t.Errorf("%+v, %v", a, err)
		}
		if _, err := s.exchange(t.Context(), query{text: clearRequest}, never); !errors.Is(err, errWrites) {
			t.Errorf("a second time: %v", err)
		}
		if !slices.Equal(l.written, []string{"04\r"}) {
			t.Errorf("written %q", l.written)
		}
	})
}

// Only send writes to a wire; only clear takes out
// a licence, and only ClearCodes calls clear.
func TestOnlyWriter(t *testing.T) {
	found := map[string][]string{}
	note := func(what string, in *ast.FuncDecl) { found[what] = append(found[what], in.Name.Name) }
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		parsed, err := goparser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			in, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(in, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.SelectorExpr:
					if wire, ok := n.X.(*ast.SelectorExpr); ok && wire.Sel.Name == "wire" && n.Sel.Name == "Write" {
						note("wire.Write", in)
					}
				case *ast.AssignStmt:
					for _, to := range n.Lhs {
						if s, ok := to.(*ast.SelectorExpr); ok && s.Sel.Name == "licence" {
							note("licence", in)
						}
					}
				case *ast.CallExpr:
					if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "clear" {
						note("clear()", in)
					}
				case *ast.Ident:
					if n.Name == "clearRequest" {
						note("clearRequest", in)
					}
				case *ast.BasicLit:
					if strings.Trim(n.Value, "\"`") == clearRequest {
						note("04", in)
					}
				}
				return true
			})
		}
	}
	for what, want := range map[string][]string{
		"wire.Write":   {"send"},
		"licence":      {"clear", "clear"},
		"clear()":      {"ClearCodes"},
		"clearRequest": {"clear", "clear"},
		"04":           nil,
	} {
		slices.Sort(found[what])
		if !slices.Equal(found[what], want) {
			t.Errorf("%s stands in %v, want %v", what, found[what], want)
		}
	}
}

// Every ECU has to say that engine and vehicle stand, and nothing of it may be damaged.
func TestEngineOff(t *testing.T) {
	for _, test := range []struct {
		speed, engine string
		want          string // of the refusal; empty for none
	}{
		{"7E803410D00\r", "7E804410C0000\r", ""},
		{"7E803410D00\r7E903410D00\r", "7E804410C0000\r7E904410C0000\r", ""},
		{"7E803410D00\r", "7E804410C0001\r", "the engine runs (0.25 rpm)"},
		{"7E803410D00\r", "7E804410C0000\r7E904410C0C80\r", "the engine runs (800 rpm)"},
		{"7E803410D00\r7E903410D01\r", "7E804410C0000\r", "the vehicle moves (1 km/h)"},
		{"7E803410D00\r", "NO DATA\r", "does not tell engine_speed_rpm"},
		{"NO DATA\r", "7E804410C0000\r", "does not tell vehicle_speed_kmh"},
		{"7E803410D00\r", "7E904410C0000\r", "does not tell engine_speed_rpm"},
		{"7E803410D00\r", "7E804410C0000\r7E904410C <DATA ERROR\r", "does not tell engine_speed_rpm"},
		{"7E803410D00\r", "7E8037F0112\r", "does not tell engine_speed_rpm"},
		{"7E803410D00\r", "7E803410C00\r", "does not tell engine_speed_rpm"},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLine(func(text string) []string {
				return []string{map[string]string{"010D\r": test.speed, "010C\r": test.engine}[text] + "\r>"}
			})
			now := func() time.Duration { return time.Since(l.began) }
			s := newSession(l, new(Counters), now, newPacer(0))
			s.headers, s.car = true, car{protocol: '6', speaker: "7E8", ecus: []string{"7E8"}}
			d := &reading{reader: &reader{Config: Config{Uptime: now}}, s: s}
			_, refusal, lost := d.engineOff(t.Context())
			if lost != nil || test.want == "" && refusal != nil || test.want != "" && (refusal == nil || !strings.Contains(refusal.Error(), test.want)) {
				t.Errorf("%q, %q: %v, %v, want %q", test.speed, test.engine, refusal, lost, test.want)
			}
		})
	}
}

// Each answer to mode 04 in words.
func TestCleared(t *testing.T) {
	for _, test := range []struct {
		raw  string
		want string // of the error; empty for none
	}{
		{"7E80144\r", ""},
		{"7E80144\r7E90144\r", ""},
		{"7E8037F0422\r", "control unit 7E8 refuses: conditions are not right: is the engine off, and the ignition on? (code 22)"},
		{"7E90144\r7E8037F0411\r", "only some codes were cleared: control unit 7E9 has cleared its own, control unit 7E8 refuses: it does not know this service (code 11)"},
		{"7E8037F0499\r", "its reason is in the maker's list (code 99)"},
		{"7E8037F0478\r", "still works on it"},
		{"NO DATA\r", "no control unit answered"},
		{"7E8024400\r", "cannot be read"},
		{"?\r", "cannot be read"},
	} {
		err := cleared(parseAnswer([]byte(test.raw), clearRequest, CAN11))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%q: %v, want %q", test.raw, err, test.want)
		}
	}
}

// Who gives up before the request has left has cleared nothing.
func TestClearCodesContext(t *testing.T) {
	t.Parallel()
	r, q := workshop(t, sim.OBDConfig{Listen: "pty"}, map[string]float64{"engine_speed_rpm": 1}, 1)
	r.vehicle.StopEngine(true)
	if err := r.control.ClearCodes(within(t, 500*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	before := q.count()
	r.await("the next requests", 20*time.Second, func() bool { return q.count() >= before+5 })
	if n := q.ofMode("04"); n != 0 {
		t.Errorf("%d requests of mode 04", n)
	}
}
