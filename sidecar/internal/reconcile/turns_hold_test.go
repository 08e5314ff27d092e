package reconcile

import (
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// A Consul that has lost its data begins again at a low index. A service that is skipped
// and has no other instances takes that index: what is registered from then on is newer.
func TestTurns_SkippedServiceIsTheSameAtAnotherIndex_HasThatIndex(t *testing.T) {
	answer := func(index uint64, instances ...catalog.Instance) catalog.Service {
		return catalog.Service{Name: "api", Known: true, Index: index, Instances: instances}
	}
	before := answer(80, catalog.Instance{ID: "api-1"})
	for _, c := range []struct {
		what string
		now  catalog.Service
		want uint64
	}{
		{"the same", answer(80, catalog.Instance{ID: "api-1"}), 80},
		{"the same at a lower index", answer(3, catalog.Instance{ID: "api-1"}), 3},
		{"the same at a higher index", answer(90, catalog.Instance{ID: "api-1"}), 90},
		{"another", answer(3), 80},
	} {
		x := turns{backends: map[string]*turn{"api": {want: before}}, skipped: map[string]bool{"api": true}}
		if got := x.hold(catalog.NewSnapshot(c.now)).Service("api"); got.Index != c.want || got.Index == 80 && len(got.Instances) != 1 {
			t.Errorf("%s: got %+v, want index %d", c.what, got, c.want)
		}
	}
}
