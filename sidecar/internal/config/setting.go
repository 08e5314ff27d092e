package config

import "strings"

// setting is one line of the table: all that is known of one key of a T.
type setting[T any] struct {
	key string
	def string // in the text that a file would hold
	doc string // one or more sentences, in Markdown

	// derived says in the reference what takes the place of a default that
	// depends on other settings.
	derived string

	consulEnv string // Consul's own variable, or ""
	inverted  bool   // consulEnv means the opposite

	flagged bool // people set it on a command line; never a secret, which others could read there
	noFile  bool // says where the file is

	restart bool // read at the start only: a reload of the settings goes on with the old one

	at func(*T) value
}

// EnvPrefix begins the names of the settings' environment variables. What else
// may begin so is in Sources.IgnoredEnv.
const EnvPrefix = "POINTSMAN_"

// env returns the name of the environment variable.
func (s setting[T]) env() string { return envName(s.key) }

func envName(key string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// flag returns the name of the flag, or "" if there is none.
func (s setting[T]) flag() string {
	if !s.flagged {
		return ""
	}
	return flagName(s.key)
}

func flagName(key string) string { return strings.NewReplacer(".", "-", "_", "-").Replace(key) }

// defaults sets every setting of the table to its default.
func defaults[T any](table []setting[T]) (T, error) {
	var out T
	for _, s := range table {
		if s.def == "" {
			continue
		}
		if err := s.at(&out).set(s.def); err != nil {
			return out, &Error{Key: s.key, Value: s.def, Source: "default", Reason: err.Error()}
		}
	}
	return out, nil
}
