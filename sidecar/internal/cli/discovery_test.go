package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/route"
	"github.com/pointsman/pointsman/templates"
)

// discovering is a sidecar whose settings a test changes, and what reads them.
func discovering(t *testing.T, text string) (d *daemon, change func(text string)) {
	t.Helper()
	return discoveringWith(t, "", text)
}

func discoveringWith(t *testing.T, template, text string) (d *daemon, change func(text string)) {
	t.Helper()
	dir := t.TempDir()
	read := func() (config.Config, error) {
		return config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) {
			return []byte(text + "\nhaproxy: {template: \"" + template + "\", socket: " + dir + "/admin.sock, config: " + dir + "/haproxy.cfg}\napi: {address: \"127.0.0.1:0\"}\n"), nil
		}})
	}
	cfg, err := read()
	if err != nil {
		t.Fatal(err)
	}
	if d, err = newDaemon(cfg, Env{Stderr: io.Discard, Version: "test"}, true, read); err != nil {
		t.Fatal(err)
	}
	return d, func(changed string) {
		text = changed
		d.reloadConfig(t.Context())
	}
}

const takesRoutes = `
frontends:
  - name: web
    bind: "127.0.0.1:8080"
    discover: {tag_prefix: "route=", allow: [{host: "*", services: "*"}]}
`

// A service that was found in Consul, and gets its own settings.
func TestReloadConfig_FoundServiceComesIntoTheSettings_IsTaken(t *testing.T) {
	for name, settings := range map[string]string{
		"by name":    "services: [{name: shop}]",
		"by backend": "services: [{name: other, backend: shop}]",
	} {
		d, change := discovering(t, "services: []"+takesRoutes)
		d.finder.watched = []string{"shop", "rest"}
		d.found = route.Found{Services: []route.FoundService{{Name: "shop"}}, Routes: []route.FoundRoute{{Frontend: "web", Host: "a.test", Service: "shop", Source: route.FromTag}}}
		change(settings + takesRoutes)
		if len(d.cfg.Services) != 1 {
			t.Errorf("%s: the settings are refused", name)
		}
		var names []string
		for _, s := range watchedWith(d.cfg, d.found, d.finder.watched, nil) {
			names = append(names, s.Backend)
		}
		if got := strings.Join(names, " "); got != "shop rest" {
			t.Errorf("%s: watched are the backends %q", name, got)
		}
	}
}

// Services that come one after the other, each without an answer, hold up no route for longer.
func TestFinder_ServicesComeWithoutEnd_RoutesWaitForABoundedTime(t *testing.T) {
	f, at := newFinder(nil, hclog.NewNullLogger()), time.Unix(43200, 0)
	f.isNamed = true
	one := func(service string, after time.Duration) bool {
		at = at.Add(after)
		settled, again := f.settled([]route.Candidate{{Service: "known", Known: true}, {Service: service}}, at)
		if again <= 0 || !settled && again > foundSettle {
			t.Errorf("%s: again in %s", service, again)
		}
		return settled
	}
	for i := range 4 {
		if one(fmt.Sprintf("s%d", i), time.Second) {
			t.Fatalf("settled at once, with service %d", i)
		}
	}
	if !one("s5", 2*time.Second) {
		t.Error("not settled after the time for one answer")
	}
	if !one("s6", time.Second) {
		t.Error("the next service holds up the routes again")
	}
	if settled, _ := f.settled([]route.Candidate{{Service: "known", Known: true}}, at); !settled {
		t.Error("not settled with all answers")
	}
	if one("s7", time.Second) {
		t.Error("the first answer about a service is not awaited")
	}
}

// A service gets no backend of a name that the operator's template has.
func TestRefuse_SectionOfTheTemplate_IsNoServicesName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "own.tmpl")
	write := func(own string) {
		if err := os.WriteFile(path, []byte(templates.HAProxy+own), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("\nbackend internal\n    server a 127.0.0.1:1\nlisten \"other\"\n    bind 127.0.0.1:2\n")
	d, change := discoveringWith(t, path, "services: []"+takesRoutes)
	refused := func(want string) {
		t.Helper()
		got := ""
		for _, s := range []string{"internal", "other", "later", "shop"} {
			if d.cfg.Rules().Refuse(s) != nil {
				got += s + " "
			}
		}
		if got != want {
			t.Errorf("refused are %q, want %q", got, want)
		}
	}
	refused("internal other ")
	d.found = route.Found{
		Services: []route.FoundService{{Name: "later"}, {Name: "shop"}},
		Routes:   []route.FoundRoute{{Frontend: "web", Host: "a.test", Service: "later"}, {Frontend: "web", Host: "b.test", Service: "shop"}},
	}
	write("\nbackend later\n    server a 127.0.0.1:1\n")
	change("services: []" + takesRoutes)
	refused("later ")
	if len(d.found.Services) != 1 || len(d.found.Routes) != 1 || d.found.Services[0].Name != "shop" {
		t.Errorf("after the SIGHUP there is %+v", d.found)
	}
}
