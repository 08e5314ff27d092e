package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

const prefix = "REGISTRATOR_"

// variable is the environment variable that sets the flag.
func variable(flag string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// both names a flag and its variable, for messages about its value.
func both(flag string) string { return "--" + flag + " (" + variable(flag) + ")" }

// fromEnviron sets every flag that isn't on the command line from its
// variable. One that is empty counts as not there: Compose passes `${X:-}` that
// way. It gives all errors at once, each with the variable and its value.
//
// A variable that has the prefix and belongs to no flag is no error. Those that
// a container platform sets for a service of its own are not in environ: see
// package platform.
func fromEnviron(flags *pflag.FlagSet, environ []string) error {
	values := asMap(environ)
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		key := variable(f.Name)
		text := values[key]
		if f.Changed || f.Name == "help" || text == "" {
			return
		}
		if err := setFrom(f, text); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s=%q: %w", key, text, err))
		}
	})
	return errors.Join(errs...)
}

// setFrom sets a flag from a variable's value. Not FlagSet.Set: its message
// names the flag, and people who set a variable look for the variable.
func setFrom(f *pflag.Flag, text string) error {
	if _, several := f.Value.(interface{ isList() }); !several {
		return f.Value.Set(text)
	}
	r := csv.NewReader(strings.NewReader(text)) // "a,b",c is two entries
	r.LazyQuotes = true
	entries, err := r.Read()
	if err != nil {
		return fmt.Errorf("want entries separated by commas: %w", err)
	}
	for _, entry := range entries {
		if err := f.Value.Set(entry); err != nil {
			return fmt.Errorf("%q: %w", entry, err)
		}
	}
	return nil
}

// checkConsul finds the switches of Consul's own that its client would pass
// over with a warning if they were malformed, and then talk without TLS.
func checkConsul(environ []string) error {
	values := asMap(environ)
	var errs []error
	for _, key := range []string{"CONSUL_HTTP_SSL", "CONSUL_HTTP_SSL_VERIFY"} {
		if _, err := strconv.ParseBool(values[key]); values[key] != "" && err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s=%q: want true or false", key, values[key]))
		}
	}
	return errors.Join(errs...)
}

// secretVariables are those with the wrapper's own access to Consul.
var secretVariables = []string{"CONSUL_HTTP_TOKEN", "CONSUL_HTTP_AUTH"}

// withoutSecrets gives the program's environment, and the names of what is left
// out: who takes over the program need not take over the node's registrations.
func withoutSecrets(environ []string) (rest, removed []string) {
	for _, entry := range environ {
		if key, _, _ := strings.Cut(entry, "="); slices.Contains(secretVariables, key) {
			removed = append(removed, key)
			continue
		}
		rest = append(rest, entry)
	}
	return rest, removed
}

func asMap(environ []string) map[string]string {
	values := make(map[string]string, len(environ))
	for _, entry := range environ {
		if key, text, found := strings.Cut(entry, "="); found {
			values[key] = text
		}
	}
	return values
}
