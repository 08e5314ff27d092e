package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// These keys hold lists of sections.
const (
	servicesKey  = "services"
	frontendsKey = "frontends"
	profilesKey  = "profiles"
	routesKey    = "routes" // of a frontend
	allowKey     = "discover.allow"
)

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

// parseYAML returns the one document's content, or nil if there is none.
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

// lineOf returns ":12" where an error of the YAML library says line 12. It has
// no other way to tell.
func lineOf(err error) string {
	if m := regexp.MustCompile(`^yaml: line (\d+): `).FindStringSubmatch(err.Error()); m != nil {
		return ":" + m[1]
	}
	return ""
}

// reasonOf returns the rest. An unknown anchor's name is left out: it is what a
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
	keys := []string{servicesKey, frontendsKey, profilesKey}
	for _, s := range l.settings {
		if !s.noFile {
			keys = append(keys, s.key)
		}
	}
	for _, e := range l.entries(root, "", keys) {
		switch e.key {
		case servicesKey:
			l.services(e)
			continue
		case frontendsKey:
			l.frontends(e)
			continue
		case profilesKey:
			l.profiles(e)
			continue
		}
		l.putNode(e.key, l.byKey[e.key].at(&l.cfg), e)
	}
}

// services takes the list of services.
func (l *loader) services(list entry) {
	l.cfg.Services = []Service{}
	l.sections(servicesKey, list, func(i int, node *yaml.Node) {
		prefix := l.sectionPrefix(servicesKey, i, node, l.prefixes)
		service := section(l, prefix, node, serviceSettings(), nil)
		l.deriveService(prefix, &service)
		l.cfg.Services = append(l.cfg.Services, service)
		l.prefixes = append(l.prefixes, prefix)
	})
}

// frontends takes the list of frontends, each with its routes.
func (l *loader) frontends(list entry) {
	l.sections(frontendsKey, list, func(i int, node *yaml.Node) {
		prefix := l.sectionPrefix(frontendsKey, i, node, l.frontendKeys)
		var routes []Route
		var allow []Allow
		frontend := section(l, prefix, node, frontendSettings(), map[string]func(entry){
			routesKey: func(e entry) { routes = listed(l, prefix+"."+routesKey, e, routeSettings()) },
			allowKey:  func(e entry) { allow = listed(l, prefix+"."+allowKey, e, allowSettings()) },
		})
		frontend.Routes, frontend.Discover.Allow = routes, allow
		l.cfg.Frontends = append(l.cfg.Frontends, frontend)
		l.frontendKeys = append(l.frontendKeys, prefix)
	})
}

// profiles takes the list of profiles.
func (l *loader) profiles(list entry) {
	l.sections(profilesKey, list, func(i int, node *yaml.Node) {
		prefix := l.sectionPrefix(profilesKey, i, node, l.profileKeys)
		l.addProfile(prefix, section(l, prefix, node, profileSettings(), nil))
	})
}

// listed takes a list of sections in a section, each by one table.
func listed[T any](l *loader, key string, list entry, table []setting[T]) (out []T) {
	l.sections(key, list, func(i int, node *yaml.Node) {
		out = append(out, section(l, fmt.Sprintf("%s[%d]", key, i), node, table, nil))
	})
	return out
}

// sections takes each section of a list.
func (l *loader) sections(key string, list entry, take func(i int, node *yaml.Node)) {
	from := l.at(list.line)
	if list.node.Kind != yaml.SequenceNode {
		l.fail(&Error{Key: key, Source: from.source, Reason: "must be a list; write [] for none"})
		return
	}
	l.origins[key] = from
	for i, node := range list.node.Content {
		take(i, node)
	}
}

// section takes one section of a list by its table; lists has what takes the keys
// that hold lists of sections themselves.
func section[T any](l *loader, prefix string, node *yaml.Node, table []setting[T], lists map[string]func(entry)) T {
	out, err := defaults(table)
	if err != nil {
		l.problems = append(l.problems, err)
	}
	keys := slices.Collect(maps.Keys(lists))
	byKey := map[string]setting[T]{}
	for _, s := range table {
		keys = append(keys, s.key)
		byKey[s.key] = s
	}
	l.origins[prefix] = l.at(node.Line)
	for _, e := range l.entries(node, prefix+".", keys) {
		if take, isList := lists[e.key]; isList {
			take(e)
			continue
		}
		l.putNode(prefix+"."+e.key, byKey[e.key].at(&out), e)
	}
	return out
}

// sectionPrefix returns services[api], or services[0] where the service has no
// name that can be shown, or another one has it; the same of frontends.
func (l *loader) sectionPrefix(list string, i int, node *yaml.Node, taken []string) string {
	node = resolve(node)
	if node.Kind == yaml.MappingNode {
		for k := 0; k+1 < len(node.Content); k += 2 {
			v := resolve(node.Content[k+1])
			if node.Content[k].Value == "name" && v.Kind == yaml.ScalarNode && name(v.Value) == nil {
				if prefix := fmt.Sprintf("%s[%s]", list, v.Value); !slices.Contains(taken, prefix) {
					return prefix
				}
			}
		}
	}
	return fmt.Sprintf("%s[%d]", list, i)
}

// putNode stores a value that the file gives.
func (l *loader) putNode(key string, v value, e entry) {
	shown := ""
	if e.node.Kind == yaml.ScalarNode {
		shown = e.node.Value
	}
	l.put(key, v, shown, l.at(e.line), func(v value) error { return assign(v, e.node) })
}

// at returns the origin of what stands in the file's line.
func (l *loader) at(line int) origin {
	return origin{rank: byFile, source: fmt.Sprintf("%s:%d", l.cfg.File, line)}
}
