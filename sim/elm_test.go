package sim

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipeLine is a line on which the test is the client. Inside a synctest bubble its
// times are exact and cost nothing.
type pipeLine struct{ clients chan wire }

func (l pipeLine) address() string { return "pipe" }
func (l pipeLine) close() error    { return nil }
func (l pipeLine) connect(ctx context.Context) (wire, error) {
	select {
	case w := <-l.clients:
		return w, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// bench is an adapter in a car, and a client of it.
type bench struct {
	t       *testing.T
	adapter *adapter
	client  net.Conn
	mu      sync.Mutex
	truths  []Truth
}

// onBench runs a test with an adapter on a pipe, in fake time.
func onBench(t *testing.T, c Config, test func(*bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c, err := c.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		b := &bench{t: t}
		l := pipeLine{make(chan wire, 1)}
		clock := driveClock{start: time.Now(), speedup: c.Speedup}
		truth := &truthLog{call: func(truth Truth) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.truths = append(b.truths, truth)
		}}
		b.adapter = newAdapter(l, newCar(newDrive(c.Seed), clock, c.OBD), truth, c)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { b.adapter.run(ctx) })
		client, device := net.Pipe()
		l.clients <- device
		b.client = client
		test(b)
		cancel()
		_ = client.Close()
		running.Wait()
	})
}

// enter sends characters and returns what comes up to the next prompt.
func (b *bench) enter(s string) string {
	b.t.Helper()
	sent := make(chan error, 1)
	go func() { _, err := b.client.Write([]byte(s)); sent <- err }()
	var answer strings.Builder
	buf := make([]byte, 1)
	_ = b.client.SetReadDeadline(time.Now().Add(time.Minute))
	for buf[0] != '>' {
		if _, err := b.client.Read(buf); err != nil {
			b.t.Fatalf("after %q: %v; had %q", s, err, answer.String())
		}
		answer.WriteByte(buf[0])
	}
	if err := <-sent; err != nil {
		b.t.Fatal(err)
	}
	return answer.String()
}

// expect types each command with a CR and compares the answers: pairs of command
// and answer, in which an underscore stands for any character.
func (b *bench) expect(pairs ...string) {
	b.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got := b.enter(pairs[i] + "\r"); !matches(pairs[i+1], got) {
			b.t.Errorf("%s: %q, want %q", pairs[i], got, pairs[i+1])
		}
	}
}

// matches compares, where an underscore in the pattern stands for any character.
func matches(pattern, s string) bool {
	if len(pattern) != len(s) {
		return false
	}
	for i := range len(pattern) {
		if pattern[i] != '_' && pattern[i] != s[i] {
			return false
		}
	}
	return true
}

const ok1 = "OK\r\r>"

func TestReset(t *testing.T) {
	onBench(t, Config{}, func(b *bench) {
		start := time.Now()
		b.expect("ATZ", "ATZ\r\r\rELM327 v1.5\r\r>")
		if took := time.Since(start); took != resetTime {
			t.Errorf("a reset took %v", took)
		}
		b.expect(
			"at e0", "at e0\rOK\r\r>",
			"ATI", "ELM327 v1.5\r\r>",
			"AT@1", "OBDII to RS232 Interpreter\r\r>",
			"ATL1", "OK\r\n\r\n>",
			"ATI", "ELM327 v1.5\r\n\r\n>",
			"ATWS", "\r\rELM327 v1.5\r\r>", // the warm start has turned linefeeds off again
			"ATI", "ATI\rELM327 v1.5\r\r>",
		)
	})
}

func TestEchoAsTyped(t *testing.T) {
	onBench(t, Config{}, func(b *bench) {
		b.expect(
			"a t\x00\n i", "a t i\rELM327 v1.5\r\r>",
			"ATX\bI", "ATX\bI\rELM327 v1.5\r\r>",
			"ATL1", "ATL1\rOK\r\n\r\n>",
			"ATI", "ATI\r\nELM327 v1.5\r\n\r\n>",
			"\x7F\x7F", "\x7F\x7F\r\n?\r\n\r\n>",
		)
	})
}

func TestCommandsOfTheAdapter(t *testing.T) {
	onBench(t, Config{}, func(b *bench) {
		b.expect("ATE0", "ATE0\rOK\r\r>")
		for c := range strings.FieldsSeq(`L0 S0 S1 H0 H1 AT0 AT1 AT2 ST32 ST00 CAF0 CAF1 SP6 SPA6 SP6A TP0 TPA0 PC CRA CRA7E8
			CRA18DAF110 CF7E8 CM7FF SH7E0 SH7DF SH686AF1 SH18DB33F1 FCSH7E0 FCSD300000 FCSM1 M0 M1 SW00 SW92 AL NL CP18 R1 D1 D0 D
			E0 CFC1 V0 KW1 IB10 SS BI CV1234 PP0CSV23 PP0CON PPFFOFF SD5A WM8113F13E`) {
			b.expect("AT"+c, ok1)
			if c == "D" {
				b.expect("ATE0", "ATE0\rOK\r\r>")
			}
		}
		for c := range strings.FieldsSeq("BRD BRD10 Q E2 AT3 ST1 SPG SP66 H CAF2 PP SH7 XYZ @4") {
			b.expect("AT"+c, "?\r\r>")
		}
		b.expect("ATRD", "5A\r\r>", "hello", "?\r\r>", "01 0G", "?\r\r>", "1", "?\r\r>", "010C0D0405060710", "?\r\r>",
			strings.Repeat("0", 300), "?\r\r>")
	})
}

