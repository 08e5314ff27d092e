package render

import (
	"slices"
	"strings"
	"unicode"

	"github.com/pointsman/pointsman/sidecar/internal/haproxycfg"
)

// section is a section of a haproxy.cfg.
type section struct {
	first int // its first line, from 1
	kind  string
	name  string
	lines []string // with the first
	said  *said
}

// said is the directives of a section, once they were asked for.
type said struct {
	isKnown bool
	all     []directive
}

// sections cuts a file into its sections. What stands before the first is in
// none.
func sections(content []byte) (out []section) {
	n := 0
	for line := range strings.Lines(string(content)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if haproxycfg.BeginsSection(firstWord(line)) {
			words := strings.Fields(line)
			s := section{first: n, kind: words[0], said: &said{}}
			if len(words) > 1 {
				s.name = strings.Clone(words[1]) // else a name that is kept keeps all of the file
			}
			out = append(out, s)
		}
		if len(out) > 0 {
			last := &out[len(out)-1]
			last.lines = append(last.lines, line)
		}
	}
	return out
}

// firstWord is the first of strings.Fields, or "". A file has tens of thousands of lines.
func firstWord(line string) string {
	line = strings.TrimLeftFunc(line, unicode.IsSpace)
	if end := strings.IndexFunc(line, unicode.IsSpace); end >= 0 {
		return line[:end]
	}
	return line
}

// owner is the one backend of ours that a section is there for: the backend
// itself, its frontend by name, or a frontend that leads to it and to no other.
// "" is none, or several.
func (s section) owner(isOurs func(backend string) bool) string {
	switch {
	case s.kind == "backend" && isOurs(s.name):
		return s.name
	case isOurs(s.besideOf()):
		return s.besideOf()
	case s.kind != "frontend":
		return ""
	}
	if b, ok := strings.CutSuffix(s.name, ".front"); ok && isOurs(b) {
		return b
	}
	if to := slices.Compact(slices.Sorted(slices.Values(s.leadsTo()))); len(to) == 1 && isOurs(to[0]) {
		return to[0]
	}
	return ""
}

// besideOf is the backend that a section of ours is there for: pointsman.KIND.BACKEND;
// "" if it is none.
func (s section) besideOf() string {
	if s.kind != "backend" && s.kind != "userlist" {
		return ""
	}
	rest, ok := strings.CutPrefix(s.name, "pointsman.")
	if !ok {
		return ""
	}
	_, backend, _ := strings.Cut(rest, ".")
	return backend
}

// trimmed is the lines without those at the end that say something of the next
// section, or nothing.
func (s section) trimmed() []string {
	n := len(s.lines)
	for n > 0 && (strings.TrimSpace(s.lines[n-1]) == "" || strings.HasPrefix(s.lines[n-1], "#")) {
		n--
	}
	return s.lines[:n]
}

// leadsTo is the backends that a frontend names.
func (s section) leadsTo() (backends []string) {
	for _, line := range s.lines {
		words := strings.Fields(line)
		if len(words) > 1 && (words[0] == "default_backend" || words[0] == "use_backend") {
			backends = append(backends, words[1])
		}
	}
	return backends
}

// isServerLine reports whether a line declares a server.
func isServerLine(line string) bool {
	words := strings.Fields(line)
	return len(words) > 2 && words[0] == "server"
}

// optionsOf is the words of a server's line that are the same on each of its
// backend: those between the address and the weight, which serverLine writes.
func optionsOf(line string) (string, bool) {
	words := strings.Fields(line)
	for i := len(words) - 1; i > 2; i-- {
		if words[i] == "weight" {
			return strings.Join(words[3:i], " "), true
		}
	}
	return "", false
}
