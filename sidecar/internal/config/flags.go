package config

import (
	"strings"

	"github.com/spf13/pflag"
)

// RegisterFlags adds the flags. Parsing takes any text: Load checks it, so that all
// errors show at once.
func RegisterFlags(fs *pflag.FlagSet) {
	for _, s := range settings() {
		if name := s.flag(); name != "" {
			fs.String(name, "", strings.ReplaceAll(s.doc, "`", "'"))
			fs.Lookup(name).DefValue = s.def
		}
	}
}

// fromFlag takes a setting from its flag, if that was given.
func (l *loader) fromFlag(key string, fs *pflag.FlagSet) {
	s := l.byKey[key]
	if fs == nil || s.flag() == "" {
		return
	}
	if flag := fs.Lookup(s.flag()); flag != nil && flag.Changed {
		l.putText(key, s.at(&l.cfg), flag.Value.String(), origin{rank: byFlag, source: "--" + s.flag()})
	}
}
