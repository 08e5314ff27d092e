package config_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

const discovering = `services: [{name: own, backend: own-back}, {name: db, mode: tcp}]
profiles:
- {name: slow, services: "report-*", drain_timeout: 5m, check: {path: /up}}
frontends:
- name: web
  bind: ":80"
  discover:
    tag_prefix: route=
    allow:
    - {host: "*.Example.com", services: ["*"]}
  routes:
  - {host: own.example.com, service: own}
`

func TestDiscover_Found_ComesWithItsProfileAfterTheSettings(t *testing.T) {
	cfg, err := loadYAML(discovering)
	if err != nil {
		t.Fatal(err)
	}
	rules := cfg.Rules()
	if diff := cmp.Diff([]route.FrontendRules{{
		Name: "web", TagPrefix: "route=", Allow: []route.Allow{{Host: "*.example.com", Services: "*"}}, Settings: map[string]bool{"own.example.com/": true},
	}}, rules.Frontends); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if rules.Grace != 30*time.Second || rules.Own["own"] != "" || rules.Own["db"] == "" || len(rules.Profiles) != 2 {
		t.Errorf("got %+v", rules)
	}
	for _, name := range []string{"own-back", "own-back.front", "web", "statistics", "pointsman.x", "a b", ""} {
		if rules.Refuse(name) == nil {
			t.Errorf("a service may be named %q", name)
		}
	}
	whole := cfg.With(route.Found{
		Services: []route.FoundService{{Name: "report-a", Profile: "slow"}, {Name: "shop"}},
		Routes: []*route.FoundRoute{
			{Frontend: "web", Host: "a.example.com", Path: "/x", Strip: 1, Service: "report-a", Source: route.FromTag},
			{Frontend: "web", Host: "b.example.com", Service: "own", Source: route.FromFabio},
		},
	})
	if len(cfg.Services) != 2 || len(cfg.Frontends[0].Found) != 0 {
		t.Error("With has changed the settings themselves")
	}
	if s := whole.Services[2]; s.Name != "report-a" || s.Backend != "report-a" || s.DrainTimeout != 5*time.Minute || s.Check.Path != "/up" || s.Mode != config.HTTP {
		t.Errorf("the service of the profile is %+v", s)
	}
	if s := whole.Services[3]; s.DrainTimeout != 30*time.Second || s.Check.Path != "/healthz" || s.Check.Type != config.CheckHTTP || len(s.RetryOn) == 0 {
		t.Errorf("the service of the default profile is %+v", s)
	}
	want := []route.Route{{Host: "own.example.com", Backend: "own-back"}, {Host: "a.example.com", Path: "/x", Strip: 1, Backend: "report-a"}, {Host: "b.example.com", Backend: "own-back"}}
	if diff := cmp.Diff(want, whole.Frontends[0].Compiled(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("routes, -want +got:\n%s", diff)
	}
	// The printed settings are a file that can be read.
	printed, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	again, err := loadYAML(string(printed))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(cfg, again); diff != "" {
		t.Errorf("printed and read, -want +got:\n%s", diff)
	}
}

// With is called at each change: it copies what was found once.
func TestWith_ManyRoutes_TakesFewAllocations(t *testing.T) {
	cfg, err := loadYAML(discovering)
	if err != nil {
		t.Fatal(err)
	}
	found := route.Found{Services: []route.FoundService{{Name: "shop"}}}
	for i := range 2000 {
		found.Routes = append(found.Routes, &route.FoundRoute{Frontend: "web", Host: "a.example.com", Path: fmt.Sprintf("/%d", i), Service: "shop", Source: route.FromTag})
	}
	var whole config.Config
	if got := testing.AllocsPerRun(3, func() { whole = cfg.With(found) }); got > 200 {
		t.Errorf("%v allocations for 2,000 routes", got)
	}
	if f := whole.Frontends[0]; len(f.Found) != 2000 || len(f.Sources) != len(cfg.Frontends[0].Sources)+2000 || f.Found[1999].Path != "/1999" {
		t.Errorf("%d routes, %d sources", len(f.Found), len(f.Sources))
	}
}

// What stands in the way of a backend at runtime is named.
func TestProfile_Apart_NamesTheSettings(t *testing.T) {
	for settings, want := range map[string]string{
		"":                                   "",
		"check: {type: redis, path: ''}":     "",
		"sticky: {cookie: SRV, key: of-all}": "",
		"sticky: {cookie: SRV}":              "sticky.cookie",
		"sticky: {source: true}":             "sticky.source",
		"compression: [text/]":               "compression",
		"rate_limit: {requests: 5}":          "rate_limit.requests",
		"balance: static-rr":                 "balance",
		"slots: {force: true}":               "slots.force",
		"slots: {force: true}, sticky: {cookie: SRV}, backend_extra: [fullconn 7]": "slots.force sticky.cookie backend_extra",
	} {
		cfg, err := loadYAML("haproxy: {peers: {address: '127.0.0.1:9'}}\nservices: []\nprofiles: [{name: web, " + settings + "}]\n")
		if err != nil {
			t.Fatal(err)
		}
		p := cfg.Profiles[0]
		if got := strings.Join(p.Apart(), " "); got != want || p.IsShared() != (want == "") {
			t.Errorf("%s: got %q, shared %v, want %q", settings, got, p.IsShared(), want)
		}
	}
}
