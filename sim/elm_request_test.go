package sim

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

// connected is a bench with the protocol open, echo and spaces off.
func connected(t *testing.T, c Config, test func(*bench)) {
	t.Helper()
	onBench(t, c, func(b *bench) {
		b.enter("ATE0\r")
		b.enter("ATS0\r")
		b.enter("0100\r")
		test(b)
	})
}

// slow makes the drive stand still, so that answers can be written down.
const slow = 1e-6

func TestSeveralParameters(t *testing.T) {
	connected(t, Config{Speedup: slow, OBD: OBDConfig{ECUs: 2}}, func(b *bench) {
		b.expect(
			"ATS1", ok1, "ATH1", ok1,
			"010C0D", "7E8 06 41 0C __ __ 0D 00 00 \r7E9 03 41 0D 01 AA AA AA AA \r\r>",
			"ATS0", ok1,
			"0101050F0C0D33", "7E8101141018207E500\r7E91008410100040000\r7E82105__0F__0C____\r7E9210D01AAAAAAAAAA\r7E8220D0033__000000\r\r>",
		)
	})
}

// The shape of a recorded answer with two ECUs (ELM327-emulator#38): one first
// frame, the other ECU's only frame, then the consecutive frames.
func TestFramesOfTwoECUsInterleave(t *testing.T) {
	connected(t, Config{Speedup: slow, OBD: OBDConfig{ECUs: 2}}, func(b *bench) {
		b.expect(
			"ATH1", ok1,
			"0104050B0C0D0F", "7E8100E4104__05__0B\r7E903410D01AAAAAAAA\r7E821__0C____0D000F\r7E822__000000000000\r\r>",
			"ATH0", ok1,
			"0104050B0C0D0F", "00E\r0:4104__05__0B\r410D01\r1:__0C____0D000F\r2:__000000000000\r\r>",
			"ATS1", ok1,
			"0100", "41 00 9E 7F 80 13 \r41 00 80 08 00 00 \r\r>",
			"01 04 05 0B 0C", "00A \r0: 41 04 __ 05 __ 0B \r1: __ 0C __ __ 00 00 00 \r\r>",
		)
	})
}

func TestUnknownParametersAreLeftOut(t *testing.T) {
	connected(t, Config{Speedup: slow}, func(b *bench) {
		b.expect("010D020C", "410D000C____\r\r>", "0102", "NO DATA\r\r>", "010299", "NO DATA\r\r>", "2211", "7F2212\r\r>")
	})
	connected(t, Config{Speedup: slow, OBD: OBDConfig{Protocol: '2'}}, func(b *bench) {
		b.expect("010C0D", "NO DATA\r\r>", "010D", "410D00\r\r>")
	})
}

func TestIdentification(t *testing.T) {
	connected(t, Config{Speedup: slow}, func(b *bench) {
		b.expect(
			"ATH1", ok1, "0902", "7E81014490201575657\r7E8215A5A5A314B5A38\r7E82257313233343536\r\r>",
			"ATH0", ok1, "ATS1", ok1,
			"0902", "014 \r0: 49 02 01 57 56 57 \r1: 5A 5A 5A 31 4B 5A 38 \r2: 57 31 32 33 34 35 36 \r\r>",
			"0900", "49 00 50 40 00 00 \r\r>",
			"0902F", "014 \r0: 49 02 01 57 56 57 \r1: 5A 5A 5A 31 4B 5A 38 \r2: 57 31 32 33 34 35 36 \r\r>",
			"09021", "014 \r0: 49 02 01 57 56 57 \r\r>", // one frame, not one message
		)
	})
	connected(t, Config{Speedup: slow, OBD: OBDConfig{Protocol: '3'}}, func(b *bench) {
		b.expect("0901", "490105\r\r>",
			"0902", "49020100000057\r49020256575A5A\r4902035A314B5A\r49020438573132\r49020533343536\r\r>")
	})
}

func TestTroubleCodes(t *testing.T) {
	connected(t, Config{Speedup: slow, OBD: OBDConfig{ECUs: 2}}, func(b *bench) {
		b.expect(
			"03", "430203010420\r4300\r\r>", "07", "47010171\r4700\r\r>", "0A", "4A010301\r4A00\r\r>",
			"0101", "41018207E500\r410100040000\r\r>", "020200", "4202000301\r\r>", "020C00", "420C002170\r\r>",
			"04", "7F0422\r7F0422\r\r>", "03", "430203010420\r4300\r\r>", // the engine runs
		)
		b.adapter.car.engineOff.Store(true)
		b.expect(
			"010C", "410C0000\r\r>", "04", "44\r44\r\r>",
			"03", "4300\r4300\r\r>", "07", "4700\r4700\r\r>", "0A", "4A010301\r4A00\r\r>",
			"0101", "41010007E500\r410100040000\r\r>", "020200", "NO DATA\r\r>", "0131", "41310000\r\r>",
		)
	})
	connected(t, Config{Speedup: slow, OBD: OBDConfig{Protocol: '5'}}, func(b *bench) {
		b.expect("03", "43030104200000\r\r>", "04", "7F0422\r\r>")
		b.adapter.car.engineOff.Store(true)
		b.expect("04", "44\r\r>", "03", "43000000000000\r\r>")
	})
	connected(t, Config{Speedup: slow, OBD: OBDConfig{Lacks: []byte{0x0A}, NeverClears: true, ECUs: 2}}, func(b *bench) {
		b.adapter.car.engineOff.Store(true)
		b.expect("0A", "NO DATA\r\r>", "04", "7F0422\r44\r\r>", "03", "430203010420\r4300\r\r>")
	})
}

