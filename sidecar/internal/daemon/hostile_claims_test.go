package daemon

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/route"
	"github.com/pointsman/pointsman/test/hostile"
)

const hostileSettings = `
name: lb0
services: [{name: own, bind: "127.0.0.1:80"}]
frontends:
  - name: web
    bind: "127.0.0.1:81"
    discover:
      tag_prefix: %q
      meta: %q
      fabio: true
      allow:
        - {host: "*.example.com", services: "*"}
        - {host: %q, services: %q}
`

func hostileConfig(t *testing.T) config.Config {
	t.Helper()
	text := fmt.Sprintf(hostileSettings, hostile.TagPrefix, hostile.MetaKey, hostile.VictimHost, hostile.Victim)
	cfg, err := config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) { return []byte(text), nil }})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// claimed is what the catalog has of a service with one instance that claims this.
func claimed(c hostile.Claim) catalog.Service {
	s := catalog.Service{Name: c.Service, Known: true, Instances: []catalog.Instance{{ID: "x", Server: "x", Addr: netip.MustParseAddrPort("127.0.0.1:1")}}}
	for _, tag := range c.Tags {
		s.Claims = append(s.Claims, catalog.Claim{Text: tag, Since: 1})
	}
	for key, text := range c.Meta {
		s.Claims = append(s.Claims, catalog.Claim{Meta: key, Text: text, Since: 1})
	}
	return s
}

// What claims may add to haproxy.cfg, besides the lines of backends, which have the
// profile's words and the service's checked name.
var claimLine = regexp.MustCompile(`^(?:#discovered [A-Za-z0-9_.-]+|#claimed web \S+/ \d [A-Za-z0-9_.-]+ (?:tag|meta|fabio)|#route [a-z0-9*.-]+/\S* [A-Za-z0-9_.-]+(?:/\d)?)$`)

// backendLine is what they may add to backends, with the service's checked name.
var backendLine = regexp.MustCompile(`^(?:backend [A-Za-z0-9_.-]+ from pointsman\.profile\.default|http-check send meth GET uri /healthz ver HTTP/1.1 hdr Host [A-Za-z0-9_.-]+)$`)

// The second of three levels: see package hostile. What is found of hostile claims is
// written as routes and backends with checked names, or not at all.
func TestDiscover_HostileClaims_NothingButCheckedRoutesIsWritten(t *testing.T) {
	t.Parallel()
	cfg := hostileConfig(t)
	plain, err := newRendererWith(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	before, err := plain.Render(nil)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(string(before)) {
		known[strings.TrimSpace(line)] = true
	}
	victim := catalog.Service{Name: hostile.Victim, Known: true, Claims: []catalog.Claim{{Text: hostile.TagPrefix + hostile.VictimHost, Since: 9}}}
	judge := func(t *testing.T, claims ...hostile.Claim) {
		t.Helper()
		snap, named := catalog.NewSnapshot(victim), []string{hostile.Victim}
		for _, c := range claims {
			snap, named = snap.With(claimed(c)), append(named, c.Service)
		}
		rules := cfg.Rules()
		rules.MaxServices = 1000
		services, problems := rules.Watch(named, route.Found{})
		found, refused := route.Discover(rules, time.Now(), true, route.Found{}, candidates(cfg, services, snap, claimsOf))
		problems = append(problems, refused...)
		routes := map[string]int{}
		for _, r := range found.Routes {
			if routes[r.Service]++; routes[r.Service] > rules.MaxRoutes {
				t.Errorf("%s has %d routes", r.Service, routes[r.Service])
			}
		}
		for _, c := range claims {
			isNamed := slices.ContainsFunc(problems, func(p route.Problem) bool { return strings.Contains(p.Service, strings.Fields(c.Service)[0]) })
			if !isNamed && routes[c.Service] == 0 {
				t.Errorf("%s: it has no route, and no problem names it", c.Why)
			}
		}
		for _, p := range problems {
			if text := p.String(); strings.ContainsFunc(text, unicode.IsControl) || len(text) > 1000 {
				t.Errorf("problem %.300q", text)
			}
		}
		r, err := newRendererWith(cfg.With(found), nil)
		if err != nil {
			t.Fatal(err)
		}
		content, err := r.Render(nil)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			line = strings.TrimSuffix(line, "\n")
			trimmed := strings.TrimSpace(line)
			isOwn := strings.HasPrefix(trimmed, "setenv POINTSMAN_MARK ") || strings.HasPrefix(line, "# Services found in Consul")
			if !known[trimmed] && !isOwn && !backendLine.MatchString(trimmed) && !claimLine.MatchString(line) {
				t.Errorf("written: %q", line)
			}
		}
		// A sidecar that starts reads the same from it.
		at := cfg
		at.HAProxy.Config = filepath.Join(t.TempDir(), "haproxy.cfg")
		if err := os.WriteFile(at.HAProxy.Config, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if again := SavedFound(at); !again.HasServicesOf(found) || len(cfg.Rules().Changes(again, found)) > 0 {
			t.Errorf("written and read: %v, want %v", again, found)
		}
		victims := slices.DeleteFunc(slices.Clone(found.Routes), func(r *route.FoundRoute) bool { return r.Host != hostile.VictimHost })
		if len(victims) != 1 || victims[0].Service != hostile.Victim {
			t.Errorf("%s has the routes %v", hostile.VictimHost, victims)
		}
	}
	for _, c := range hostile.Claims() {
		t.Run(fmt.Sprintf("%.60q", c.Why), func(t *testing.T) { judge(t, c) })
	}
	t.Run("all together", func(t *testing.T) { judge(t, hostile.Claims()...) })
}
