package main

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Sections are settings that have a structure: they stand in the file alone. Each has its
// own file here, section_NAME.go, with its texts as they are written and how they are judged.
type sections struct {
	trips     tripsText
	driving   drivingText
	geofences geofencesText
	privacy   privacyText
	hooks     []hookText
	commands  commandsSection
	parked    parkedSection
}

// section is where one of them goes: a pointer to a struct, map or list with yaml tags.
type section struct{ target any }

// targets are the sections by their key.
func (s *sections) targets() map[string]any {
	return map[string]any{
		"trips":     section{&s.trips},
		"driving":   section{&s.driving},
		"geofences": section{&s.geofences},
		"privacy":   section{&s.privacy},
		"hooks":     section{&s.hooks},
		"commands":  section{&s.commands},
		"parked":    section{&s.parked},
	}
}

// judgeSections checks every section and returns all that is wrong.
func (s *settings) judgeSections(o *options) (errs []error) {
	failed := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	where := func(key string) string { return cmp.Or(s.origin[key], key) }
	var err error
	o.trips = s.sections.trips.judge(func(err error) { failed(fmt.Errorf("%s: %w", where("trips"), err)) })
	o.driving = s.sections.driving.judge(func(key, value, allowed string) {
		failed(fmt.Errorf("%s: %s: %q is not allowed; allowed: %s", where("driving"), key, value, allowed))
	})
	o.privacy, err = s.sections.privacy.judge(where("privacy"))
	failed(err)
	o.commands, err = s.sections.commands.judge(o.topicPrefix+"/"+o.vehicleID, where("commands"))
	failed(err)
	hooks, bad := judgeHooks(s.sections.hooks, where("hooks"))
	o.hooks, errs = hooks, append(errs, bad...)
	o.parked, err = s.sections.parked.judge(where("parked"))
	failed(err)
	o.fences, err = s.judgeGeofences()
	failed(err)
	return errs
}

// decode reads a section into its target. A key that is not known, one that comes twice and
// a value of the wrong type are refused with file and line.
func decode(file, key string, n ast.Node, target any) error {
	err := yaml.NodeToValue(n, target, yaml.Strict())
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*durationError](err); ok {
		return fmt.Errorf("%s:%d: %s: %w", file, e.line, e.key, err)
	}
	if e, ok := errors.AsType[yaml.Error](err); ok && e.GetToken() != nil {
		return fmt.Errorf("%s:%d: %s: %s", file, e.GetToken().Position.Line, keyOf(key, e), inWords(e.GetMessage()))
	}
	return fmt.Errorf("%s:%d: %s: %w", file, n.GetToken().Position.Line, key, err)
}

// keyOf names the key whose value a token is of, below the section's.
func keyOf(section string, e yaml.Error) string {
	if strings.HasPrefix(e.GetMessage(), "unknown field") { // which is the token itself
		return section
	}
	for t := e.GetToken(); t != nil; t = t.Prev {
		if t.Type == token.MappingValueType && t.Prev != nil && t.Prev.Value != section {
			return section + ": " + t.Prev.Value
		}
	}
	return section
}

// inWords says in YAML's words what goccy says in Go's.
func inWords(message string) string {
	return wanted.Replace(goType.ReplaceAllStringFunc(message, func(m string) string {
		switch kind := goType.FindStringSubmatch(m)[1]; kind {
		case "bool":
			return "allowed: true, false"
		case "string":
			return "a plain text is allowed"
		default:
			return "a number is allowed"
		}
	}))
}

var goType = regexp.MustCompile(`cannot unmarshal \S+ into Go (?:value|struct field \S+) of type (\S+)`)

var wanted = strings.NewReplacer("where sequence is expected", "where a list is allowed, as [a, b]", "where mapping is expected", "where keys with values are allowed, as {key: value}")

// duration is a time in a section, as 10m.
type duration time.Duration

// durationError is a text that is no duration, with its place: goccy tells that only of its
// own errors.
type durationError struct {
	line int
	key  string // "parked: after"
	err  error
}

func (e *durationError) Error() string { return e.err.Error() }

// listIndex is of an entry of a list in a path; the line tells which it is.
var listIndex = regexp.MustCompile(`\[\d+\]`)

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (d *duration) UnmarshalYAML(n ast.Node) error {
	text, err := scalar(n)
	if err == nil {
		var parsed time.Duration
		if parsed, err = time.ParseDuration(text); err == nil {
			*d = duration(parsed)
			return nil
		}
		err = fmt.Errorf("%q is no duration; allowed: as 500ms, 10s, 5m or 1h", text)
	}
	key := strings.ReplaceAll(strings.TrimPrefix(listIndex.ReplaceAllString(n.GetPath(), ""), "$."), ".", ": ")
	return &durationError{n.GetToken().Position.Line, key, err}
}