func TestAddressesAndFilters(t *testing.T) {
	connected(t, Config{Speedup: slow, OBD: OBDConfig{ECUs: 2}}, func(b *bench) {
		b.expect("010D", "410D00\r410D01\r\r>",
			"ATSH7E1", ok1, "010D", "410D01\r\r>", "ATSH7E5", ok1, "010D", "NO DATA\r\r>", "ATSH7DF", ok1,
			"ATCRA7E8", ok1, "010D", "410D00\r\r>", "ATCRA", ok1, "010D", "410D00\r410D01\r\r>",
			"ATCF7E9", ok1, "ATCM7FF", ok1, "010D", "410D01\r\r>", "ATAR", ok1,
			"ATCAF0", ok1, "02010D", "03410D0000000000\r03410D01AAAAAAAA\r\r>", "ATCAF1", ok1,
			"ATH1", ok1, "ATD1", ok1, "010D1", "7E8803410D0000000000\r\r>",
			"ATR0", ok1, "010D", "\r>",
		)
	})
	connected(t, Config{Speedup: slow, OBD: OBDConfig{Protocol: '7', ECUs: 2}}, func(b *bench) {
		b.expect("ATSHDA18F1", ok1, "010D", "410D01\r\r>", "ATSH18DA10F1", ok1, "010D", "410D00\r\r>",
			"ATSH7DF", ok1, "010D", "NO DATA\r\r>")
	})
}

// How long an answer takes decides how many values a second there are.
func TestTiming(t *testing.T) {
	connected(t, Config{Speedup: slow}, func(b *bench) {
		took := func(command string) time.Duration {
			start := time.Now()
			b.enter(command + "\r")
			return time.Since(start)
		}
		if d := took("010D1"); d != 10*time.Millisecond {
			t.Errorf("with a count: %v", d)
		}
		if d := took("010D"); d != 34*time.Millisecond { // 10 ms, then 2 x 10 + 4
			t.Errorf("adaptive: %v", d)
		}
		b.expect("ATAT0", ok1)
		if d := took("010D"); d != 10*time.Millisecond+defaultTimeout {
			t.Errorf("not adaptive: %v", d)
		}
		b.expect("ATST10", ok1)
		if d := took("010D"); d != 10*time.Millisecond+16*timeoutUnit {
			t.Errorf("with ATST10: %v", d)
		}
	})
	connected(t, Config{Speedup: slow, OBD: OBDConfig{Baud: 38400}}, func(b *bench) {
		start := time.Now()
		b.enter("010D1\r") // 6 bytes there; 410D00 CR CR > back
		if d, want := time.Since(start), 10*time.Millisecond+14*10*time.Second/38400; d < want || d > want+2*time.Millisecond {
			t.Errorf("paced: %v, want about %v", d, want)
		}
	})
}

func TestLoneReturnRepeats(t *testing.T) {
	connected(t, Config{Speedup: slow}, func(b *bench) {
		b.expect("010D", "410D00\r\r>", "", "410D00\r\r>", "  ", "410D00\r\r>", "ATI", "ELM327 v1.5\r\r>", "", "ELM327 v1.5\r\r>")
	})
	onBench(t, Config{}, func(b *bench) { b.expect("", "\r\r>") })
}

func TestAnyByteStops(t *testing.T) {
	connected(t, Config{Speedup: slow}, func(b *bench) {
		for _, c := range []struct{ typed, want string }{
			{"010D\r ", "STOPPED\r\r>"},
			{"ATMA\rx", "STOPPED\r\r>"},
			{"010D\r\n\x00", "410D00\r\r>"}, // these are ignored
		} {
			if got := b.enter(c.typed); got != c.want {
				t.Errorf("%q: %q, want %q", c.typed, got, c.want)
			}
		}
		// Two commands at once: the second loses its first character to the stop.
		if got := b.enter("010D\rATI\r"); got != "STOPPED\r\r>" {
			t.Errorf("%q", got)
		}
		if got := b.enter(""); got != "?\r\r>" { // TI
			t.Errorf("%q", got)
		}
		for _, truth := range b.truths {
			if truth.PID == "0D" && truth.Request == "010D" && len(b.truths) > 2 {
				t.Errorf("truth of answers that were stopped: %+v", b.truths)
				break
			}
		}
	})
}

