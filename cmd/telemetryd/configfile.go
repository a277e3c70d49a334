package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// fileValue is one setting of a file: its texts and where it stands.
type fileValue struct {
	texts []string
	where string // "telemetryd.yaml:3: vehicle_id"
	own   []ownText
	node  ast.Node // of a section
}

// ownText is a signal of the user's own as it stands in the file: its keys and their
// texts.
type ownText struct {
	name, where string
	fields      map[string][]string
}

// readFile reads a settings file. It returns values by flag name. A key that is not
// known, a key that comes twice and a value of the wrong shape are refused with
// file and line.
func readFile(name string, known map[string]any) (map[string]fileValue, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the settings: %w", err)
	}
	tree, err := parser.ParseBytes(content, 0)
	if err != nil {
		return nil, fmt.Errorf("%s:%s", name, syntax(err))
	}
	values := map[string]fileValue{}
	for _, doc := range tree.Docs {
		if doc.Body == nil {
			continue
		}
		mapping, ok := doc.Body.(ast.MapNode)
		if !ok {
			return nil, fmt.Errorf("%s:%d: key: value lines are wanted", name, doc.Body.GetToken().Position.Line)
		}
		for it := mapping.MapRange(); it.Next(); {
			key := it.Key().GetToken()
			where := fmt.Sprintf("%s:%d: %s", name, key.Position.Line, key.Value)
			flag := strings.ReplaceAll(key.Value, "_", "-")
			target, ok := known[flag]
			if !ok || strings.Contains(key.Value, "-") {
				allowed := strings.ReplaceAll(strings.Join(slices.Sorted(maps.Keys(known)), " "), "-", "_")
				return nil, fmt.Errorf("%s:%d: unknown key %q; allowed: %s", name, key.Position.Line, key.Value, allowed)
			}
			if _, twice := values[flag]; twice {
				return nil, fmt.Errorf("%s: this key comes twice", where)
			}
			if _, ok := target.(section); ok {
				values[flag] = fileValue{where: where, node: it.Value()}
				continue
			}
			if _, ok := target.(*[]ownText); ok {
				own, err := ownTexts(name, it.Value())
				if err != nil {
					return nil, err
				}
				values[flag] = fileValue{where: where, own: own}
				continue
			}
			texts, err := nodeTexts(it.Value(), target, flag)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", where, err)
			}
			values[flag] = fileValue{texts: texts, where: where}
		}
	}
	return values, nil
}

// ownTexts reads the mapping of own signals.
func ownTexts(file string, n ast.Node) (all []ownText, err error) {
	mapping, ok := n.(ast.MapNode)
	if !ok {
		return nil, fmt.Errorf("%s:%d: own_signals: name: {request: ..., formula: ...} lines are wanted", file, n.GetToken().Position.Line)
	}
	for it := mapping.MapRange(); it.Next(); {
		key := it.Key().GetToken()
		own := ownText{key.Value, fmt.Sprintf("%s:%d: own_signals: %s", file, key.Position.Line, key.Value), map[string][]string{}}
		fields, ok := it.Value().(ast.MapNode)
		if !ok {
			return nil, fmt.Errorf("%s: keys are wanted: %s", own.where, strings.Join(ownKeys, " "))
		}
		for f := fields.MapRange(); f.Next(); {
			k := f.Key().GetToken()
			where := fmt.Sprintf("%s:%d: own_signals: %s: %s", file, k.Position.Line, own.name, k.Value)
			if !slices.Contains(ownKeys, k.Value) {
				return nil, fmt.Errorf("%s: unknown key; allowed: %s", where, strings.Join(ownKeys, " "))
			}
			if own.fields[k.Value] != nil {
				return nil, fmt.Errorf("%s: this key comes twice", where)
			}
			own.fields[k.Value], err = nodeTexts(f.Value(), new([]string), "")
			if err != nil {
				return nil, fmt.Errorf("%s: %w", where, err)
			}
		}
		if slices.ContainsFunc(all, func(o ownText) bool { return o.name == own.name }) {
			return nil, fmt.Errorf("%s: this signal comes twice", own.where)
		}
		all = append(all, own)
	}
	return all, nil
}

// ownKeys are the keys of an own signal.
var ownKeys = []string{"request", "header", "filter", "formula", "unit", "range", "rate"}

// syntax shortens goccy's message, which begins with "[line:column] ".
func syntax(err error) string {
	e, ok := errors.AsType[yaml.Error](err)
	if !ok {
		return " " + err.Error()
	}
	return fmt.Sprintf("%d: %s", e.GetToken().Position.Line, e.GetMessage())
}

// nodeTexts reads the value of a key in the form that its setting has.
func nodeTexts(n ast.Node, target any, flag string) ([]string, error) {
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		if flag != "signals" {
			return nil, errors.New("a single value is allowed, not a mapping")
		}
		var texts []string
		for it := n.(ast.MapNode).MapRange(); it.Next(); {
			rate, err := scalar(it.Value())
			if err != nil {
				return nil, err
			}
			texts = append(texts, it.Key().GetToken().Value+"="+rate)
		}
		return texts, nil
	case *ast.SequenceNode:
		if _, ok := target.(*[]string); !ok {
			return nil, errors.New("a single value is allowed, not a list")
		}
		var texts []string
		for _, v := range n.Values {
			text, err := scalar(v)
			if err != nil {
				return nil, err
			}
			texts = append(texts, text)
		}
		return texts, nil
	default:
		text, err := scalar(n)
		return []string{text}, err
	}
}

func scalar(n ast.Node) (string, error) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return strings.TrimRight(n.Value.Value, "\n"), nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, nil
	case *ast.NullNode:
		return "", errors.New("a value is missing")
	default:
		return "", errors.New("a plain text or number is allowed here")
	}
}
