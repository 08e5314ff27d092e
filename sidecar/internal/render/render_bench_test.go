package render_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/templates"
)

// BenchmarkRender renders haproxy.cfg of one service.
func BenchmarkRender(b *testing.B) {
	r, err := render.New("haproxy.cfg.tmpl", templates.HAProxy, settings())
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{10, 10_000} {
		var servers []plan.FileServer
		for i := range n {
			servers = append(servers, plan.FileServer{
				Name: fmt.Sprintf("api-%05d", i), Weight: 1,
				Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 4000),
			})
		}
		models := [][]plan.FileBackend{backends(servers...), backends(servers[1:]...)} // in turn: else it is the file of the last time
		b.Run(fmt.Sprintf("%d servers", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := r.Render(models[i%2]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
