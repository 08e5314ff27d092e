package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// entry is one key of the file with what it holds.
type entry struct {
	key  string // dotted, from the section that entries was called for
	line int    // of the key
	node *yaml.Node
}

// entries returns the entries of a section whose dotted keys are known, and
// reports what is unknown or there twice. prefix is the section's own key with
// a dot at its end, or "".
func (l *loader) entries(section *yaml.Node, prefix string, known []string) []entry {
	w := walk{loader: l, prefix: prefix, known: known, lines: map[string]int{}}
	w.mapping(section, "", section.Line)
	return w.found
}

// walk is one run of entries.
type walk struct {
	*loader
	prefix string
	known  []string
	lines  map[string]int // of the keys seen so far
	found  []entry
}

// mapping walks one mapping. It goes down only where a known key begins with
// the path, so a file that nests without end stops at the first unknown key.
func (w *walk) mapping(node *yaml.Node, path string, line int) {
	node = resolve(node)
	if isNull(node) {
		return // a section whose keys are all commented out
	}
	if node.Kind != yaml.MappingNode {
		key := strings.TrimSuffix(w.prefix+path, ".")
		w.fail(&Error{Key: key, Source: w.at(line).source, Reason: "must be a section of keys and values"})
		return
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		w.pair(path, node.Content[i], node.Content[i+1])
	}
}

// pair takes one key of a mapping.
func (w *walk) pair(path string, keyNode, node *yaml.Node) {
	key := path + keyNode.Value
	from := w.at(keyNode.Line)
	if first, again := w.lines[key]; again {
		w.fail(&Error{Key: w.prefix + key, Source: from.source, Reason: fmt.Sprintf("is set twice, first in line %d", first)})
		return
	}
	w.lines[key] = keyNode.Line
	dotted := strings.Contains(keyNode.Value, ".")
	switch {
	case !dotted && slices.Contains(w.known, key):
		w.found = append(w.found, entry{key: key, line: keyNode.Line, node: resolve(node)})
	case !dotted && w.isSection(key):
		w.mapping(node, key+".", keyNode.Line)
	default:
		// Its value is not shown: it may be a misspelt token.
		w.fail(&Error{Key: w.prefix + key, Source: from.source, Reason: "no such setting" + w.hint(path, keyNode.Value)})
	}
}

func (w *walk) isSection(key string) bool {
	return slices.ContainsFunc(w.known, func(k string) bool { return strings.HasPrefix(k, key+".") })
}

// hint returns the known key or section that was probably meant: what the key is
// called now, one beside it, or one of the same name elsewhere.
func (w *walk) hint(path, written string) string {
	if slices.Contains(w.known, path+written) { // it is known, and was refused for its dot
		return "; keys are nested and not written with dots"
	}
	if hint := renamedTo(w.prefix + path + written); hint != "" {
		return hint
	}
	var beside []string
	for _, k := range w.known {
		if rest, under := strings.CutPrefix(k, path); under {
			first, _, _ := strings.Cut(rest, ".")
			beside = append(beside, first)
		}
	}
	if hint := didYouMean(written, beside); hint != "" {
		return hint
	}
	for _, k := range w.known {
		if strings.HasSuffix(k, "."+written) {
			return "; did you mean " + w.prefix + k + "?"
		}
	}
	return ""
}

// resolve follows an alias to what it stands for.
func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.Tag == "!!null" }

// assign stores what a node holds. A scalar counts as it is written, whatever
// type YAML would make of it.
func assign(v value, node *yaml.Node) error {
	several, isList := v.(lister)
	switch {
	case isNull(node) && isList:
		return errors.New("has no value; write [] for none")
	case isNull(node):
		return errors.New(`has no value; write "" for none`)
	case node.Kind == yaml.ScalarNode && isList:
		return several.setText(node.Value)
	case node.Kind == yaml.ScalarNode:
		return v.set(node.Value)
	case node.Kind == yaml.SequenceNode && isList:
		items := make([]string, 0, len(node.Content))
		for i, item := range node.Content {
			item = resolve(item)
			if item.Kind != yaml.ScalarNode || isNull(item) {
				return fmt.Errorf("item %d must be a text", i+1)
			}
			items = append(items, item.Value)
		}
		return several.setList(items)
	case isList:
		return errors.New("must be a list")
	}
	return errors.New("must be a single value")
}
