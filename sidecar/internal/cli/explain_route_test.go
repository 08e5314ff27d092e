package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func TestExplainRoute_EachRequest_IsLedAsHAProxyLeadsIt(t *testing.T) {
	s := &reconcile.State{
		Services: []reconcile.ServiceState{{Name: "shop", Backend: "shop", Instances: []reconcile.InstanceState{{Phase: reconcile.PhaseUp, Weight: 1, Admin: "ready"}, {Phase: reconcile.PhaseDown}}}},
		Frontends: []reconcile.FrontendState{{Name: "web", Applied: time.Unix(1, 0), Withheld: []string{"books"}, Routes: []reconcile.RouteState{
			{Host: "shop.test", Path: "/", Backend: "shop", Source: "settings"},
			{Host: "shop.test", Path: "/cart", Backend: "basket", Strip: 1, Source: "settings"},
			{Host: "*.test", Path: "/", Backend: "wild", Source: "settings"},
			{Host: "xn--bcher-kva.example", Path: "/", Backend: "books", Source: "settings"},
			{Host: "*", Path: "/only", Backend: "any", Methods: []string{"GET"}, Source: "settings"},
		}}},
	}
	for request, want := range map[string][]string{
		"shop.test":                        {"shop.test/\n", "shop, 1 of 2 servers take traffic", "settings"},
		"https://SHOP.test:443/cart/x?y=1": {"shop.test/cart, 1 segments taken off", "basket, which has no state"},
		"a.b.test/cart":                    {"*.test/\n", "wild"},
		"bücher.example/":                  {"books", "not applied yet  HAProxy does not have backend books"},
		"other.example/only":               {"*/only, method GET", "otherwise   404"},
	} {
		var out strings.Builder
		host, path := hostAndPath(request)
		if !explainRoute(&out, s, nil, host, path) {
			t.Errorf("%s: not found", request)
		}
		for _, w := range want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%s: want %q in\n%s", request, w, out.String())
			}
		}
	}
	var out strings.Builder
	if explainRoute(&out, s, nil, "other.example", "/") || !strings.Contains(out.String(), "none: 404") {
		t.Errorf("a request without a route:\n%s", out.String())
	}
	s.Frontends[0].Default, s.Frontends[0].Error = "shop", "Permission denied"
	out.Reset()
	if !explainRoute(&out, s, nil, "other.example", "/") || !strings.Contains(out.String(), "the default: shop") || !strings.Contains(out.String(), "not applied") {
		t.Errorf("a request for the default:\n%s", out.String())
	}
}

func TestStatus_Tree_ShowsFrontendsWithTheirRoutes(t *testing.T) {
	s := &reconcile.State{LoadBalancer: "lb0", Frontends: []reconcile.FrontendState{{Name: "web", Default: "shop", Error: "Permission denied\x1b[2J"}}}
	for range maxRoutes + 5 {
		s.Frontends[0].Routes = append(s.Frontends[0].Routes, reconcile.RouteState{Host: "a.test", Path: "/x", Backend: "shop", Source: "settings"})
	}
	var out strings.Builder
	(&tree{out: &out, now: noon}).state(daemon.Judged(s))
	for _, want := range []string{
		"frontend web, 25 routes, not applied: Permission denied·[2J\n", "a.test/x → shop (settings)", "and 5 more", "otherwise → shop", "routes not applied",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("want %q in\n%s", want, out.String())
		}
	}
	if n := strings.Count(out.String(), "a.test/x"); n != maxRoutes {
		t.Errorf("%d routes are shown", n)
	}
}
