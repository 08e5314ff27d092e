package sim

import (
	"net/netip"
	"slices"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// checkFile judges what is to become the file: an HAProxy that starts from it
// gets servers that Consul knows, or knew, and loses none.
func (w *world) checkFile(s *sidecar, text []byte) {
	c := w.disk.known[string(text)]
	if was, _ := w.disk.on(); s.clean && !w.filesAlike(was, c) {
		w.breach(adopts, "the file and HAProxy match, and another one is written")
	}
	for _, f := range c.backends {
		if f.Service == "" {
			continue
		}
		in := map[netip.AddrPort]bool{}
		for _, srv := range f.Servers {
			if srv.Disabled {
				continue
			}
			in[srv.Addr] = true
			if !w.said[place{f.Service, srv.Addr}] {
				w.breach(fileAgrees, "the file has %s/%s@%s, where Consul never had an instance", f.Backend, srv.Name, srv.Addr)
			}
		}
		if s.given.Service(f.Service).Known {
			w.checkFileLoss(s, f, in)
			continue
		}
		for _, srv := range s.saw.Backends[f.Backend].Servers {
			if s.saw.Running && !s.unplanned[f.Backend] && available(srv) && srv.Addr != freeAddr && !in[srv.Addr] {
				w.breach(unknownIsNotEmpty, "the file loses %s/%s@%s though nothing is known of the service", f.Backend, srv.Name, srv.Addr)
			}
		}
		w.checkNotEmptied(s, f, in)
	}
}

// checkFileLoss: what HAProxy ran before it ended is not lost unannounced from the
// file that it will start with, not a large part at once.
func (w *world) checkFileLoss(s *sidecar, f plan.FileBackend, in map[netip.AddrPort]bool) {
	svc, told := w.service(f.Service), s.given.Service(f.Service)
	if w.proxy.running || !s.away {
		return
	}
	lost := 0
	for _, srv := range s.filed[f.Backend] {
		if s.heardLeaving[place{f.Service, srv.Addr}] || !isSlot(srv.Name) && s.leftAs[[2]string{f.Service, srv.Name}] {
			continue // it has moved before it left, maybe
		}
		if o, has := owner(srv, told); !in[srv.Addr] && (!has || o.Addr == srv.Addr) && !hasMoved(srv, f) {
			lost++
		}
	}
	stay := 0 // servers, of which two may be at one address
	for _, srv := range f.Servers {
		if !srv.Disabled {
			stay++
		}
	}
	if lost > 1 && float64(lost) > svc.MaxLossRatio*float64(lost+stay) || lost > 0 && stay < svc.MinServers {
		w.breach(makeBeforeBreak, "the file loses %d servers of %s, which HAProxy ran when it ended, and has %d", lost, f.Backend, stay)
	}
}

// hasMoved reports whether the file has a server's instance at another address: it
// moved, and may be gone by now as far as the sidecar was told.
func hasMoved(srv plan.Server, f plan.FileBackend) bool {
	return !isSlot(srv.Name) && slices.ContainsFunc(f.Servers, func(x plan.FileServer) bool {
		return x.Name == srv.Name && x.Addr != srv.Addr && !x.Disabled
	})
}

// checkNotEmptied: while HAProxy does not run and Consul does not answer, what
// the file has is all there is.
func (w *world) checkNotEmptied(s *sidecar, f plan.FileBackend, in map[netip.AddrPort]bool) {
	was, ok := w.disk.on()
	if s.saw.Running || !ok || w.disk.foreign {
		return
	}
	for _, old := range was.backends {
		for _, srv := range old.Servers {
			if old.Backend == f.Backend && !srv.Disabled && srv.Weight > 0 && srv.Addr != freeAddr && !in[srv.Addr] {
				w.breach(unknownIsNotEmpty, "the file loses %s/%s@%s, nothing is known of the service and HAProxy does not run", f.Backend, srv.Name, srv.Addr)
			}
		}
	}
}
