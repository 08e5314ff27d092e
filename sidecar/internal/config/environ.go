package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// environ sorts the variables by name and refuses those that have our prefix
// and mean nothing. Of two with one name the first counts, as in os.Getenv.
func (l *loader) environ(environ, foreign []string) map[string]string {
	known := make([]string, 0, len(l.settings))
	for _, s := range l.settings {
		known = append(known, s.env())
	}
	out := make(map[string]string, len(environ))
	var unknown []string
	for _, e := range environ {
		k, v, _ := strings.Cut(e, "=")
		if _, again := out[k]; again {
			continue
		}
		out[k] = v
		if strings.HasPrefix(k, EnvPrefix) && !slices.Contains(known, k) && !slices.Contains(foreign, k) {
			unknown = append(unknown, k)
		}
	}
	slices.Sort(unknown)
	for _, k := range unknown {
		// Its value is not shown: it may be a misspelt token.
		l.fail(&Error{Source: k, Reason: "no such setting" + cmp.Or(renamedAlike(k, envName), didYouMean(k, known))})
	}
	return out
}

// fromEnv takes a setting from its own variable, if there is one. An empty
// variable is an empty value.
func (l *loader) fromEnv(key string, env map[string]string) {
	s := l.byKey[key]
	if v, set := env[s.env()]; set {
		l.putText(key, s.at(&l.cfg), v, origin{rank: byEnv, source: s.env()})
	}
}

// fromConsulEnv takes a setting that nothing else has set from Consul's
// variable. An empty one counts as unset, as it does for Consul's own clients.
func (l *loader) fromConsulEnv(s setting[Config], env map[string]string) {
	text := env[s.consulEnv]
	if s.consulEnv == "" || text == "" {
		return
	}
	if _, set := l.origins[s.key]; set || l.failed[s.key] {
		return
	}
	if s.inverted {
		text = opposite(text)
	}
	l.putText(s.key, s.at(&l.cfg), text, origin{rank: byConsulEnv, source: s.consulEnv})
}

// opposite turns true into false and back, and leaves what is neither for the
// setting to refuse.
func opposite(text string) string {
	b, err := strconv.ParseBool(text)
	if err != nil {
		return text
	}
	return strconv.FormatBool(!b)
}
