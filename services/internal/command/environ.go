package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// envSuffix is the flag annotation that holds the name in the environment,
// where it isn't made from the flag's own.
const envSuffix = "env-suffix"

// SetEnv names the environment variable of a flag, without its prefix, where
// it isn't the flag's name in capitals. It panics if there is no such flag.
func SetEnv(flags *pflag.FlagSet, flag, suffix string) {
	if err := flags.SetAnnotation(flag, envSuffix, []string{suffix}); err != nil {
		panic(err)
	}
}

// EnvName gives the environment variable that sets the flag.
func EnvName(prefix string, f *pflag.Flag) string {
	if suffix := f.Annotations[envSuffix]; len(suffix) == 1 {
		return prefix + suffix[0]
	}
	return prefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}

// Name names a flag and its environment variable, for messages about its value.
func Name(prefix string, flags *pflag.FlagSet, flag string) string {
	f := flags.Lookup(flag)
	if f == nil {
		return "--" + flag
	}
	return "--" + f.Name + " (" + EnvName(prefix, f) + ")"
}

// FromEnviron sets every flag that isn't set on the command line from its
// environment variable. A variable that is empty counts as not there: Compose
// passes `${X:-}` that way. It gives all errors at once, each with the
// variable and its value.
//
// A variable that has the prefix and belongs to no flag is no error: an
// orchestrator adds some of its own to a service's containers, such as
// API_SERVICE_HOST for a Kubernetes service called api.
func FromEnviron(flags *pflag.FlagSet, prefix string, environ []string) error {
	values := make(map[string]string, len(environ))
	for _, entry := range environ {
		if key, value, found := strings.Cut(entry, "="); found {
			values[key] = value
		}
	}
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		key := EnvName(prefix, f)
		value := values[key]
		if f.Changed || f.Name == "help" || value == "" {
			return
		}
		// Not FlagSet.Set: its message names the flag, and people who set a
		// variable look for the variable.
		if err := f.Value.Set(value); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s=%q: %w", key, value, err))
		}
	})
	return errors.Join(errs...)
}
