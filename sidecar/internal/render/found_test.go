package render_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/sidecar/internal/route"
	"github.com/pointsman/pointsman/templates"
)

// all is without the method Equal, which leaves out some.
type all route.Found

func TestFound_Written_IsReadBackAndNotInTheMarker(t *testing.T) {
	want := route.Found{
		Services: []route.FoundService{{Name: "a"}, {Name: "b", Profile: "slow"}, {Name: "c", Profile: "slow", ByReload: true}},
		Routes: []*route.FoundRoute{
			{Frontend: "web", Service: "a", Source: route.FromMeta},
			{Frontend: "web", Path: "/x", Strip: 1, Service: "a", Source: route.FromTag},
			{Frontend: "web", Host: "*.a.test", Service: "b", Source: route.FromFabio},
			{Frontend: "web", Host: "a.test", Path: "/x/y", Service: "b", Source: route.FromTag},
		},
		Gone: []route.FoundService{{Name: "d"}, {Name: "e", Profile: "slow"}},
	}
	with, err := render.New("t", "backend a\n", render.Settings{Found: want})
	if err != nil {
		t.Fatal(err)
	}
	without, err := render.New("t", "backend a\n", render.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	content, err := with.Render(nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all(want), all(render.FoundIn(content))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if with.Marker() != without.Marker() {
		t.Error("routes at runtime are in the marker: each would take a reload")
	}
	damaged := "#discovered \n#claimed web a.test/ 0 a\n#claimed web a_test/ 0 a tag\n#claimed web a.test/ 9 a tag\n#claimed web a.test/ x a tag\n"
	if got := render.FoundIn([]byte(damaged)); len(got.Services)+len(got.Routes) != 0 {
		t.Errorf("of a damaged file: %+v", got)
	}
}

// A service may be named as the word that stands before a section's defaults.
func TestDefaults_ServiceNamedFrom_IsMadeFromItsProfile(t *testing.T) {
	profile := render.Service{Mode: "http", Balance: "roundrobin", Defaults: "pointsman.profile.default"}
	from, shop := profile, profile
	from.Name, from.Backend, shop.Name, shop.Backend = "from", "from", "shop", "shop"
	r, err := render.New("built-in", templates.HAProxy, render.Settings{Profiles: []render.Service{profile}, Services: []render.Service{from, shop}})
	if err != nil {
		t.Fatal(err)
	}
	content, err := r.Render(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, backend := range []string{"from", "shop"} {
		if line := "\nbackend " + backend + " from " + profile.Defaults + "\n"; !strings.Contains(string(content), line) {
			t.Errorf("no %q in:\n%s", line, content)
		}
	}
}
