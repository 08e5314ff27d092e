package config

import (
	"errors"

	"github.com/spf13/pflag"
)

// Sources is where Load finds settings.
type Sources struct {
	// Flags is the set that RegisterFlags was called with, after parsing; nil
	// is none.
	Flags *pflag.FlagSet
	// Environ is as os.Environ gives it.
	Environ []string
	// IgnoredEnv are the names of variables that begin as the settings' do, and are
	// none: they are passed over, where others are refused.
	IgnoredEnv []string
	// ReadFile is as os.ReadFile.
	ReadFile func(path string) ([]byte, error)
	// Hostname is the default of the setting "name".
	Hostname string
	// NoServices is set by commands that route nothing: there need be no
	// services and no file, and settings are not compared with one another,
	// except Consul's.
	NoServices bool
}

// Load reads all settings. A flag wins over a variable POINTSMAN_…, that over
// the file, that over Consul's own variable, and that over the default.
//
// It may be called again with the same Sources, to read a changed file.
//
// The error joins an *Error for each thing that is wrong, in all sources at
// once, even for a value that another would have hidden. The Config is the
// zero one then.
func Load(from Sources) (Config, error) {
	l := newLoader()
	env := l.environ(from.Environ, from.IgnoredEnv)

	l.fromEnv("config", env)
	l.fromFlag("config", from.Flags)
	l.file(from.ReadFile)
	for _, s := range l.settings {
		if s.key != "config" {
			l.fromEnv(s.key, env)
			l.fromFlag(s.key, from.Flags)
		}
		l.fromConsulEnv(s, env)
	}
	l.derive(from.Hostname)
	l.deriveProfiles()
	l.deriveSocket()
	l.deriveBalancer()
	if from.NoServices {
		l.consulRelations()
	} else {
		l.relations()
	}

	if len(l.problems) > 0 {
		return Config{}, errors.Join(l.problems...)
	}
	l.cfg.Services = previewsAfter(l.cfg.Services)
	return l.cfg, nil
}

// rank orders the kinds of sources, the weakest first.
type rank uint8

const (
	byDefault rank = iota
	byConsulEnv
	byFile
	byEnv
	byFlag
)

// origin is where a setting's value came from.
type origin struct {
	rank   rank
	source string // as in Error.Source
}

// loader is one run of Load.
type loader struct {
	settings []setting[Config]
	byKey    map[string]setting[Config]

	cfg      Config
	origins  map[string]origin // by full key; what has its default is absent
	failed   map[string]bool   // full keys that a problem was found with
	problems []error           // each an *Error, in the order found
	noFile   bool              // there is no file, and none was named
	prefixes []string          // the key of each service in cfg.Services

	frontendKeys []string // likewise of each frontend
	profileKeys  []string // and of each profile
}

func newLoader() *loader {
	l := &loader{
		settings: settings(),
		byKey:    map[string]setting[Config]{},
		origins:  map[string]origin{},
		failed:   map[string]bool{},
	}
	for _, s := range l.settings {
		l.byKey[s.key] = s
	}
	cfg, err := defaults(l.settings)
	if err != nil {
		l.problems = append(l.problems, err)
	}
	l.cfg = cfg
	return l
}

// put stores one value by means of set, and keeps its origin or its error.
// shown is the value as given.
func (l *loader) put(key string, v value, shown string, from origin, set func(value) error) {
	if err := set(v); err != nil {
		switch v.(type) {
		case secret, users:
			if shown != "" {
				shown = mask
			}
		}
		l.fail(&Error{Key: key, Value: shown, Source: from.source, Reason: err.Error()})
		return
	}
	l.origins[key] = from
}

// putText stores a value that is given as text.
func (l *loader) putText(key string, v value, s string, from origin) {
	l.put(key, v, s, from, func(v value) error { return v.set(s) })
}

func (l *loader) fail(e *Error) {
	e.Value = withoutPassword(e.Value)
	l.failed[e.Key] = true
	l.problems = append(l.problems, e)
}

// conflict reports values that are right alone and wrong together, unless one
// of them was wrong alone already. The first key is the one to name.
func (l *loader) conflict(reason, value string, keys ...string) {
	for _, k := range keys {
		if l.failed[k] {
			return
		}
	}
	l.fail(&Error{Key: keys[0], Value: value, Source: l.sourceOf(keys...), Reason: reason})
}

// sourceOf returns the source of the first of the keys that has one.
func (l *loader) sourceOf(keys ...string) string {
	for _, k := range keys {
		if o, set := l.origins[k]; set {
			return o.source
		}
	}
	return "default"
}