func TestIgnitionOff(t *testing.T) {
	d := newDrive(0)
	off := time.Duration(0)
	for ; d.at(off).ignition; off += time.Second {
	}
	connected(t, Config{}, func(b *bench) {
		b.expect("ATIGN", "ON\r\r>", "ATRV", "14.1V\r\r>")
		time.Sleep(off - 2*time.Second)
		time.Sleep(10 * time.Second)
		b.expect("010D", "NO DATA\r\r>", "ATIGN", "OFF\r\r>", "ATRV", "12.4V\r\r>", "ATPC", ok1,
			"010D", "SEARCHING...\rUNABLE TO CONNECT\r\r>", "ATSP6", ok1, "010D", "NO DATA\r\r>",
			"ATSP5", ok1, "010D", "BUS INIT: ERROR\r\r>", "ATSP7", ok1, "010D", "CAN ERROR\r\r>")
		time.Sleep(time.Minute)
		b.expect("ATSP0", ok1, "010D", "SEARCHING...\r410D__\r\r>", "ATRV", "14.1V\r\r>")
	})
}

func TestKLineStaysAwake(t *testing.T) {
	connected(t, Config{OBD: OBDConfig{Protocol: '5'}}, func(b *bench) {
		before := b.adapter.bus.traffic(time.Now())
		time.Sleep(31 * time.Second)
		if n := b.adapter.bus.traffic(time.Now()).KeepAlives - before.KeepAlives; n != 10 {
			t.Errorf("%d keep-alives in 31 s", n)
		}
		b.expect("010D", "410D__\r\r>", "ATPC", ok1)
		closed := b.adapter.bus.traffic(time.Now())
		time.Sleep(time.Minute)
		if now := b.adapter.bus.traffic(time.Now()); now != closed {
			t.Errorf("a closed protocol: %+v, then %+v", closed, now)
		}
		b.expect("010D", "BUS INIT: OK\r410D__\r\r>", "ATSW00", ok1)
		time.Sleep(6 * time.Second)
		b.expect("010D", "BUS INIT: OK\r410D__\r\r>")
	})
}

func TestLowPower(t *testing.T) {
	onBench(t, Config{}, func(b *bench) {
		b.enter("ATE0\r")
		go func() { _, _ = b.client.Write([]byte("ATLP\r")) }()
		buf := make([]byte, 10)
		n, _ := b.client.Read(buf)
		if string(buf[:n]) != "OK\r" {
			t.Errorf("%q", buf[:n])
		}
		time.Sleep(time.Hour)
		if got := b.enter(" "); got != "\r\rELM327 v1.5\r\r>" {
			t.Errorf("woke with %q", got)
		}
	})
}

// Every value in the log follows from the bytes that were sent with it.
func TestTruthMatchesBytes(t *testing.T) {
	connected(t, Config{Seed: 4, OBD: OBDConfig{ECUs: 2}}, func(b *bench) {
		b.expect("ATH1", ok1)
		time.Sleep(40 * time.Second)
		for _, p := range parameters {
			b.truths = nil
			request := "01" + upperHex([]byte{p.pid})
			answer := b.enter(request + "\r")
			if len(b.truths) == 0 {
				t.Fatalf("%s: no truth", request)
			}
			truth := b.truths[0]
			line, _, _ := strings.Cut(answer, "\r")
			sent := strings.TrimPrefix(line, "7E8")
			n, _ := hex.DecodeString(sent[:2])
			if got := sent[6 : 2+2*int(n[0])]; got != truth.Bytes || truth.ECU != "7E8" || truth.PID != request[2:] || truth.Request != request {
				t.Errorf("%s: sent %s, truth %+v", request, got, truth)
			}
			if len(truth.Values) == 0 {
				t.Errorf("%s: no values", request)
			}
		}
	})
}

// The formulas, by the examples of SAE J1979 and the data sheet.
func TestMeanings(t *testing.T) {
	for pid, want := range map[byte]struct {
		bytes, name string
		value       any
	}{
		0x01: {"8207E500", "dtc_count", 2.0},
		0x04: {"80", "engine_load_pct", 50.2},
		0x05: {"7B", "coolant_temperature_c", 83.0},
		0x06: {"7C", "short_term_fuel_trim_bank1_pct", -3.13},
		0x0A: {"73", "fuel_pressure_kpa", 345.0},
		0x0C: {"1AF8", "engine_speed_rpm", 1726.0},
		0x0E: {"87", "timing_advance_deg", 3.5},
		0x10: {"0123", "maf_g_s", 2.91},
		0x42: {"36B0", "control_module_voltage_v", 14.0},
		0x43: {"00FF", "absolute_load_pct", 100.0},
		0x44: {"7FFF", "commanded_lambda", 0.99997},
		0x5E: {"0064", "fuel_rate_l_h", 5.0},
		0x62: {"96", "actual_torque_pct", 25.0},
		0xA4: {"03300E74", "gear_ratio", 3.7},
		0xA6: {"00075BCD", "odometer_km", 48225.3},
	} {
		b, _ := hex.DecodeString(want.bytes)
		if got := findParameter(pid).mean(b)[want.name]; got != want.value {
			t.Errorf("%02X %s: %v, want %v", pid, want.bytes, got, want.value)
		}
	}
}
