package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// servicesKey is the one key that holds a list of sections.
const servicesKey = "services"

// file reads and takes the settings of the file. That the default file is
// missing is left to servicesSet, which has a better word for it.
func (l *loader) file(read func(string) ([]byte, error)) {
	if l.failed["config"] {
		l.failed[servicesKey] = true // nothing can be said of them
		return
	}
	at := l.cfg.File
	data, err := read(at)
	if _, named := l.origins["config"]; !named && errors.Is(err, fs.ErrNotExist) {
		l.noFile = true
		return
	}
	if err != nil {
		l.failed[servicesKey] = true
		l.conflict("cannot be read: "+err.Error(), at, "config")
		return
	}
	root, err := parseYAML(data)
	if err != nil {
		l.failed[servicesKey] = true
		l.fail(&Error{Source: at + lineOf(err), Reason: reasonOf(err)})
		return
	}
	if root == nil {
		return
	}
	l.document(root)
}

// parseYAML gives the one document's content, or nil if there is none.
func parseYAML(data []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil //nolint:nilnil // an empty file is legal and holds nothing
	case err != nil:
		return nil, err
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("yaml: line %d: there is a second document (---): only one is read", more.Line)
	}
	return doc.Content[0], nil
}

// lineOf gives ":12" where an error of the YAML library says line 12. It has
// no other way to tell.
func lineOf(err error) string {
	if m := regexp.MustCompile(`^yaml: line (\d+): `).FindStringSubmatch(err.Error()); m != nil {
		return ":" + m[1]
	}
	return ""
}

// reasonOf gives the rest. An unknown anchor's name is left out: it is what a
// token that begins with '*' looks like.
func reasonOf(err error) string {
	reason := regexp.MustCompile(`^yaml: (line \d+: )?`).ReplaceAllString(err.Error(), "")
	if strings.HasPrefix(reason, "unknown anchor") {
		reason = "unknown anchor (a value that begins with '*' must be quoted)"
	}
	return "is not YAML: " + reason
}

// document takes the settings of the whole file.
func (l *loader) document(root *yaml.Node) {
	keys := []string{servicesKey}
	for _, s := range l.settings {
		if !s.noFile {
			keys = append(keys, s.key)
		}
	}
	for _, e := range l.entries(root, "", keys) {
		if e.key == servicesKey {
			l.services(e)
			continue
		}
		l.putNode(e.key, l.byKey[e.key].at(&l.cfg), e)
	}
}

// services takes the list of services.
func (l *loader) services(list entry) {
	from := l.at(list.line)
	if list.node.Kind != yaml.SequenceNode {
		l.fail(&Error{Key: servicesKey, Source: from.source, Reason: "must be a list; write [] for none"})
		return
	}
	l.origins[servicesKey] = from
	l.cfg.Services = []Service{}
	for i, node := range list.node.Content {
		l.service(i, node)
	}
}

// service takes one service. It is named by its name in errors, or else by
// its place.
func (l *loader) service(i int, node *yaml.Node) {
	table := serviceSettings()
	service, err := defaults(table)
	if err != nil {
		l.problems = append(l.problems, err)
	}
	keys := make([]string, 0, len(table))
	byKey := map[string]setting[Service]{}
	for _, s := range table {
		keys = append(keys, s.key)
		byKey[s.key] = s
	}
	prefix := l.servicePrefix(i, node)
	l.origins[prefix] = l.at(node.Line)
	for _, e := range l.entries(node, prefix+".", keys) {
		l.putNode(prefix+"."+e.key, byKey[e.key].at(&service), e)
	}
	l.deriveService(prefix, &service)
	l.cfg.Services = append(l.cfg.Services, service)
	l.prefixes = append(l.prefixes, prefix)
}

// servicePrefix gives services[api], or services[0] where the service has no
// name that can be shown, or another one has it.
func (l *loader) servicePrefix(i int, node *yaml.Node) string {
	node = resolve(node)
	if node.Kind == yaml.MappingNode {
		for k := 0; k+1 < len(node.Content); k += 2 {
			v := resolve(node.Content[k+1])
			if node.Content[k].Value == "name" && v.Kind == yaml.ScalarNode && name(v.Value) == nil {
				if prefix := fmt.Sprintf("%s[%s]", servicesKey, v.Value); !slices.Contains(l.prefixes, prefix) {
					return prefix
				}
			}
		}
	}
	return fmt.Sprintf("%s[%d]", servicesKey, i)
}

// putNode stores a value that the file gives.
func (l *loader) putNode(key string, v value, e entry) {
	shown := ""
	if e.node.Kind == yaml.ScalarNode {
		shown = e.node.Value
	}
	l.put(key, v, shown, l.at(e.line), func(v value) error { return assign(v, e.node) })
}

// at gives the origin of what stands in the file's line.
func (l *loader) at(line int) origin {
	return origin{rank: byFile, source: fmt.Sprintf("%s:%d", l.cfg.File, line)}
}