func TestProtocolNames(t *testing.T) {
	onBench(t, Config{}, func(b *bench) {
		b.expect("ATE0", "ATE0\rOK\r\r>", "ATDP", "AUTO\r\r>", "ATDPN", "A0\r\r>",
			"0100", "SEARCHING...\r41 00 __ __ __ __ \r\r>",
			"ATDP", "AUTO, ISO 15765-4 (CAN 11/500)\r\r>", "ATDPN", "A6\r\r>",
			"ATSP3", ok1, "ATDP", "ISO 9141-2\r\r>", "ATDPN", "3\r\r>",
			"ATTP8", ok1, "ATDPN", "8\r\r>",
			"ATZ", "\r\rELM327 v1.5\r\r>", "ATDPN", "ATDPN\r3\r\r>", // ATTP was not stored
		)
	})
}

// The car's answers in each protocol: to headers on and off, spaces on and off.
func TestFormats(t *testing.T) {
	tests := []struct {
		protocol                        byte
		plain, headers, packed, bitmaps string
	}{
		{'1', "41 0D 00 \r", "41 6B 10 41 0D 00 __ \r", "416B10410D00__\r", "41 00 __ __ __ __ \r"},
		{'2', "41 0D 00 \r", "48 6B 10 41 0D 00 __ \r", "486B10410D00__\r", "41 00 __ __ __ __ \r"},
		{'3', "41 0D 00 \r", "48 6B 10 41 0D 00 11 \r", "486B10410D0011\r", "BUS INIT: ...OK\r41 00 __ __ __ __ \r"},
		{'4', "41 0D 00 \r", "83 F1 10 41 0D 00 D2 \r", "83F110410D00D2\r", "BUS INIT: ...OK\r41 00 __ __ __ __ \r"},
		{'5', "41 0D 00 \r", "83 F1 10 41 0D 00 D2 \r", "83F110410D00D2\r", "BUS INIT: OK\r41 00 __ __ __ __ \r"},
		{'6', "41 0D 00 \r", "7E8 03 41 0D 00 00 00 00 00 \r", "7E803410D0000000000\r", "41 00 __ __ __ __ \r"},
		{'7', "41 0D 00 \r", "18 DA F1 10 03 41 0D 00 00 00 00 00 \r", "18DAF11003410D0000000000\r", "41 00 __ __ __ __ \r"},
		{'8', "41 0D 00 \r", "7E8 03 41 0D 00 00 00 00 00 \r", "7E803410D0000000000\r", "41 00 __ __ __ __ \r"},
		{'9', "41 0D 00 \r", "18 DA F1 10 03 41 0D 00 00 00 00 00 \r", "18DAF11003410D0000000000\r", "41 00 __ __ __ __ \r"},
		{'A', "41 0D 00 \r", "18 DA F1 10 03 41 0D 00 00 00 00 00 \r", "18DAF11003410D0000000000\r", "41 00 __ __ __ __ \r"},
	}
	for _, test := range tests {
		t.Run(protocols[test.protocol].name, func(t *testing.T) {
			onBench(t, Config{Speedup: 0.001, OBD: OBDConfig{Protocol: test.protocol}}, func(b *bench) {
				b.expect("ATE0", "ATE0\rOK\r\r>", "ATSP"+string(test.protocol), ok1,
					"0100", test.bitmaps+"\r>",
					"010D", test.plain+"\r>",
					"ATH1", ok1, "010D", test.headers+"\r>",
					"ATS0", ok1, "010D", test.packed+"\r>",
				)
			})
		})
	}
}

func TestCheckBytes(t *testing.T) {
	if got := crcJ1850([]byte("123456789")); got != 0x4B { // CRC-8/SAE-J1850's check value
		t.Errorf("CRC %02X, want 4B", got)
	}
	if got := sum([]byte{0x48, 0x6B, 0x10, 0x41, 0x0D, 0x00}); got != 0x11 {
		t.Errorf("sum %02X, want 11", got)
	}
}

func TestBitmapsTellTheParameters(t *testing.T) {
	var told []byte
	car := newCar(newDrive(1), driveClock{start: time.Now(), speedup: 1}, OBDConfig{Protocol: '6', ECUs: 1})
	for base := 0; base < 0x100; base += 0x20 {
		m := car.answer(&car.ecus[0], []byte{1, byte(base)}, time.Now())
		if len(m) == 0 {
			break
		}
		for bit := range 32 {
			if pid := base + bit + 1; m[0].data[2+bit/8]&(0x80>>(bit%8)) != 0 {
				told = append(told, byte(pid))
			}
		}
	}
	for pid := range 256 {
		answered := len(car.answer(&car.ecus[0], []byte{1, byte(pid)}, time.Now())) > 0
		announced := pid == 0 || strings.Contains(string(told), string([]byte{byte(pid)}))
		if answered != announced {
			t.Errorf("PID %02X: answered %v, announced %v", pid, answered, announced)
		}
	}
	if got := car.answer(&car.ecus[0], []byte{1, 0}, time.Now())[0].data; string(got[2:]) != "\x9E\x7F\x80\x13" {
		t.Errorf("0100: % X", got)
	}
}
