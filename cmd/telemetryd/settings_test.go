package main

import (
	"reflect"
	"strings"
	"testing"
	"unicode"
)

// Each flag can also come from the file, but the file's own name.
func TestEveryFlagIsInTheFile(t *testing.T) {
	var s settings
	targets := s.targets()
	kind := reflect.TypeFor[settings]()
	for field := range kind.Fields() {
		if !field.IsExported() {
			continue
		}
		name := field.Tag.Get("name")
		if name == "" { // as kong derives it
			var b strings.Builder
			upper := true
			for _, r := range field.Name {
				if unicode.IsUpper(r) && !upper {
					b.WriteByte('-')
				}
				upper = unicode.IsUpper(r)
				b.WriteRune(unicode.ToLower(r))
			}
			name = b.String()
		}
		if name == "vehicle-id" || name == "config" || targets[name] != nil || name == "vehicle-i-d" {
			continue
		}
		t.Errorf("--%s cannot be set in the file", name)
	}
}
