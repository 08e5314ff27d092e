package render_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/sidecar/internal/route"
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

// BenchmarkRender_OneOf1000Services renders haproxy.cfg after a change of one service.
func BenchmarkRender_OneOf1000Services(b *testing.B) {
	s := settings()
	one := s.Services[0]
	one.Bind, s.Services = nil, nil
	var models [2][]plan.FileBackend
	for i := range 1000 {
		svc := one
		svc.Name = fmt.Sprintf("svc-%d", i)
		svc.Backend = svc.Name
		s.Services = append(s.Services, svc)
		var servers []plan.FileServer
		for k := range 10 {
			servers = append(servers, plan.FileServer{
				Name: fmt.Sprintf("svc-%d-%d", i, k), Weight: 1,
				Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(k)}), 4000),
			})
		}
		models[0] = append(models[0], plan.FileBackend{Service: svc.Name, Backend: svc.Backend, Known: true, Servers: servers})
	}
	models[1] = slices.Clone(models[0])
	models[1][500].Servers = models[0][500].Servers[1:]
	r, err := render.New("haproxy.cfg.tmpl", templates.HAProxy, s)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := r.Render(models[i%2]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNew makes a Renderer for discovered services of one profile, with ten routes each.
func BenchmarkNew(b *testing.B) {
	for _, n := range []int{10, 1000} {
		s := settings()
		profile := s.Services[0]
		profile.Name, profile.Backend, profile.Bind, profile.Defaults = "", "", nil, "pointsman.profile.default"
		s.Profiles, s.Services, s.MapPath = []render.Service{profile}, nil, "/etc/haproxy/haproxy.cfg"
		f := render.Frontend{Name: "web", Bind: []string{"127.0.0.1:8080"}, Mode: "http", LoadBalancer: "lb0"}
		for i := range n {
			svc := profile
			svc.Name = fmt.Sprintf("svc-%d", i)
			svc.Backend = svc.Name
			s.Services = append(s.Services, svc)
			for k := range 10 {
				f.Routes = append(f.Routes, route.Route{Host: fmt.Sprintf("svc%d-%d.example.com", i, k), Path: "/path", Backend: svc.Backend})
			}
		}
		s.Frontends = []render.Frontend{f}
		b.Run(fmt.Sprintf("%d services", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := render.New("haproxy.cfg.tmpl", templates.HAProxy, s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
