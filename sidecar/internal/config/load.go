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
	return l.cfg, nil
}
