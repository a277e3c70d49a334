package command

import (
	"slices"
	"strings"
	"testing"
)

func TestNewRule(t *testing.T) {
	digits := map[string]Arg{"level": {Pattern: "[0-9]{1,3}"}}
	for _, c := range []struct {
		exec []string
		args map[string]Arg
		want string
	}{
		{nil, nil, ""},
		{nil, digits, "they are for programs"},
		{[]string{"dim", "{level}"}, digits, ""},
		{[]string{"dim", "{Level} {}"}, nil, ""},
		{[]string{""}, nil, "the program's name is empty"},
		{[]string{"dim", "{level}"}, nil, "{level} is not declared; add args: {level:"},
		{[]string{"dim"}, digits, "level is not used in exec"},
		{[]string{"{level}"}, digits, "the program itself cannot come from a message"},
		{[]string{"dim", "--level={level}"}, digits, `stands alone, as "{level}"`},
		{[]string{"dim", "{id}"}, map[string]Arg{"id": {Pattern: "x"}}, "has a meaning in a message"},
		{[]string{"dim", "{level}"}, map[string]Arg{"level": {}}, "a pattern is missing"},
		{[]string{"dim", "{level}"}, map[string]Arg{"level": {Pattern: "("}}, "pattern: error parsing regexp"},
		{[]string{"dim", "{level}"}, map[string]Arg{"level": {Pattern: "a)|(?:.*"}}, "pattern: error parsing regexp"},
	} {
		_, err := NewRule(c.exec, 0, c.args)
		if said := errorText(err); (said == "") != (c.want == "") || !strings.Contains(said, c.want) {
			t.Errorf("%q %v: %q; want %q", c.exec, c.args, said, c.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// What a message gives is one argument or none: no shell, no option, nothing beside the
// pattern.
func TestArgv(t *testing.T) {
	r := rule(t, map[string]Arg{"a": {Pattern: ".*"}, "n": {Pattern: "-?[0-9]{1,3}|x"}}, "say", "{a}", "of {n", "{n}")
	for _, c := range []struct {
		a, n, want string
	}{
		{"1", "2", "say|1|of {n|2"},
		{"$(reboot); rm -rf / `ls` && | > ../x", "-5", "say|$(reboot); rm -rf / `ls` && | > ../x|of {n|-5"},
		{"{n}", "x", "say|{n}|of {n|x"},
		{"", "0", "say||of {n|0"},
		{"-rf", "2", "the argument a may not begin with -"},
		{"1", "1000", "the argument n does not match its pattern -?[0-9]{1,3}|x"},
		{"1", "5\n", "the argument n does not match"},
		{"1", "1 2", "the argument n does not match"},
		{"1", "--help", "the argument n does not match"},
	} {
		argv, err := r.argv(map[string]string{"a": c.a, "n": c.n})
		if got := strings.Join(argv, "|") + errorText(err); !strings.HasPrefix(got, c.want) {
			t.Errorf("%q %q: %q; want %q", c.a, c.n, got, c.want)
		}
	}
	for _, given := range []map[string]string{{"a": "1"}, {"a": "1", "n": "1", "x": "1"}, nil} {
		if argv, err := r.argv(given); err == nil {
			t.Errorf("%v: %q", given, argv)
		}
	}
	if !slices.Equal(r.exec, []string{"say", "{a}", "of {n", "{n}"}) {
		t.Errorf("the rule itself is changed: %q", r.exec)
	}
	lines := rule(t, map[string]Arg{"a": {Pattern: "(?m)^[a-z]+$"}}, "say", "{a}")
	if argv, err := lines.argv(map[string]string{"a": "ok\nnot ok"}); err == nil {
		t.Errorf("a pattern by lines lets %q through", argv)
	}
}
