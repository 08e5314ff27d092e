package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pointsman/pointsman/internal/envflag"
)

const prefix = "REGISTRATOR_"

// variable is the environment variable that sets the flag.
func variable(flag string) string { return envflag.Default(prefix, flag) }

// both names a flag and its variable, for messages about its value.
func both(flag string) string { return "--" + flag + " (" + variable(flag) + ")" }

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

// withoutSecrets returns the program's environment, and the names of what is left
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
