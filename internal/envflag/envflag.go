// Package envflag sets the flags of a program from environment variables. The programs
// of both halves use it.
//
// It is a leaf: it imports nothing of this project.
package envflag

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// envSuffix is the flag annotation that holds the name in the environment,
// where it isn't made from the flag's own.
const envSuffix = "env-suffix"

// SetVariable names the environment variable of a flag, without its prefix, where
// it isn't the flag's name in capitals. It panics if there is no such flag.
func SetVariable(flags *pflag.FlagSet, flag, suffix string) {
	if err := flags.SetAnnotation(flag, envSuffix, []string{suffix}); err != nil {
		panic(err)
	}
}

// Variable returns the environment variable that sets the flag.
func Variable(prefix string, f *pflag.Flag) string {
	if suffix := f.Annotations[envSuffix]; len(suffix) == 1 {
		return prefix + suffix[0]
	}
	return Default(prefix, f.Name)
}

// Default returns the variable of a flag that SetVariable has not named: the flag's name
// in capitals, behind the prefix.
func Default(prefix, flag string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Name returns a flag and its variable, as "--name (VARIABLE)", for messages about its value.
func Name(prefix string, flags *pflag.FlagSet, flag string) string {
	f := flags.Lookup(flag)
	if f == nil {
		return "--" + flag
	}
	return "--" + f.Name + " (" + Variable(prefix, f) + ")"
}

// Several is the value of a flag that may be repeated, each time with one entry as it
// is. Its variable holds several entries.
type Several interface {
	SetSeveral(text string) error
}

// Set sets every flag that isn't set on the command line from its
// environment variable. A variable that is empty counts as not there: Compose
// passes `${X:-}` that way. It gives all errors at once, each with the
// variable and its value.
//
// A variable that has the prefix and belongs to no flag is no error: an
// orchestrator adds some of its own to a service's containers, such as
// API_SERVICE_HOST for a Kubernetes service called api.
func Set(flags *pflag.FlagSet, prefix string, environ []string) error {
	values := make(map[string]string, len(environ))
	for _, entry := range environ {
		if key, value, found := strings.Cut(entry, "="); found {
			values[key] = value
		}
	}
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		key := Variable(prefix, f)
		value := values[key]
		if f.Changed || f.Name == "help" || value == "" {
			return
		}
		// Not FlagSet.Set: its message names the flag, and people who set a
		// variable look for the variable.
		set := f.Value.Set
		if several, is := f.Value.(Several); is {
			set = several.SetSeveral
		}
		if err := set(value); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s=%q: %w", key, value, err))
		}
	})
	return errors.Join(errs...)
}
