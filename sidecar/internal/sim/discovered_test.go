package sim

import (
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// A service that is discovered in Consul has a backend for as long as its instances claim
// a route, and a while longer. Since 3.4 HAProxy adds and deletes it as it runs.

// isHidden reports whether the settings of the sidecar do not have a service, or did not a
// moment ago: its loop may be in a call.
func (s *sidecar) isHidden(svc plan.Service) bool {
	return isDiscovered(svc) && (s.hidden || s.hiddenAt > 0 && s.w.now()-s.hiddenAt < calm)
}

// with returns the services. One that is discovered is not listed while it was not found. One
// that was found before has gone, once Consul has said what is claimed: HAProxy may still have
// its backend.
func (s scenario) with(found route.Found, unheard route.Unheard) []plan.Service {
	services := slices.Clone(s.services)
	has := func(of []route.FoundService, svc plan.Service) bool {
		return slices.ContainsFunc(of, func(f route.FoundService) bool { return f.Name == svc.Name })
	}
	for i := range services {
		services[i].Gone = !unheard.Has(services[i].Name) && has(found.Gone, services[i]) && !has(found.Services, services[i])
	}
	return slices.DeleteFunc(services, func(svc plan.Service) bool {
		return isDiscovered(svc) && !svc.Gone && !has(found.Services, svc)
	})
}

const (
	errUsed      reply = "name is already used by other proxy"
	errPublished reply = "Backend must be unpublished prior to its deletion."
	errServers   reply = "Only a backend without server can be deleted."
	errCommand   reply = "Unknown command."
)

// isWhole reports whether a step is one of a whole backend.
func isWhole(k plan.Kind) bool {
	return k == plan.AddBackend || k == plan.PublishBackend || k == plan.UnpublishBackend || k == plan.DeleteBackend
}

// doWhole takes one.
func (p *proxy) doWhole(st plan.Step) error {
	b := p.worker.backends[st.Backend]
	switch {
	case !p.version().Backends:
		return errCommand
	case st.Kind == plan.AddBackend && b != nil:
		return errUsed
	case st.Kind != plan.AddBackend && b == nil:
		return errNoBackend
	case st.Kind == plan.DeleteBackend && !b.unpublished:
		return errPublished
	case st.Kind == plan.DeleteBackend && len(b.servers) > 0:
		return errServers
	}
	switch st.Kind {
	case plan.AddBackend:
		p.worker.backends[st.Backend] = &backend{name: st.Backend, unpublished: true}
		p.worker.names = append(p.worker.names, st.Backend)
		slices.Sort(p.worker.names)
	case plan.DeleteBackend:
		delete(p.worker.backends, st.Backend)
		p.worker.names = slices.DeleteFunc(p.worker.names, func(n string) bool { return n == st.Backend })
	default:
		b.unpublished = st.Kind == plan.UnpublishBackend
	}
	return nil
}

// didWhole changes what the sidecar has seen by what it has done.
func (l link) didWhole(st plan.Step) {
	b := l.saw.Backends[st.Backend]
	switch st.Kind {
	case plan.AddBackend:
		b = plan.Backend{Unpublished: true}
	case plan.DeleteBackend:
		delete(l.saw.Backends, st.Backend)
		return
	default:
		b.Unpublished = st.Kind == plan.UnpublishBackend
	}
	l.saw.Backends[st.Backend] = b
}

// checkWhole: a backend comes with the service and goes without it, and gets requests when
// one of its servers can take them, if one may come.
func (w *world) checkWhole(s *sidecar, svc plan.Service, st plan.Step) {
	b, told := s.saw.Backends[st.Backend], s.given.Service(svc.Name)
	switch st.Kind {
	case plan.UnpublishBackend, plan.DeleteBackend:
		if !s.isHidden(svc) {
			w.breach(unknownIsNotEmpty, "%s %s, which the settings have", st.Kind, st.Backend)
		}
		if w.proxy.worker.leadsTo(st.Backend) && s.passed >= s.hiddenAt && w.now()-s.failed > calm {
			w.breach(zeroFailures, "%s %s, to which a route leads", st.Kind, st.Backend)
		}
	case plan.AddBackend:
		if !told.Known {
			w.breach(unknownIsNotEmpty, "%s %s though nothing is known of the service", st.Kind, st.Backend)
		}
	case plan.PublishBackend:
		in := wants(svc, told)
		if countAvailable(b.Servers) == 0 && s.coming(svc, in, b.Servers) && !s.hadItsTime(svc, in, b.Servers) {
			w.breach(makeBeforeBreak, "%s %s, and its first server is still coming", st.Kind, st.Backend)
		}
	}
}

// hadItsTime reports whether one of the instances could have been up by now: the others are
// not waited for then.
func (s *sidecar) hadItsTime(svc plan.Service, in []*catalog.Instance, servers []plan.Server) bool {
	return slices.ContainsFunc(in, func(i *catalog.Instance) bool {
		return s.isOverdue(svc, i) || slices.ContainsFunc(servers, func(x plan.Server) bool {
			return x.Name == i.Server && x.Admin == plan.Ready && x.SinceChange >= svc.ReplacementTimeout-time.Second
		})
	})
}
