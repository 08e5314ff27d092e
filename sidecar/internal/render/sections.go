package render

import (
	"slices"
	"strings"
)

// directive is a line of a section that says something.
type directive struct {
	line  int      // in the file, from 1
	words []string // without comments; at least one
}

// text is the line for a message.
func (d directive) text() string { return strings.Join(d.words, " ") }

// directives is the lines of a section but its first, without comments.
func (s section) directives() []directive {
	if s.said.isKnown {
		return s.said.all
	}
	for i, line := range s.lines {
		if i == 0 || strings.HasPrefix(line, "#") { // of routes there are many of these
			continue
		}
		if words := wordsOf(line); len(words) > 0 {
			s.said.all = append(s.said.all, directive{s.first + i, words})
		}
	}
	s.said.isKnown = true
	return s.said.all
}

// quoting is what HAProxy takes out of a word (configuration manual, 2.2).
var quoting = strings.NewReplacer(`"`, "", `'`, "", `\`, "")

// wordsOf cuts a line into words without their quotes, up to a comment.
func wordsOf(line string) []string {
	words := strings.Fields(line)
	for i, w := range words {
		if strings.HasPrefix(w, "#") {
			return words[:i]
		}
		if strings.ContainsAny(w, "\"'\\") {
			words[i] = quoting.Replace(w)
		}
	}
	return words
}

// has reports whether a line begins with these words.
func (s section) has(words ...string) bool {
	return slices.ContainsFunc(s.directives(), func(d directive) bool {
		return len(d.words) >= len(words) && slices.Equal(d.words[:len(words)], words)
	})
}

// last is the last line that begins with a keyword: most keywords replace what
// a line before them has set.
func (s section) last(keyword string) (found directive, ok bool) {
	for _, d := range s.directives() {
		if d.words[0] == keyword {
			found, ok = d, true
		}
	}
	return found, ok
}

// proxy is a backend or a listen section, with the defaults that apply to it.
type proxy struct {
	section
	defaults []section // the nearest first
}

// proxies returns the sections that can have servers.
func proxies(of []section) []proxy { return proxiesOf(of, "backend", "listen") }

// proxiesOf returns the sections of these kinds, with their defaults.
func proxiesOf(of []section, kinds ...string) (all []proxy) {
	var defaults []proxy // each with those that it is made from
	for _, s := range of {
		p := proxy{section: s}
		switch {
		case s.kind == "defaults":
			if from, isNamed := s.from(); isNamed {
				p.defaults = chainOf(defaults, from)
			}
			defaults = append(defaults, p)
			if slices.Contains(kinds, s.kind) {
				all = append(all, p)
			}
		case slices.Contains(kinds, s.kind):
			switch from, isNamed := s.from(); {
			case isNamed:
				p.defaults = chainOf(defaults, from)
			case len(defaults) > 0:
				last := defaults[len(defaults)-1]
				p.defaults = append([]section{last.section}, last.defaults...)
			}
			all = append(all, p)
		}
	}
	return all
}

// from is the defaults section that a section names: `backend b from NAME`.
func (s section) from() (name string, isNamed bool) {
	words, first := wordsOf(s.lines[0]), 2
	if s.kind == "defaults" { // it need not have a name
		first = 1
	}
	for i := first; i+1 < len(words); i++ { // a backend may be named from
		if words[i] == "from" {
			return words[i+1], true
		}
	}
	return "", false
}

// chainOf is the last defaults section of a name, and those that it is made from.
func chainOf(defaults []proxy, name string) []section {
	for _, d := range slices.Backward(defaults) {
		if d.name == name {
			return append([]section{d.section}, d.defaults...)
		}
	}
	return nil
}

// all is the proxy's section and its defaults, the nearest first.
func (p proxy) all() []section { return append([]section{p.section}, p.defaults...) }

// has reports whether a line of the proxy, or of its defaults, begins with these
// words.
func (p proxy) has(words ...string) bool {
	return slices.ContainsFunc(p.all(), func(s section) bool { return s.has(words...) })
}

// effective is the line of a keyword that is in force: the proxy's own, else that
// of the nearest defaults.
func (p proxy) effective(keyword string) (directive, bool) {
	for _, s := range p.all() {
		if d, ok := s.last(keyword); ok {
			return d, true
		}
	}
	return directive{}, false
}

// isHTTP reports whether the proxy is in mode http; HAProxy's own default is tcp.
func (p proxy) isHTTP() bool {
	mode, ok := p.effective("mode")
	return ok && len(mode.words) > 1 && mode.words[1] == "http"
}
