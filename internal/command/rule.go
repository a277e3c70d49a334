package command

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Rule is how one command runs: a program, or a built-in when it has none.
type Rule struct {
	exec    []string
	timeout time.Duration
	args    map[string]arg
}

// Arg is an argument that a program may get from a message.
type Arg struct {
	Pattern string // a regular expression that the whole value has to match
	Secret  bool   // its value is not written down
}

type arg struct {
	pattern *regexp.Regexp
	text    string // of it, as the owner wrote it
	minus   bool   // the pattern begins with one, so that a value may
	secret  bool
}

const (
	// builtinLimit is how long a built-in command may take, unless its rule tells.
	builtinLimit = 30 * time.Second
	mostArgs     = 16
	mostValue    = 256
)

var (
	namePattern    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	argNamePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
	placeholder    = regexp.MustCompile(`\{([^{}]*)\}`)
)

// ValidName tells whether a command may be called so: 1 to 64 of A-Z a-z 0-9 _ -.
func ValidName(name string) bool { return namePattern.MatchString(name) }

// NewRule checks how a command runs. exec is the program and its arguments; an element {name}
// stands for the argument of that name. Without exec it is a built-in command.
func NewRule(exec []string, timeout time.Duration, args map[string]Arg) (Rule, error) {
	r := Rule{exec: exec, timeout: timeout, args: map[string]arg{}}
	if len(exec) == 0 {
		if len(args) > 0 {
			return r, errors.New("args: they are for programs (exec); built-in commands check their own")
		}
		return r, nil
	}
	if exec[0] == "" {
		return r, errors.New("exec: the program's name is empty")
	}
	used := map[string]bool{}
	for i, element := range exec {
		for _, found := range placeholder.FindAllStringSubmatch(element, -1) {
			name := found[1]
			_, declared := args[name]
			switch {
			case !declared && !argNamePattern.MatchString(name):
				continue // braces of the program's own
			case !declared:
				return r, fmt.Errorf("exec: {%s} is not declared; add args: {%s: {pattern: '[0-9]{1,3}'}}", name, name)
			case i == 0:
				return r, errors.New("exec: the program itself cannot come from a message")
			case element != found[0]:
				return r, fmt.Errorf("exec: %q: an argument of a message stands alone, as \"{%s}\"", element, name)
			}
			used[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(args)) {
		compiled, err := compile(name, args[name])
		switch {
		case err != nil:
			return r, err
		case !used[name]:
			return r, fmt.Errorf("args: %s is not used in exec; add \"{%s}\" to it", name, name)
		}
		r.args[name] = compiled
	}
	if len(args) > mostArgs {
		return r, fmt.Errorf("args: %d; allowed: up to %d", len(args), mostArgs)
	}
	return r, nil
}

// compile checks a declared argument. A value has to match as a whole.
func compile(name string, a Arg) (arg, error) {
	switch {
	case !argNamePattern.MatchString(name):
		return arg{}, fmt.Errorf("args: %q is no name for an argument; allowed: 1 to 32 of a-z 0-9 _", name)
	case slices.Contains(requestKeys, name):
		return arg{}, fmt.Errorf("args: an argument cannot be called %s, for that has a meaning in a message", name)
	case a.Pattern == "":
		return arg{}, fmt.Errorf("args: %s: a pattern is missing; as pattern: '[0-9]{1,3}'", name)
	}
	if _, err := regexp.Compile(a.Pattern); err != nil { // by itself: a lone ) must not close what is put around it
		return arg{}, fmt.Errorf("args: %s: pattern: %w", name, err)
	}
	pattern, err := regexp.Compile(`\A(?:` + a.Pattern + `)\z`)
	if err != nil {
		return arg{}, fmt.Errorf("args: %s: pattern: %w", name, err)
	}
	begin := strings.TrimPrefix(a.Pattern, "^")
	return arg{pattern, a.Pattern, strings.HasPrefix(begin, "-") || strings.HasPrefix(begin, `\-`), a.Secret}, nil
}

// Takes reports whether a command needs arguments from its message.
func (r Rule) Takes() bool { return len(r.args) > 0 }

func (r Rule) limit() time.Duration { return cmp.Or(r.timeout, builtinLimit) }

// argv is the program with the arguments of a message in their places.
func (r Rule) argv(given map[string]string) ([]string, error) {
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, declared := r.args[name]; !declared {
			return nil, refused("bad_args", "it takes no argument %q", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.args)) {
		a := r.args[name]
		value, ok := given[name]
		switch {
		case !ok:
			return nil, refused("bad_args", "the argument %s is missing", name)
		case strings.HasPrefix(value, "-") && !a.minus:
			// To the program it would be an option.
			return nil, refused("bad_args", "the argument %s may not begin with -", name)
		case !a.pattern.MatchString(value):
			return nil, refused("bad_args", "the argument %s does not match its pattern %s", name, a.text)
		}
	}
	argv := slices.Clone(r.exec)
	for i, element := range argv {
		if name, ok := strings.CutPrefix(element, "{"); ok && i > 0 {
			name = strings.TrimSuffix(name, "}")
			if _, declared := r.args[name]; declared && element == "{"+name+"}" {
				argv[i] = given[name]
			}
		}
	}
	return argv, nil
}
