package config_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

func loadYAML(yaml string) (config.Config, error) {
	return config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) { return []byte(yaml), nil }})
}

// withFrontend is a file with two services and the frontend web.
func withFrontend(lines ...string) string {
	return "services:\n- {name: shop}\n- {name: db, mode: tcp}\n- {name: pair, backend: pair-a}\n- {name: pair, backend: pair-b}\n" +
		"frontends:\n- name: web\n  bind: \":80\"\n  " + strings.Join(lines, "\n  ") + "\n"
}

func TestFrontends_Routes_AreReadAndCompiled(t *testing.T) {
	cfg, err := loadYAML(withFrontend("default: pair-b", "routes:",
		`- {host: "Shop.Example.com.", path: /cart/, service: shop, strip_prefix: true}`,
		`- {host: "*.bücher.example", service: pair-a, methods: [GET, POST], headers: "X-A: b c"}`,
		`- {path: /, service: shop}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []route.Route{
		{Host: "shop.example.com", Path: "/cart", Backend: "shop", Strip: 1, Methods: []string{}},
		{Host: "*.xn--bcher-kva.example", Backend: "pair-a", Methods: []string{"GET", "POST"}, Headers: []route.Header{{Name: "X-A", Value: "b c"}}},
		{Backend: "shop", Methods: []string{}},
	}
	if diff := cmp.Diff(want, cfg.Frontends[0].Compiled()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if cfg.Frontends[0].Default != "pair-b" {
		t.Errorf("the default is %q", cfg.Frontends[0].Default)
	}
	dump, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	again, err := loadYAML(string(dump))
	if err != nil {
		t.Fatalf("%v\n%s", err, dump)
	}
	if diff := cmp.Diff(cfg.Frontends, again.Frontends); diff != "" {
		t.Errorf("the dump gives other frontends (-first +again):\n%s", diff)
	}
}

func TestFrontends_WhatCannotBe_IsRefusedWithKeyAndPlace(t *testing.T) {
	const file = config.DefaultFile
	for _, c := range []struct{ name, yaml, want string }{
		{"no name", "services: []\nfrontends:\n- bind: \":80\"\n", file + `:3: frontends[0].name: required`},
		{"no bind", "services: []\nfrontends:\n- name: web\n", file + `:3: frontends[web].bind: required`},
		{"the name of a backend", "services:\n- name: web\nfrontends:\n- {name: web, bind: \":80\"}\n", file + `:4: frontends[web].name "web": is already the name of a backend or frontend, and HAProxy 3.3 and newer need another name`},
		{"a reserved name", "services: []\nfrontends:\n- {name: pointsman.x, bind: \":80\"}\n", file + `:3: frontends[pointsman.x].name "pointsman.x": is reserved for Pointsman in haproxy.cfg`},
		{"a port of a service", "services:\n- {name: api, bind: \":80\"}\nfrontends:\n- {name: web, bind: \":80\"}\n", file + `:4: frontends[web].bind: :80 is already bound by services[api].bind`},
		{"include mode", "services: []\nhaproxy: {base_config: /etc/haproxy/mine.cfg}\nfrontends:\n- {name: web, bind: \":80\"}\n", file + `:4: frontends[web].name "web": must not be set with haproxy.base_config: write the frontend there`},
		{"a file whose name ends a rule", "services: []\nhaproxy: {config: \"/etc/a,b/haproxy.cfg\"}\nfrontends:\n- {name: web, bind: \":80\"}\n", file + `:2: haproxy.config "/etc/a,b/haproxy.cfg": may contain only letters, digits, '/', '-', '_' and '.' with frontends: HAProxy's rules name the map files beside it`},
		{"no list", "services: []\nfrontends: {web: {}}\n", file + `:2: frontends: must be a list; write [] for none`},
		{"an unknown key", withFrontend("redirect: a"), file + `:9: frontends[web].redirect: no such setting`},
		{"an unknown key of a route", withFrontend("routes:", "- {hots: a.test, service: shop}"), file + `:10: frontends[web].routes[0].hots: no such setting; did you mean host?`},
		{"an unknown service", withFrontend("routes:", "- service: shpo"), file + `:10: frontends[web].routes[0].service "shpo": is no service of the settings`},
		{"a service in two backends", withFrontend("default: pair"), file + `:9: frontends[web].default "pair": is the name of several services: write the backend of one`},
		{"a service in another mode", withFrontend("default: db"), file + `:9: frontends[web].default "db": is in mode tcp, the frontend in mode http`},
		{"a route without service", withFrontend("routes:", "- host: a.test"), file + `:10: frontends[web].routes[0].service: required`},
		{"a host with a port", withFrontend("routes:", `- {host: "a.test:80", service: shop}`), file + `:10: frontends[web].routes[0].host "a.test:80": must be a host without a port`},
		{"a wildcard inside", withFrontend("routes:", `- {host: "a.*.test", service: shop}`), file + `:10: frontends[web].routes[0].host "a.*.test": may have a wildcard only as the whole first label: *.example.com`},
		{"a path with a space", withFrontend("routes:", `- {path: "/a b", service: shop}`), file + `:10: frontends[web].routes[0].path "/a b": must not contain the character ' '`},
		{"a path with an empty segment", withFrontend("routes:", `- {path: "/a//b", service: shop}`), file + `:10: frontends[web].routes[0].path "/a//b": must not have the segment ""`},
		{"the same requests twice", withFrontend("routes:", "- {host: A.test, path: /x/, service: shop}", "- {host: a.test., path: /x, service: pair-a}"), file + `:11: frontends[web].routes[1] "a.test/x": matches the same requests as frontends[web].routes[0]`},
		{"a server name in mode http", withFrontend("routes:", "- {sni: a.test, service: shop}"), file + `:10: frontends[web].routes[0].sni "a.test": needs a frontend of mode tcp: write host`},
		{"a host in mode tcp", withFrontend("mode: tcp", "routes:", "- {host: a.test, service: db}"), file + `:11: frontends[web].routes[0]: may have only sni and service in a frontend of mode tcp`},
		{"a method like a flag", withFrontend("routes:", "- {host: a.test, methods: -F, service: shop}"), file + `:10: frontends[web].routes[0].methods "-F": item 1, "-F": must be a method in capitals, such as GET`},
		{"a header that ends the condition", withFrontend("routes:", "- {host: a.test, headers: 'X-A: }', service: shop}"), file + `:10: frontends[web].routes[0].headers "X-A: }": item 1, "X-A: }": must not be "}", with which HAProxy ends a condition`},
		{"ALPN in mode tcp", withFrontend("mode: tcp", "alpn: [http/1.1]"), file + `:10: frontends[web].alpn: needs mode http`},
		{"forwarded headers in mode tcp", withFrontend("mode: tcp", "forwarded: append"), file + `:10: frontends[web].forwarded: needs mode http`},
		{"a redirect in mode tcp", withFrontend("mode: tcp", "redirect_https: true"), file + `:10: frontends[web].redirect_https: needs mode http`},
		{"too much to strip", withFrontend("routes:", "- {path: /1/2/3/4/5/6/7/8/9, strip_prefix: true, service: shop}"), file + `:10: frontends[web].routes[0].strip_prefix "/1/2/3/4/5/6/7/8/9": can take off 8 segments at most`},
		{"nothing to strip", withFrontend("routes:", "- {strip_prefix: true, service: shop}"), file + `:10: frontends[web].routes[0].strip_prefix: needs path`},
		{"a method in small letters", withFrontend("routes:", "- {methods: get, service: shop}"), file + `:10: frontends[web].routes[0].methods "get": item 1, "get": must be a method in capitals, such as GET`},
		{"a header with a quote", withFrontend("routes:", `- {headers: 'X-A: "b"', service: shop}`), file + `:10: frontends[web].routes[0].headers "X-A: \"b\"": item 1, "X-A: \"b\"": must not contain the character '"'`},
		{"a log format with a quote", withFrontend(`log_format: "'"`), file + `:9: frontends[web].log_format "'": must not contain the character '\''`},
		{"discovery without allow", withFrontend("discover: {fabio: true}"), file + `:9: frontends[web].discover.allow: required: it names the services that may have a host`},
		{"allow without discovery", withFrontend("discover: {allow: [{host: a.test, services: a}]}"), file + `:9: frontends[web].discover.allow: needs discover.tag_prefix, discover.meta or discover.fabio`},
		{"discovery in mode tcp", withFrontend("mode: tcp", "discover: {fabio: true, allow: [{host: a.test, services: a}]}"), file + `:10: frontends[web].discover: needs mode http`},
		{"allow without a host", withFrontend("discover: {fabio: true, allow: [{services: a}]}"), file + `:9: frontends[web].discover.allow[0].host: required`},
		{"allow without services", withFrontend("discover: {fabio: true, allow: [{host: a.test}]}"), file + `:9: frontends[web].discover.allow[0].services: required`},
		{"allow with a pattern that is none", withFrontend("discover: {fabio: true, allow: [{host: a.test, services: 'a[bc]'}]}"), file + `:9: frontends[web].discover.allow[0].services "a[bc]": item 1, "a[bc]": may contain only letters, digits, '-', '_' and '.'`},
		{"allow with a pattern that costs much", withFrontend("discover: {fabio: true, allow: [{host: a.test, services: '*a*b*c*'}]}"), file + `:9: frontends[web].discover.allow[0].services "*a*b*c*": item 1, "*a*b*c*": may have three '*' at most`},
		{"a key of meta that Consul does not take", withFrontend("discover: {meta: 'a b', allow: [{host: a.test, services: a}]}"), file + `:9: frontends[web].discover.meta "a b": must be a key of service meta: letters, digits, '-', '_' and '.'`},
		{"allow with a host that is none", withFrontend("discover: {fabio: true, allow: [{host: a_b, services: a}]}"), file + `:9: frontends[web].discover.allow[0].host "a_b": is no host name: disallowed rune U+005F`},
		{"an unknown key of discover", withFrontend("discover: {tag_prefx: a}"), file + `:9: frontends[web].discover.tag_prefx: no such setting; did you mean tag_prefix?`},
		{"a profile's bind", "services: []\nprofiles:\n- {name: a, bind: ':80'}\n", file + `:3: profiles[a].bind: no such setting`},
		{"a profile twice", "services: []\nprofiles:\n- {name: a}\n- {name: a}\n", file + `:4: profiles[1].name "a": is listed twice`},
		{"a profile without a name", "services: []\nprofiles:\n- {balance: random}\n", file + `:3: profiles[0].name: required`},
		{"a profile that contradicts itself", "services: []\nprofiles:\n- {name: a, damping: {min: 1h, max: 1m}}\n", file + `:3: profiles[a].damping.min "1h": is more than damping.max, 1m`},
		{"a grace without unit", "services: []\ndiscovery: {grace: 30}\n", file + `:2: discovery.grace "30": has no unit: write 30s for seconds, 30ms for milliseconds`},
		{"a protocol that is none", withFrontend("alpn: http/2"), file + `:9: frontends[web].alpn "http/2": item 1, "http/2": must be h2 or http/1.1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := loadYAML(c.yaml)
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}
