package plan_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// BenchmarkCompute plans one service that HAProxy runs as Consul has it, and
// one in which a weight has changed.
func BenchmarkCompute(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		service := catalog.Service{Name: "api_nodes", Known: true}
		runs := plan.Backend{Adds: true}
		for i := range n {
			name := fmt.Sprintf("api-%05d", i)
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 4000)
			service.Instances = append(service.Instances, catalog.Instance{ID: name, Node: "n", Server: name, Addr: addr, Weight: 1})
			runs.Servers = append(runs.Servers, plan.Server{ID: i + 1, Name: name, Addr: addr, Up: true, Weight: 1, ConfigWeight: 1, Checked: true})
			runs.Left = append(runs.Left, plan.FileServer{Name: name, Addr: addr, Weight: 1})
		}
		d := desired()
		o := plan.Observed{
			Running: true, PID: 1, Marker: d.Marker, Caps: plan.Capabilities{Dynamic: true},
			Backends: map[string]plan.Backend{backend: runs},
		}
		changed := service
		changed.Instances = append([]catalog.Instance{}, service.Instances...)
		changed.Instances[n/2].Weight = 7
		for _, c := range []struct {
			name    string
			service catalog.Service
			steps   int
		}{{"nothing changed", service, 0}, {"one weight changed", changed, 1}} {
			b.Run(fmt.Sprintf("%d instances, %s", n, c.name), func(b *testing.B) {
				snap := catalog.NewSnapshot(c.service)
				if p := plan.Compute(d, o, snap); len(p.Steps) != c.steps || p.Reload != plan.NoReload {
					b.Fatalf("got steps %v, reload %q; want %d steps", p.Steps, p.Reload, c.steps)
				}
				b.ReportAllocs()
				for b.Loop() {
					plan.Compute(d, o, snap)
				}
			})
		}
	}
}
