package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

// FuzzValue: a text means the same as a flag and as a variable, for every
// setting that has both, and what is wrong names the key and where it stood.
func FuzzValue(f *testing.F) {
	flags := flagNames()
	for i, seed := range []string{
		"", " 30s ", "30", "30s", "-1", "true", "127.0.0.1:8500", "unix:///run/consul.sock", "a,b", "a\nb", "haproxy -c -f {file}",
		"\x00", "[::1]:80", "fe80::1%eth0", "99999999999999999999h", "0x10", "1e9",
	} {
		for at := i % 3; at < len(flags); at += 3 {
			f.Add(uint8(at), seed)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, text string) {
		flag := flags[int(which)%len(flags)]
		variable := "POINTSMAN_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))

		set := pflag.NewFlagSet("sidecar", pflag.ContinueOnError)
		config.RegisterFlags(set)
		if err := set.Parse([]string{"--" + flag + "=" + text}); err != nil {
			t.Fatal(err)
		}
		byFlag, flagErr := loadFrom(config.Sources{Flags: set})
		byVariable, variableErr := loadFrom(config.Sources{Environ: []string{variable + "=" + text}})

		if (flagErr == nil) != (variableErr == nil) {
			t.Fatalf("%s %q: as a flag %v, as a variable %v", flag, text, flagErr, variableErr)
		}
		if diff := cmp.Diff(byFlag, byVariable); diff != "" {
			t.Errorf("%s %q means two things (-flag +variable):\n%s", flag, text, diff)
		}
		if flagErr == nil {
			return
		}
		for source, err := range map[string]error{"--" + flag: flagErr, variable: variableErr} {
			if !names(err, source) {
				t.Errorf("%s %q: nothing in %v names it", source, text, err)
			}
		}
	})
}

// flagNames are the flags of all settings, in their order.
func flagNames() (names []string) {
	set := pflag.NewFlagSet("sidecar", pflag.ContinueOnError)
	config.RegisterFlags(set)
	set.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}

func loadFrom(s config.Sources) (config.Config, error) {
	s.Hostname = "lb0"
	s.ReadFile = func(string) ([]byte, error) { return []byte("services: [{name: api}]\n"), nil }
	return config.Load(s)
}

// names reports whether one of the joined errors is of this source.
func names(err error, source string) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return false
	}
	for _, e := range joined.Unwrap() {
		if one, ok := errors.AsType[*config.Error](e); ok && one.Source == source {
			return true
		}
	}
	return false
}
