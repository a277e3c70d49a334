package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"telemetryd/internal/port"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What goes over a port stands in the recording, byte for byte and in order.
func TestRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recordings")
	l := Open(dir, "obd", 1<<20, slog.New(slog.DiscardHandler))
	l.Opened(port.Address{Scheme: "tcp", Host: "192.168.0.10:35000"})
	l.Sent([]byte("ATZ\r"))
	l.Received([]byte("\r\xfc\x00ELM327 \"v1.5\"\r\r>"))
	l.Closed(errors.New("gone"))
	l.Close()
	names, _ := filepath.Glob(filepath.Join(dir, "obd-*.rec"))
	if len(names) != 1 {
		t.Fatalf("files: %v", names)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(names[0]); info.Mode().Perm() != 0o600 || !IsRecording(b[:64]) {
		t.Errorf("mode %v, begins %.40q", info.Mode(), b)
	}
	var got []string
	for e, err := range Parse(bytes.NewReader(b)) {
		got = append(got, fmt.Sprintf("%c%s %v", e.Mark, e.Data, err))
	}
	want := []string{"=open tcp://192.168.0.10:35000 <nil>", ">ATZ\r <nil>", "<\r\xfc\x00ELM327 \"v1.5\"\r\r> <nil>", "=closed: gone <nil>"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q, want %q", got, want)
	}
	stream, err := io.ReadAll(Received(bytes.NewReader(b), func(bad error) { t.Error(bad) }))
	if err != nil || string(stream) != "\r\xfc\x00ELM327 \"v1.5\"\r\r>" {
		t.Errorf("received %q, %v", stream, err)
	}
}

// Over many starts and much traffic the files stay within their bound, and the newest
// are there.
func TestBound(t *testing.T) {
	dir := t.TempDir()
	const limit = 64 << 10
	for start := range 3 {
		l := Open(dir, "gps", limit, slog.New(slog.DiscardHandler))
		for i := range 3000 {
			l.Received([]byte(strings.Repeat("x", 50)))
			if i%100 == 0 {
				for len(l.entries) > 0 { // not faster than the disk
				}
			}
		}
		l.Received(fmt.Appendf(nil, "last of %d", start))
		l.Close()
		names, _ := filepath.Glob(filepath.Join(dir, "*"))
		total := int64(0)
		for _, name := range names {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			total += info.Size()
		}
		newest, _ := os.ReadFile(names[len(names)-1])
		if total > limit || !strings.Contains(string(newest), fmt.Sprintf("last of %d", start)) {
			t.Errorf("%d bytes in %d files; the newest ends %q", total, len(names), newest[max(0, len(newest)-80):])
		}
	}
}

// Each file of a session can be played back by itself: it repeats how the session
// began, which is not decoded twice.
func TestSessionIsRepeated(t *testing.T) {
	dir := t.TempDir()
	l := Open(dir, "obd", 64<<10, slog.New(slog.DiscardHandler))
	l.Opened(port.Address{Scheme: "tcp", Host: "192.168.0.10:35000"})
	l.Sent([]byte("ATZ\r"))
	l.Received([]byte("ELM327 v1.5\r\r>"))
	for i := range 400 {
		l.Sent([]byte("010C\r"))
		l.Received(fmt.Appendf(nil, "7E804410C%04X\r\r>", i))
	}
	l.Close()
	names, _ := filepath.Glob(filepath.Join(dir, "*.rec"))
	if len(names) < 3 {
		t.Fatalf("%d files", len(names))
	}
	var all strings.Builder
	for i, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if repeats := strings.Contains(string(b), "0.000000 ] \"ATZ\\r\"\n0.000000 [ \"ELM327 v1.5"); repeats != (i > 0) {
			t.Errorf("file %d repeats the beginning: %v", i, repeats)
		}
		all.Write(b)
	}
	stream, err := io.ReadAll(Received(strings.NewReader(all.String()), func(bad error) { t.Error(bad) }))
	if n := strings.Count(string(stream), "7E804"); err != nil || n != 400 || strings.Count(string(stream), "ELM327") != 1 {
		t.Errorf("%d answers, %v", n, err)
	}
}

// A clock that is behind does not make the newest recording the oldest; and what is
// told after the end is left out.
func TestClockBehind(t *testing.T) {
	dir := t.TempDir()
	const limit = 64 << 10
	future := time.Now().AddDate(50, 0, 0)
	for i := range 7 {
		name := filepath.Join(dir, fmt.Sprintf("obd-20990101T00000%d.000Z.rec", i))
		if err := os.WriteFile(name, make([]byte, limit/files), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, future, future); err != nil {
			t.Fatal(err)
		}
	}
	l := Open(dir, "obd", limit, slog.New(slog.DiscardHandler))
	for i := range 600 {
		l.Received(fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", 50)))
	}
	l.Close()
	l.Received([]byte("late"))
	var all strings.Builder
	names, _ := filepath.Glob(filepath.Join(dir, "obd-2[0-9]*.rec"))
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	for _, want := range []string{"\"0 xx", "\"300 xx", "\"599 xx"} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("%s is gone; there are %v", want, names)
		}
	}
	if strings.Contains(all.String(), "late") {
		t.Error("what was told after the end is recorded")
	}
}

// A directory that cannot be made holds nobody up.
func TestDiskRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	l := Open(filepath.Join(file, "dir"), "obd", 1<<20, slog.New(slog.NewTextHandler(&told, nil)))
	for range 10 * queued {
		l.Sent([]byte("010C\r"))
	}
	l.Close()
	if n := strings.Count(told.String(), "cannot be written"); n != 1 {
		t.Errorf("told %d times: %s", n, told.String())
	}
}

func TestBrokenRecording(t *testing.T) {
	const text = header + "obd 2026-11-24T14:30:00.000Z\n" + `0.1 < "a"` + "\nnonsense\n0.2 ? \"b\"\n0.3 < 'c'\n-1 < \"d\"\n" + header + "obd 2026-11-24T15:30:00.000Z\n" + `0.4 < "e"` + "\n" + `0.5 < "cut o`
	var good, bad []string
	for e, err := range Parse(strings.NewReader(text)) {
		if err != nil {
			bad = append(bad, strings.SplitN(err.Error(), ":", 2)[0])
			continue
		}
		good = append(good, string(e.Data))
	}
	told := 0
	if stream, err := io.ReadAll(Received(strings.NewReader(text), func(error) { told++ })); string(stream) != "ae" || err != nil || told != 4 {
		t.Errorf("received %q, %v, told %d lines", stream, err, told)
	}
	if fmt.Sprint(good) != "[a e]" || fmt.Sprint(bad) != "[line 3 line 4 line 5 line 6]" {
		t.Errorf("good %q, bad %q", good, bad)
	}
}

// Whatever a file holds: no panic; and any bytes come back as they went in.
func FuzzParse(f *testing.F) {
	f.Add([]byte(header+"obd x\n0.1 < \"a\"\n"), []byte("\x00\xff\"\\\n>"))
	f.Fuzz(func(t *testing.T, file, data []byte) {
		for range Parse(bytes.NewReader(file)) {
		}
		line := "1.000001 < " + strconv.QuoteToASCII(string(data)) + "\n"
		for e, err := range Parse(strings.NewReader(line)) {
			if err != nil || !bytes.Equal(e.Data, data) {
				t.Errorf("%q came back as %q, %v", data, e.Data, err)
			}
		}
	})
}
