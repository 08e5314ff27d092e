package render_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

func TestFound_Written_IsReadBackAndNotInTheMarker(t *testing.T) {
	want := route.Found{
		Services: []route.FoundService{{Name: "a"}, {Name: "b", Profile: "slow"}},
		Routes: []route.FoundRoute{
			{Frontend: "web", Service: "a", Source: route.FromMeta},
			{Frontend: "web", Path: "/x", Strip: 1, Service: "a", Source: route.FromTag},
			{Frontend: "web", Host: "*.a.test", Service: "b", Source: route.FromFabio},
			{Frontend: "web", Host: "a.test", Path: "/x/y", Service: "b", Source: route.FromTag},
		},
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
	if diff := cmp.Diff(want, render.FoundIn(content)); diff != "" {
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
