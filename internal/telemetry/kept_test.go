package telemetry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func inode(t *testing.T, path string) os.FileInfo {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi
}

// A value is saved in place; wherever a power cut leaves the write half done, it or the one
// before is there.
func TestKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kept")
	if _, err := LoadKept(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	save := func(value string) {
		t.Helper()
		if err := SaveKept(path, []byte(value)); err != nil {
			t.Fatal(err)
		}
		if got, err := LoadKept(path); err != nil || string(got) != value {
			t.Fatalf("%q, %v, want %q", got, err, value)
		}
	}
	save("first")
	file := inode(t, path)
	for i := range 5 {
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		old, value := fmt.Sprint("value ", i-1), fmt.Sprint("value ", i)
		if i == 0 {
			old = "first"
		}
		save(value)
		after, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for cut := range after {
			if before[cut] == after[cut] && cut > 0 {
				continue
			}
			torn := append(append([]byte{}, after[:cut]...), before[cut:]...)
			if err := os.WriteFile(path, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := LoadKept(path); err != nil || string(got) != old && string(got) != value {
				t.Fatalf("cut at %d: %q, %v", cut, got, err)
			}
		}
		if err := os.WriteFile(path, after, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !os.SameFile(file, inode(t, path)) {
		t.Error("the file was replaced")
	}
	save(strings.Repeat("long ", 2000))
	save("short again")
}

// What was plain JSON becomes a value; what is neither is said.
func TestKeptBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kept")
	for content, ok := range map[string]bool{`{"format":1}`: true, "": false, "\x00\x00": false, strings.Repeat("x", 9000): false} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := LoadKept(path); (err == nil) != ok || ok && string(got) != content {
			t.Errorf("%.20q: %q, %v", content, got, err)
		}
		if err := SaveKept(path, []byte("new")); err != nil {
			t.Fatal(err)
		}
		if got, err := LoadKept(path); err != nil || string(got) != "new" {
			t.Errorf("after %.20q: %q, %v", content, got, err)
		}
	}
}
