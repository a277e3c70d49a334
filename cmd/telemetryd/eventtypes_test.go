package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"telemetryd/internal/telemetry"
)

// Every type that the daemon gives an event is its own: no program on the machine can say
// the same.
func TestOwnEventTypes(t *testing.T) {
	named := regexp.MustCompile(`(?:Event\{\s*Type:\s*|\.event\()"([a-z0-9_]+)"`)
	found := 0
	for _, root := range []string{"../../internal", "."} {
		if err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			for _, m := range named.FindAllStringSubmatch(string(b), -1) {
				if found++; !telemetry.IsOwnEvent(m[1]) {
					t.Errorf("%s: %s is missing in internal/telemetry/eventtype.go", path, m[1])
				}
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if found < 7 {
		t.Errorf("only %d types found", found)
	}
}
