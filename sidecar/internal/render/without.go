package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// kept is a service's sections as they were in a file that HAProxy took.
type kept struct {
	backend string
	text    string // with the defaults that they are made from, without servers; the backend's section is the last
	options string // on each server's line
}

// Without returns a Renderer that renders all but one service. What a good file
// has of it is rendered in its place, with the servers of the day, and options
// is what stands on their lines. isKept is false if the file has nothing of it.
// It is an error if what the file has can't be told from the rest.
func (r *Renderer) Without(backend string, good []byte) (rest *Renderer, options string, isKept bool, err error) {
	out := &Renderer{tmpl: r.tmpl, text: r.text, settings: r.settings, kept: slices.Clone(r.kept), apart: r.apart, operator: maps.Clone(r.operator)}
	out.settings.Services = slices.DeleteFunc(slices.Clone(r.settings.Services), func(s Service) bool { return s.Backend == backend })
	if len(out.settings.Services) == len(r.settings.Services) {
		return nil, "", false, fmt.Errorf("render: backend %s is not rendered from the settings", backend)
	}
	k, isKept, err := r.keep(backend, good)
	if err != nil {
		return nil, "", false, err
	}
	if isKept {
		out.kept = append(out.kept, k)
		out.operator[backend] = k.servers()
	} else {
		out.settings.Services, out.settings.Frontends = withoutPreview(out.settings.Services, withoutDefault(r.settings.Frontends, backend), backend)
	}
	if out.marker, err = marker(out.text, out.settings, out.kept...); err != nil {
		return nil, "", false, err
	}
	if _, err := out.Render(nil); err != nil {
		return nil, "", false, err
	}
	return out, k.options, isKept, nil
}

// servers is the operator's own: ours are not in the text.
func (k kept) servers() (names []string) {
	for _, s := range sections([]byte(k.text)) {
		if s.kind == "backend" && s.name == k.backend {
			names = append(names, s.servers()...)
		}
	}
	return names
}

// keep takes a service's sections out of a file. A frontend of several cannot
// be kept: it is made of what they are now.
func (r *Renderer) keep(backend string, good []byte) (k kept, found bool, err error) {
	k.backend = backend
	var fronts, back strings.Builder
	defaults := newKeptDefaults(backend, good)
	for _, s := range sections(good) {
		if s.kind == "frontend" && r.hasFrontend(s.name) {
			continue
		}
		if owner := s.owner(r.has); owner != backend {
			if owner == "" && slices.Contains(s.leadsTo(), backend) {
				return kept{}, false, fmt.Errorf("render: %s %s uses backend %s and others, so it cannot be kept alone", s.kind, s.name, backend)
			}
			continue
		}
		if s.kind == "frontend" || s.besideOf() == backend {
			fronts.WriteString(strings.Join(defaults.linesOf(s), "\n") + "\n\n")
			continue
		}
		found = true
		if err := k.take(&back, defaults.linesOf(s), r.operator[backend]); err != nil {
			return kept{}, false, err
		}
	}
	if !found {
		return kept{}, false, nil
	}
	k.text = defaults.String() + fronts.String() + back.String()
	return k, true, nil
}

// keptDefaults is the defaults sections that a service's sections are made from, as they
// were: those of the file that is rendered may be others, and a section that names none
// would be made from the last one.
type keptDefaults struct {
	backend string
	of      map[int]proxy  // the sections of the good file, by their first lines
	names   map[int]string // of those that are kept, by their first lines
	out     strings.Builder
}

func newKeptDefaults(backend string, good []byte) *keptDefaults {
	d := &keptDefaults{backend: backend, of: map[int]proxy{}, names: map[int]string{}}
	for _, p := range proxiesOf(sections(good), "frontend", "backend") {
		d.of[p.first] = p
	}
	return d
}

// linesOf is a section's lines, made from the defaults that are kept for it.
func (d *keptDefaults) linesOf(s section) []string {
	p, isProxy := d.of[s.first]
	if !isProxy {
		return s.trimmed()
	}
	name := ""
	for _, from := range slices.Backward(p.defaults) { // each after the one that it is made from
		name = d.keep(from, name)
	}
	if name == "" { // HAProxy's own
		name = d.keep(section{kind: "defaults", lines: []string{"defaults"}}, "")
	}
	lines := slices.Clone(s.trimmed())
	lines[0] = s.kind + " " + s.name + " from " + name
	return lines
}

// keep keeps a defaults section, which is made from another one that is kept, or "", and
// gives its name.
func (d *keptDefaults) keep(s section, from string) string {
	if d.names[s.first] == "" {
		d.names[s.first] = fmt.Sprintf("pointsman.kept.%s.%d", d.backend, len(d.names)+1)
		lines := slices.Clone(s.trimmed())
		if lines[0] = "defaults " + d.names[s.first]; from != "" {
			lines[0] += " from " + from
		}
		d.out.WriteString(strings.Join(lines, "\n") + "\n\n")
	}
	return d.names[s.first]
}

// String is the sections.
func (d *keptDefaults) String() string { return d.out.String() }

// take keeps a backend's lines, and of its servers the options. Those of the
// operator are lines like others.
func (k *kept) take(out *strings.Builder, lines, operator []string) error {
	known := false
	for _, line := range lines {
		if !isServerLine(line) || slices.Contains(operator, wordsOf(line)[1]) {
			out.WriteString(line + "\n")
			continue
		}
		options, ok := optionsOf(line)
		if !ok { // the operator's own
			out.WriteString(line + "\n")
			continue
		}
		if known && options != k.options {
			return fmt.Errorf("render: backend %s has servers that are not ours: %s", k.backend, strings.TrimSpace(line))
		}
		k.options, known = options, true
	}
	if !known {
		return fmt.Errorf("render: backend %s has no server in the last good file, so their options are unknown", k.backend)
	}
	return nil
}
