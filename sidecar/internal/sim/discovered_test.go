package sim

import (
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// A service that is discovered in Consul has a backend for as long as it has instances, and
// a while longer. Since 3.4 HAProxy adds and deletes it as it runs.

const discoveredDefaults = "pointsman.profile.web"

func isDiscovered(svc plan.Service) bool { return svc.Defaults != "" }

// drawDiscovered makes the second service one of some histories.
func (s *scenario) drawDiscovered(n int) {
	if len(s.services) < 2 || n > 0 {
		return
	}
	svc := &s.services[1]
	svc.Defaults, svc.Mode = discoveredDefaults, "http"
	svc.ForceSlots, svc.Static = false, false
	if hasWord(svc.Options, "namespace") {
		svc.Options = "check"
	}
	delete(s.refuses, svc.Backend)
}

// discovers decides, some time after Consul's answer, whether the service is in the
// sidecar's settings.
func (s *sidecar) discovers(svc plan.Service) {
	if !isDiscovered(svc) {
		return
	}
	hasInstances := func() bool { return len(s.view.snap.Service(svc.Name).Instances) > 0 }
	wait, has := 50*time.Millisecond, hasInstances()
	if !has {
		wait = 3 * time.Second // the grace time
	}
	if has != s.hidden {
		return
	}
	s.w.after(wait, func() {
		if s.dead || s.told || s.ended || hasInstances() != has || s.hidden != has {
			return
		}
		s.hidden, s.hiddenAt = !has, s.w.now()
		s.w.note("sidecar: %s is in the settings: %v", svc.Name, has)
		s.settings, s.need, s.clean = s.w.set.settings(s.w, s.hidden), need{}, false
		set := s.settings
		set.Automatic = true
		s.w.disturb()
		s.agent.Reconfigure(set)
	})
}

// startsHidden reports whether a sidecar that starts takes the discovered service for one
// that has gone: it goes by the file, or, where another program has written that, by what it
// will hear.
func (w *world) startsHidden() bool {
	i := slices.IndexFunc(w.set.services, isDiscovered)
	if i < 0 {
		return false
	}
	if svc := w.set.services[i]; w.disk.foreign {
		return !w.isWanted(svc)
	}
	c, _ := w.disk.on()
	return !slices.ContainsFunc(c.backends, func(b plan.FileBackend) bool { return b.Backend == w.set.services[i].Backend })
}

// isHidden reports whether the settings of the sidecar do not have a service, or did not a
// moment ago: its loop may be in a call.
func (s *sidecar) isHidden(svc plan.Service) bool {
	return isDiscovered(svc) && (s.hidden || s.hiddenAt > 0 && s.w.now()-s.hiddenAt < calm)
}

// isWanted reports whether HAProxy is to have the service's backend in the end.
func (w *world) isWanted(svc plan.Service) bool {
	return !isDiscovered(svc) || len(w.consul.services[svc.Name]) > 0
}

// gone gives the services, with those that are discovered as gone: HAProxy may still have
// their backend.
func gone(services []plan.Service) []plan.Service {
	services = slices.Clone(services)
	for i := range services {
		services[i].Gone = isDiscovered(services[i])
	}
	return services
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
	case plan.AddBackend:
		if !told.Known {
			w.breach(unknownIsNotEmpty, "%s %s though nothing is known of the service", st.Kind, st.Backend)
		}
	case plan.PublishBackend:
		if countAvailable(b.Servers) == 0 && s.coming(svc, wants(svc, told), b.Servers) {
			w.breach(makeBeforeBreak, "%s %s, and its first server is still coming", st.Kind, st.Backend)
		}
	}
}
