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
			texts, err := nodeTexts(it.Value(), target, flag)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", where, err)
			}
			values[flag] = fileValue{texts, where}
		}
	}
	return values, nil
}

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
