package config

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// shown are the settings whose flags --help shows. The others have flags too:
// docs/configuration.md lists them.
var shown = []string{
	"config", "name", "consul.address", "consul.token_file", "haproxy.config", "haproxy.socket", "haproxy.master_socket",
	"haproxy.template", "api.address", "log.level", "log.format",
}

// RegisterFlags adds a flag for every setting that may have one. Parsing takes
// any text: Load checks it, so that all errors show at once.
func RegisterFlags(fs *pflag.FlagSet) {
	var sample Config
	for _, s := range settings() {
		if s.flag() == "" {
			continue
		}
		given := &given{kind: kindOf(s.at(&sample))}
		flag := fs.VarPF(given, s.flag(), "", usage(s.doc))
		flag.DefValue, flag.Hidden = s.def, !slices.Contains(shown, s.key)
		if given.kind == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
}

var link = regexp.MustCompile(`\[([^\]]+)\]\(([^)]+)\)`)

// usage is a setting's text for a terminal: a link is the path of its page.
func usage(doc string) string {
	doc = link.ReplaceAllStringFunc(doc, func(l string) string {
		m := link.FindStringSubmatch(l)
		if strings.Contains(m[2], "://") {
			return m[1]
		}
		return filepath.Join("docs", m[2])
	})
	return strings.ReplaceAll(doc, "`", "'")
}

// given is what was given for one flag, as text.
type given struct {
	kind  string
	texts []string
}

// Set keeps the text; a flag may be given several times.
func (g *given) Set(s string) error {
	g.texts = append(g.texts, s)
	return nil
}

// String gives what was given last.
func (g *given) String() string {
	if len(g.texts) == 0 {
		return ""
	}
	return g.texts[len(g.texts)-1]
}

// Type names the kind of value in the usage text.
func (g *given) Type() string { return g.kind }

func kindOf(v value) string {
	switch v.(type) {
	case yesNo:
		return "bool"
	case number:
		return "number"
	case span:
		return "duration"
	case list:
		return "list"
	}
	return "text"
}

// fromFlag takes a setting from its flag, if that was given.
func (l *loader) fromFlag(key string, fs *pflag.FlagSet) {
	s := l.byKey[key]
	if fs == nil || s.flag() == "" {
		return
	}
	flag := fs.Lookup(s.flag())
	if flag == nil || !flag.Changed {
		return
	}
	g, ours := flag.Value.(*given)
	if !ours {
		return
	}
	from := origin{rank: byFlag, source: "--" + s.flag()}
	v := s.at(&l.cfg)
	if several, ok := v.(lister); ok && len(g.texts) > 1 {
		l.put(key, v, strings.Join(g.texts, ", "), from, func(value) error { return several.setList(g.texts) })
		return
	}
	l.putText(key, v, g.String(), from)
}
