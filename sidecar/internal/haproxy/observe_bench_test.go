package haproxy

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
)

// BenchmarkObserve reads all that a HAProxy runs, as the comparison of everything
// does.
func BenchmarkObserve(b *testing.B) {
	for _, fleet := range []struct{ backends, servers int }{{1, 10}, {1000, 10}, {1, 10000}} {
		b.Run(fmt.Sprintf("%dx%d", fleet.backends, fleet.servers), func(b *testing.B) {
			specs := make([]backendSpec, fleet.backends)
			names := make([]string, fleet.backends)
			for i := range specs {
				names[i] = fmt.Sprintf("service_%d", i)
				specs[i].name = names[i]
				for n := range fleet.servers {
					addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(n >> 8), byte(n)}), 4000)
					specs[i].servers = append(specs[i].servers, serverSpec{name: fmt.Sprintf("node-%d", n), addr: addr, weight: 1})
				}
			}
			p := haproxytest.StartWith(b, marked(testMark), fileOf(specs))
			c, err := New(Options{Runtime: p.Runtime(), Master: p.Master()})
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := c.Observe(b.Context(), names); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
