package route_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/route"
)

func TestKeeping_LinesOfHAProxy_AsFarAsTheyMayStay(t *testing.T) {
	want := route.Map{"a/": "1", "b/": "1", "c/": "1"}.Table()
	have := []route.Entry{{Key: "z/", Value: "2"}, {Key: "b/", Value: "2"}, {Key: "b/", Value: "3"}, {Key: "c/", Value: "1"}, {Key: "d/", Value: "no"}}
	asked := map[route.Entry]string{}
	got := want.Keeping(have, func(e, wanted route.Entry) bool { asked[e] = wanted.Value; return e.Value != "no" })
	if diff := cmp.Diff(map[route.Entry]string{have[0]: "", have[1]: "1", have[2]: "1", have[4]: ""}, asked); diff != "" {
		t.Errorf("what it asks: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(route.Map{"a/": "1", "b/": "2", "c/": "1", "z/": "2"}.Table(), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, c := range []struct {
		of   route.Map
		want bool
	}{{route.Map{}, true}, {route.Map{"a/": "1", "z/": "2"}, true}, {route.Map{"b/": "1"}, false}, {route.Map{"y/": "1"}, false}} {
		if has := got.Has(c.of.Table()); has != c.want {
			t.Errorf("has %v: %v, want %v", c.of, has, c.want)
		}
	}
}
