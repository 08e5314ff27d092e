package reconcile

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// What is remembered of who leaves is what a look at every address would come to.
func TestNoteAnnounced_RandomAnswers_SameAsLookAtEveryAddress(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	addr := func() netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(6))}), 80)
	}
	svc := plan.Service{Name: "api", Backend: "api"}
	a := &Agent{announced: map[string]map[netip.AddrPort]bool{}, last: map[string][]plan.FileServer{}}
	for range 2000 {
		var servers []plan.Server
		var last []plan.FileServer
		var instances []catalog.Instance
		for range r.IntN(4) {
			servers, last = append(servers, plan.Server{Addr: addr()}), append(last, plan.FileServer{Addr: addr()})
		}
		for range r.IntN(5) {
			inst := catalog.Instance{Addr: addr()}
			switch r.IntN(6) {
			case 0:
				inst.Leaving = time.Unix(1, 0)
			case 1:
				inst.Health = catalog.Maintenance
			}
			instances = append(instances, inst)
		}
		a.known.observed.Backends, a.last["api"] = map[string]plan.Backend{"api": {Servers: servers}}, last
		want := map[netip.AddrPort]bool{}
		for _, s := range servers {
			want[s.Addr] = a.announced["api"][s.Addr]
		}
		for _, f := range last {
			want[f.Addr] = a.announced["api"][f.Addr]
		}
		for _, inst := range instances {
			want[inst.Addr] = !inst.Leaving.IsZero() || inst.Health == catalog.Maintenance
		}
		maps.DeleteFunc(want, func(_ netip.AddrPort, announced bool) bool { return !announced })
		a.noteAnnounced(svc, catalog.Service{Name: "api", Known: true, Instances: instances})
		if diff := cmp.Diff(want, a.announced["api"], cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
		}
	}
}
