package config

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

// sourceOf gives the source of the first of the keys that has one.
func (l *loader) sourceOf(keys ...string) string {
	for _, k := range keys {
		if o, set := l.origins[k]; set {
			return o.source
		}
	}
	return "default"
}
