package route_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/sidecar/internal/route"
)

func TestParseClaim_EachForm_IsARouteOrARefusal(t *testing.T) {
	for in, want := range map[string]string{
		"shop.example.com/cart": "shop.example.com/cart/ strip 0", "Shop.Example.com": "shop.example.com/ strip 0", "/health": "*/health/ strip 0",
		"*.example.com/a/b strip": "*.example.com/a/b/ strip 2", "a.test/ strip": "a.test/ strip 0",
	} {
		r, err := route.ParseClaim(in)
		if got := fmt.Sprintf("%s strip %d", r.Key(), r.Strip); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", " ", "a b", "a.test/x weight=1", "a.test:80/x", "a\x00.test", "(a|b).test", "a.test/.*\\", "a.test/../x", "^a.test", strings.Repeat("a", 3000), "a.test/1/2/3/4/5/6/7/8/9 strip"} {
		if r, err := route.ParseClaim(in); err == nil {
			t.Errorf("%q is taken as %+v", in, r)
		}
	}
}

func TestParseFabio_EachOption_IsSupportedOrRefused(t *testing.T) {
	for in, want := range map[string]string{
		"urlprefix-shop.example.com/cart strip=/cart": "shop.example.com/cart/ strip 1", "urlprefix-/api": "*/api/ strip 0",
		"urlprefix-a.test/x/y proto=http strip=/x": "a.test/x/y/ strip 1", "urlprefix-a.test/": "a.test/ strip 0",
	} {
		r, is, err := route.ParseFabio(in)
		if got := fmt.Sprintf("%s strip %d", r.Key(), r.Strip); !is || err != nil || got != want {
			t.Errorf("%q is %q, %v, %v; want %q", in, got, is, err, want)
		}
	}
	for _, in := range []string{"urlprefix-", "urlprefix-:3306 proto=tcp", "urlprefix-a.test/ proto=https", "urlprefix-a.test/ host=dst", "urlprefix-a.test/ redirect=301,https://b", "urlprefix-a.test/x strip=/y", "urlprefix-a.test/xy strip=/x", "urlprefix-a.test/ weight=0.5", "urlprefix-a.test/ allow=ip:10.0.0.0/8"} {
		if r, is, err := route.ParseFabio(in); !is || err == nil {
			t.Errorf("%q is taken as %+v", in, r)
		}
	}
	if _, is, err := route.ParseFabio("version-1"); is || err != nil {
		t.Errorf("another tag: %v, %v", is, err)
	}
}

// A claim that is read is a route of the map, whatever the tag was.
func FuzzClaims(f *testing.F) {
	for _, seed := range []string{"shop.example.com/cart strip", "*.a.test", "urlprefix-a.test/x strip=/x", "\x1b[2J/", "a.test/x\nb.test/ y", "a.test/x;y'z", "a.test/1/2/3/4/5/6/7/8/9 strip", "ｓhop.test/%2e%2e/ strip", "urlprefix-sh\u00adop.test/%00 strip=/%00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, tag string) {
		check := func(r route.Route, err error) {
			if err != nil {
				return
			}
			if i := strings.IndexFunc(r.Key(), func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`;\#"'?<`, r) }); i >= 0 || r.Strip > route.MaxStrip {
				t.Errorf("%q is the key %q, strip %d", tag, r.Key(), r.Strip)
			}
		}
		check(route.ParseClaim(tag))
		r, _, err := route.ParseFabio(tag)
		check(r, err)
	})
}

func TestAllows_TheMostSpecificHostDecides(t *testing.T) {
	allow := []route.Allow{{"*.example.com", "shop-*"}, {"admin.example.com", "admin"}, {"*.eu.example.com", "eu-*-api"}}
	for _, c := range []struct {
		host, service string
		want          bool
	}{
		{"a.example.com", "shop-1", true},
		{"a.example.com", "admin", false},
		{"admin.example.com", "admin", true},
		{"admin.example.com", "shop-1", false},
		{"x.eu.example.com", "eu-1-api", true},
		{"x.eu.example.com", "shop-1", false},
		{"example.com", "shop-1", false},
		{"*", "shop-1", false},
		{"*.example.com", "shop-1", false}, // the hosts below it are others'
		{"*.b.example.com", "shop-1", true},
		{"*.eu.example.com", "eu-1-api", true},
		{"*.com", "shop-1", false},
		{"a.b.example.com", "shop-", true},
	} {
		for range 2 {
			if got := route.Allows(allow, c.host, c.service); got != c.want {
				t.Errorf("%s from %s: %v, of %v", c.host, c.service, got, allow)
			}
			slices.Reverse(allow)
		}
	}
}

