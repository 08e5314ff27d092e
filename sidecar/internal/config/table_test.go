package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

func TestEveryFieldHasOneSetting(t *testing.T) {
	var c Config
	every(t, settings(), &c, "Services", "Frontends", "Profiles", "Found.Services", "Found.Routes", "Found.Gone", "Gone", "Taken")
	var s Service
	every(t, serviceSettings(), &s, "Profile", "ByReload", "Preview.Of")
	var f Frontend
	every(t, frontendSettings(), &f, "Routes", "Discover.Allow", "Found", "Sources")
	var a Allow
	every(t, allowSettings(), &a)
	var r Route
	every(t, routeSettings(), &r)
}

// every checks that the settings of a table point at each field of the tree
// once.
func every[T any](t *testing.T, table []setting[T], root *T, but ...string) {
	t.Helper()
	keys := map[any][]string{}
	for _, s := range table {
		p := reflect.ValueOf(s.at(root).target()).Pointer()
		keys[p] = append(keys[p], s.key)
	}
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				walk(path+"."+v.Type().Field(i).Name, v.Field(i))
			}
			return
		}
		if slices.Contains(but, strings.TrimPrefix(path, ".")) {
			return
		}
		if got := keys[v.Addr().Pointer()]; len(got) != 1 {
			t.Errorf("%T%s is set by %q, want one setting", *root, path, got)
		}
	}
	walk("", reflect.ValueOf(root).Elem())
}

func TestFlagsAndVariablesHaveNamesOfTheirOwn(t *testing.T) {
	owner := map[string]string{}
	claim := func(name, key string) {
		if other, taken := owner[name]; name != "" && taken {
			t.Errorf("%s and %s are both set by %s", other, key, name)
		}
		owner[name] = key
	}
	for _, s := range settings() {
		claim(s.flag(), s.key)
		claim(s.env(), s.key)
		claim(s.consulEnv, s.key)
	}
}

func TestNoSecretHasAFlag(t *testing.T) {
	var c Config
	for _, s := range settings() {
		switch s.at(&c).(type) {
		case secret, users:
			if s.flagged {
				t.Errorf("%s: a secret with the flag --%s", s.key, s.flag())
			}
		}
	}
}

// TestEverySettingIsTakenFromEverySource holds flags, environment and file
// together: each key, set by each of them, changes what it should and nothing
// else, and to the same.
func TestEverySettingIsTakenFromEverySource(t *testing.T) {
	for _, s := range settings() {
		with, other := needs(s.key), halves[s.key]
		base := loadFrom(t, nil, with, "")
		want := []string{s.key}
		if other != "" {
			with = append(with, settingOf(other).env()+"=/other")
			want = append(want, other)
			slices.Sort(want)
		}
		sample := sampleOf(t, s, base)
		sources := map[string]Config{"environment": loadFrom(t, nil, append([]string{s.env() + "=" + sample}, with...), "")}
		if s.flag() != "" {
			sources["flag"] = loadFrom(t, []string{"--" + s.flag() + "=" + sample}, with, "")
		}
		if !s.noFile {
			sources["file"] = loadFrom(t, nil, with, nestYAML(s.key, sample))
		}
		for name, got := range sources {
			if changed := Changed(base, got); !slices.Equal(slices.Sorted(slices.Values(changed)), want) {
				t.Errorf("%s by %s: changed %q", s.key, name, changed)
			}
			if diff := cmp.Diff(got, sources["environment"]); diff != "" {
				t.Errorf("%s by %s and by the environment differ:\n%s", s.key, name, diff)
			}
		}
	}
}

// halves are settings of which neither may stand alone.
var halves = map[string]string{
	"api.tls.cert_file": "api.tls.key_file",
	"api.tls.key_file":  "api.tls.cert_file",
}

func settingOf(key string) setting[Config] {
	return settings()[slices.IndexFunc(settings(), func(s setting[Config]) bool { return s.key == key })]
}

// needs returns what must be set beside a setting.
func needs(key string) []string {
	if key == "haproxy.config" {
		return []string{"POINTSMAN_API_SOCKET=/socket"} // else they move with it
	}
	if key == "registration.service" {
		return []string{"POINTSMAN_REGISTRATION_PORT=80", "POINTSMAN_REGISTRATION_CHECK_URL=http://lb0/"}
	}
	if key == "api.tls.client_ca_file" {
		return []string{"POINTSMAN_API_TLS_CERT_FILE=/c", "POINTSMAN_API_TLS_KEY_FILE=/k"}
	}
	return nil
}

// loadFrom loads with a pair of certificates given by the weakest source, so
// that each half can be changed alone.
func loadFrom(t *testing.T, args, env []string, yaml string) Config {
	t.Helper()
	flags := pflag.NewFlagSet("sidecar", pflag.ContinueOnError)
	RegisterFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Sources{
		Flags: flags, Hostname: "lb0",
		Environ:  append([]string{"CONSUL_CLIENT_CERT=/cert", "CONSUL_CLIENT_KEY=/key"}, env...),
		ReadFile: func(string) ([]byte, error) { return []byte("services: []\n" + yaml), nil },
	})
	if err != nil {
		t.Fatalf("%q %q %q: %v", args, env, yaml, err)
	}
	return c
}

// sampleOf returns a text that the setting takes and that is not its default.
func sampleOf(t *testing.T, s setting[Config], base Config) string {
	t.Helper()
	for _, text := range []string{"true", "700ms", "7s", "7m", "7", "77", "debug", "json", "/x", "127.0.0.1:7", "7MiB", "http://x/", `["{file}"]`, "10.7.0.0/16", "x", "cache x"} {
		c := base
		if s.at(&c).set(text) == nil && len(Changed(base, c)) == 1 {
			return text
		}
	}
	t.Fatalf("%s takes none of the samples", s.key)
	return ""
}

func nestYAML(key, text string) string {
	out := ""
	parts := strings.Split(key, ".")
	for i, p := range parts {
		out += strings.Repeat("  ", i) + p + ":"
		if i < len(parts)-1 {
			out += "\n"
		}
	}
	return fmt.Sprintf("%s %s\n", out, text)
}

func TestDistanceCountsChanges(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"adress", "address", 1}, {"kitten", "sitting", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
