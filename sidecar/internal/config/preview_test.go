package config_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

const previewed = `services:
- name: shop
  bind: ":80"
  preview: {enabled: true, header: X-Preview, cookie: preview, value: s3cret}
  tags: [web]
  frontend_extra: ["http-request set-header X-A b"]
  sticky: {cookie: SRV}
  close_on_role_change: true
- name: api
- name: cart
  preview: {enabled: true}
frontends:
- name: web
  bind: ":81"
  routes:
  - {host: preview.example.com, service: shop.preview}
  - {host: shop.example.com, service: shop}
`

func TestPreview_Enabled_IsABackendOfItsOwn(t *testing.T) {
	cfg, err := loadYAML(previewed)
	if err != nil {
		t.Fatal(err)
	}
	var backends []string
	for _, s := range cfg.Services {
		backends = append(backends, s.Name+" "+s.Backend)
	}
	if got, want := strings.Join(backends, ", "), "shop shop, api api, cart cart, shop shop.preview, cart cart.preview"; got != want {
		t.Fatalf("the services are %s, want %s", got, want)
	}
	s, p := cfg.Services[0], cfg.Services[3]
	if len(p.Bind)+len(p.FrontendExtra) > 0 || p.CloseOnRoleChange || p.Preview.Of != "shop" || !cmp.Equal(p.Tags, s.Tags) ||
		p.Check.Host != "shop" || p.Policy.Sticky.Cookie != "SRV_preview" || p.Policy.BasicAuth.Realm != "shop" || p.Check.Path != "/healthz" || p.MinServers > 0 || p.Guard.MaxLossRatio < 1 {
		t.Errorf("the preview is %+v", p)
	}
	want := []string{"{ req.fhdr(X-Preview) -m str -- 's3cret' }", "{ req.cook(preview) -m str -- 's3cret' }"}
	if diff := cmp.Diff(want, s.PreviewConditions()); diff != "" || len(p.PreviewConditions())+len(cfg.Services[2].PreviewConditions()) > 0 {
		t.Errorf("conditions, -want +got:\n%s", diff)
	}
	if got := cfg.Frontends[0].Compiled()[0].Backend; got != "shop.preview" {
		t.Errorf("the route leads to %s", got)
	}
	if cfg.Rules().Own["shop"] != "" || cfg.Rules().Refuse("shop.preview") == nil {
		t.Error("the service may claim no routes, or another may have the name of its preview")
	}
	found := cfg.With(route.Found{Routes: []*route.FoundRoute{{Frontend: "web", Host: "a.example.com", Service: "shop"}}})
	if got := found.Frontends[0].Compiled()[2].Backend; got != "shop" {
		t.Errorf("a route that was found leads to %s", got)
	}
	printed, err := json.Marshal(cfg)
	if err != nil || strings.Contains(string(printed), "s3cret") {
		t.Fatalf("printed: %s, %v", printed, err)
	}
	again, err := loadYAML(strings.ReplaceAll(string(printed), `"***"`, `"s3cret"`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(cfg, again, cmp.Comparer(func(a, b config.Secret) bool { return a == b })); diff != "" {
		t.Errorf("printed and read, -want +got:\n%s", diff)
	}
}

func TestPreview_Impossible_Refused(t *testing.T) {
	for settings, want := range map[string]string{
		"preview: {header: X-Preview}":                                                                     "services[shop].preview.header: needs preview.enabled",
		"preview: {value: x}":                                                                              "services[shop].preview.value: needs preview.enabled",
		"preview: {enabled: true, value: x}":                                                               "services[shop].preview.value: needs preview.header or preview.cookie",
		"preview: {enabled: true, header: X, value: \"}\"}":                                                "services[shop].preview.value: must not be",
		"preview: {enabled: true, header: \"X Y\"}":                                                        "services[shop].preview.header",
		"preview: {enabled: true, header: X, value: \"a b\"}":                                              "must not contain a space",
		"preview: {enabled: true}, mode: tcp":                                                              "services[shop].preview.enabled: needs mode http",
		"preview: {enabled: true}, backend_extra: [\"server own 10.0.0.1:80\"]":                            "services[shop].backend_extra",
		"preview: {enabled: true}, backend_extra: [\"cookie A insert dynamic\", \"dynamic-cookie-key k\"]": "services[shop].backend_extra",
	} {
		_, err := loadYAML("services: [{name: shop, " + settings + "}]")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", settings, err, want)
		}
	}
	for _, c := range []struct{ yaml, want string }{
		{"services: [{name: shop, preview: {enabled: true}}, {name: a, backend: shop.preview}]", "needs the name shop.preview, which is already the backend of a"},
		{"services: [{name: shop, preview: {enabled: true}}]\nfrontends: [{name: shop.preview, bind: \":80\"}]", "is already the name of a backend or frontend"},
		{"services: [{name: shop}]\nfrontends: [{name: web, bind: \":80\", routes: [{service: shop.preview}]}]", "is no service of the settings"},
		{"services: []\nprofiles: [{name: p, preview: {enabled: true}}]", "preview"},
	} {
		if _, err := loadYAML(c.yaml); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.yaml, err, c.want)
		}
	}
}