// A request for a path that the owner of a host does not claim falls through to the
// wildcard, and to the routes of every host.
func TestAllows_HostBelowIsAnothers_WildcardIsRefused(t *testing.T) {
	allow := []route.Allow{{"*", "*"}, {"*.example.com", "evil"}, {"*.example.com", "shop"}, {"*.example.com", "eu"}, {"shop.example.com", "shop"}, {"*.eu.example.com", "eu"}, {"*.eu.example.com", "shop"}, {"x.test", "*"}}
	for _, c := range []struct {
		host, service string
		want          bool
	}{
		{"*.example.com", "evil", false},
		{"*.example.com", "eu", false},
		{"*.example.com", "shop", true},
		{"*", "evil", false},
		{"*", "shop", true},
		{"*.eu.example.com", "eu", true},
		{"*.eu.example.com", "evil", false},
		{"*.test", "evil", true},
		{"*.shop.example.com", "evil", true},
		{"other.example.com", "evil", true},
	} {
		if got := route.Allows(allow, c.host, c.service); got != c.want {
			t.Errorf("%s from %s: %v", c.host, c.service, got)
		}
	}
}

func TestAssign_AnyClaims_OwnersAreAgreedAndStay(t *testing.T) {
	allow := []route.Allow{{"*", "*"}, {"closed.test", "none"}}
	routes := rapid.SliceOfN(rapid.Map(rapid.SampledFrom([]string{"a.test", "b.test/x", "closed.test", "/y"}), func(s string) route.Route {
		r, err := route.ParseClaim(s)
		if err != nil {
			panic(err)
		}
		return r
	}), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		var claimants []route.Claimant
		for i := range rapid.IntRange(0, 4).Draw(t, "services") {
			claimants = append(claimants, route.Claimant{Service: fmt.Sprintf("s%d", i), Since: rapid.Uint64Range(1, 3).Draw(t, "since"), Routes: routes.Draw(t, "routes")})
		}
		for i := range claimants {
			for k := range claimants[i].Routes {
				claimants[i].Routes[k].Backend = claimants[i].Service
			}
		}
		settings := map[string]bool{"b.test/x/": rapid.Bool().Draw(t, "settings")}
		owned, conflicts := route.Assign(settings, nil, claimants, allow)
		owners := map[string]string{}
		for key, r := range owned {
			owners[key] = r.Backend
			if settings[key] || r.Host == "closed.test" {
				t.Errorf("%s is given to %s", key, r.Backend)
			}
		}
		for _, c := range claimants { // every claim is followed or named
			for _, r := range c.Routes {
				followed := owners[r.Key()] == c.Service
				named := false
				for _, x := range conflicts {
					named = named || x.Service == c.Service && x.Route.Key() == r.Key()
				}
				if followed == named {
					t.Errorf("%s of %s: followed %v, named %v", r.Key(), c.Service, followed, named)
				}
			}
		}
		// Another load balancer sees them in another order, and remembers nothing.
		rand.Shuffle(len(claimants), func(i, k int) { claimants[i], claimants[k] = claimants[k], claimants[i] })
		if again, _ := route.Assign(settings, nil, claimants, allow); !cmp.Equal(owned, again) {
			t.Errorf("%v, and in another order %v", owned, again)
		}
		// One that was registered before all others takes nothing away.
		claimants = append(claimants, route.Claimant{Service: "z", Since: 0, Routes: []route.Route{{Host: "a.test", Backend: "z"}}})
		later, _ := route.Assign(settings, owners, claimants, allow)
		for key, r := range owned {
			if later[key].Backend != r.Backend {
				t.Errorf("%s goes from %s to %s, which still claims it", key, r.Backend, later[key].Backend)
			}
		}
	})
}
