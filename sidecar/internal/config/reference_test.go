package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the tables in docs/configuration.md")

const begin = "<!-- The rest is written by `go test ./sidecar/internal/config -update`. -->\n"

func page(t *testing.T) (path, text string) {
	t.Helper()
	path = filepath.Join("..", "..", "..", "docs", "configuration.md")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, string(data)
}

func TestTheReferencePageIsTheTable(t *testing.T) {
	path, text := page(t)
	head, got, found := strings.Cut(text, begin)
	if !found {
		t.Fatalf("%s lacks the line %q", path, begin)
	}
	want := reference()
	if *update {
		if err := os.WriteFile(path, []byte(head+begin+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("%s is not what the table says; run the test with -update (-got +want):\n%s", path, diff)
	}
}

func TestTheReferencePagesExamplesLoad(t *testing.T) {
	path, text := page(t)
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(text, -1)
	if len(examples) == 0 {
		t.Fatalf("%s has no example", path)
	}
	for _, e := range examples {
		_, err := Load(Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) { return []byte(e[1]), nil }})
		if err != nil {
			t.Errorf("an example of %s:\n%s\n%v", path, e[1], err)
		}
	}
}

// reference returns the generated part of the page.
func reference() string {
	var b strings.Builder
	title := func(s string) { fmt.Fprintf(&b, "\n## %s\n\n", s) }
	title("The sidecar")
	group(&b, settings(), func(k string) bool { return !inSection(k) })
	title("Consul")
	group(&b, settings(), func(k string) bool { return strings.HasPrefix(k, "consul.") })
	title("The load balancer in Consul")
	group(&b, settings(), func(k string) bool { return strings.HasPrefix(k, "registration.") })
	title("The sidecar's API")
	group(&b, settings(), func(k string) bool { return strings.HasPrefix(k, "api.") })
	title("HAProxy")
	group(&b, settings(), func(k string) bool { return strings.HasPrefix(k, "haproxy.") })
	title("Services")
	b.WriteString("`services` is a list, in the file only, and must be there; `[]` is none. Each has these keys:\n\n")
	group(&b, serviceSettings(), func(string) bool { return true })
	title("Frontends")
	b.WriteString("`frontends` is a list, in the file only. See [routes](routes.md). Each has these keys, and a list `routes`:\n\n")
	group(&b, frontendSettings(), func(string) bool { return true })
	b.WriteString("\nEach of `routes` has these keys:\n\n")
	group(&b, routeSettings(), func(string) bool { return true })
	b.WriteString("\nEach of `discover.allow` has these keys:\n\n")
	group(&b, allowSettings(), func(string) bool { return true })
	title("Profiles")
	b.WriteString("`profiles` is a list, in the file only: the settings of the backends of discovered services. See [routes from Consul](guides/routes-from-consul.md). Each has these keys, and those of a service except `name`, `backend`, `bind`, `certificates.directory`, `mode`, `tags`, `filter`, `close_on_role_change` and `frontend_extra`:\n\n")
	group(&b, profileSettings(), func(k string) bool { return k == "name" || k == "services" })
	title("Flags and variables")
	names(&b)
	return b.String()
}

func inSection(key string) bool {
	return strings.HasPrefix(key, "consul.") || strings.HasPrefix(key, "api.") || strings.HasPrefix(key, "haproxy.") || strings.HasPrefix(key, "registration.")
}

func group[T any](b *strings.Builder, table []setting[T], take func(key string) bool) {
	b.WriteString("| Key | Value | Default | Meaning |\n|---|---|---|---|\n")
	var sample T
	for _, s := range table {
		if take(s.key) {
			fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", s.key, s.at(&sample).describe(), defaultOf(s), meaningOf(s))
		}
	}
}

func defaultOf[T any](s setting[T]) string {
	switch {
	case s.derived != "":
		return s.derived
	case s.def == "":
		return "none"
	}
	return "`" + s.def + "`"
}

func meaningOf[T any](s setting[T]) string {
	if s.restart {
		return s.doc + " A new value needs a restart."
	}
	return s.doc
}

func names(b *strings.Builder) {
	b.WriteString("| Key | Flag | Variable | Consul's own |\n|---|---|---|---|\n")
	cell := func(s, prefix string) string {
		if s == "" {
			return ""
		}
		return "`" + prefix + s + "`"
	}
	for _, s := range settings() {
		fmt.Fprintf(b, "| `%s` | %s | `%s` | %s |\n", s.key, cell(s.flag(), "--"), s.env(), cell(s.consulEnv, ""))
	}
}
