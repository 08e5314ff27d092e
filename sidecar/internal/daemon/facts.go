package daemon

import (
	"slices"

	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// Facts answers the long polls out of the agent's state.
type Facts struct {
	*reconcile.State
	source     datacenters // nil: every service has the agent's datacenter
	datacenter string      // of the instances that are asked about; "" is the first one of each service
}

// datacenters tells which datacenters the services of backends have, and Consul's index in
// one of them of an answer.
type datacenters interface {
	Index(backend, datacenter string, at uint64) (index uint64, isWatched bool)
	Others(backend string) []string
	OfOthers(backend string) map[[2]string]bool
	IsNamed(backend string) bool
}

func watch(a *reconcile.Agent, source datacenters) api.Watch {
	return func() (api.Facts, <-chan struct{}) {
		s, newer := a.Watch()
		return Facts{State: s, source: source}, newer
	}
}

// In returns the facts about the instances of one datacenter.
func (f Facts) In(datacenter string) api.Facts {
	f.datacenter = datacenter
	return f
}

// Index is Consul's, of the answer that the state was made from: of the oldest, where
// the service has several backends.
func (f Facts) Index(service string) (index uint64) {
	known := false
	for _, s := range f.Services {
		if s.Name != service {
			continue
		}
		at, isWatched := f.index(s)
		if isWatched && (!known || at < index) {
			index, known = at, true
		}
	}
	return index
}

func (f Facts) index(s reconcile.ServiceState) (index uint64, isWatched bool) {
	if f.source == nil {
		return s.Index, f.datacenter == ""
	}
	return f.source.Index(answerOf(&s), f.datacenter, s.Index)
}

// Drain tells of one instance by its Consul ID. Each backend may have another datacenter
// first, and with that another ID for it. A backend whose datacenter is not named may have
// it by its own ID, because which datacenter that is is not known here.
func (f Facts) Drain(service, instance string) (api.Drain, bool) {
	isNamed := func(s reconcile.ServiceState) bool { return s.Name == service }
	if f.datacenter == "" || !slices.ContainsFunc(f.Services, isNamed) {
		return f.drain(f.State, service, instance)
	}
	all := api.Drain{Drained: f.Converged}
	isRouted := !f.Converged
	for _, s := range f.Services {
		if !isNamed(s) {
			continue
		}
		_, isWatched := f.index(s)
		for _, id := range f.idsIn(s, instance, isWatched) {
			one := *f.State
			one.Services = []reconcile.ServiceState{s}
			d, _ := f.drain(&one, service, id)
			if !isWatched && d.Phase == "" {
				continue // nor was it until a moment ago
			}
			isRouted = true
			if all.Phase == "" || all.Drained && d.Phase != "" {
				all.Phase, all.Instance = d.Phase, id
			}
			all.Drained, all.Sessions = all.Drained && d.Drained, all.Sessions+d.Sessions
		}
	}
	return all, isRouted
}

// idsIn returns the IDs under which a backend may have an instance of the datacenter.
func (f Facts) idsIn(s reconcile.ServiceState, instance string, isWatched bool) []string {
	there := consul.IDFrom(f.datacenter, instance)
	switch {
	case !isWatched && f.source != nil && !f.source.IsNamed(answerOf(&s)):
		return []string{there, instance}
	case !isWatched, f.source != nil && slices.Contains(f.source.Others(answerOf(&s)), f.datacenter):
		return []string{there}
	}
	return []string{instance}
}

func (f Facts) drain(s *reconcile.State, service, instance string) (api.Drain, bool) {
	d, routed := s.Drain(service, instance)
	return api.Drain{Instance: instance, Drained: d.Drained, Phase: string(d.Phase), Sessions: d.Sessions}, routed
}

// Live counts what takes traffic now, in each backend that has it and is no preview.
// Instances of other datacenters than the first take none while those do.
func (f Facts) Live(service, version string) (count int, routed bool) {
	live := map[[2]string]bool{}
	for n := range f.Services {
		s := &f.Services[n]
		if s.Name != service || IsPreview(s) {
			continue
		}
		routed = true
		var ofOthers map[[2]string]bool
		if f.source != nil {
			ofOthers = f.source.OfOthers(s.Backend)
		}
		for _, i := range s.Instances {
			key := [2]string{i.ID, i.Node}
			if i.ID == "" || ofOthers[key] || version != "" && i.Version != version {
				continue
			}
			was, known := live[key]
			live[key] = (was || !known) && i.Phase == reconcile.PhaseUp && i.Weight > 0 && !i.Leaving
		}
	}
	for _, isLive := range live {
		if isLive {
			count++
		}
	}
	return count, routed || !f.Converged
}

// withFirstIndexes returns a state in which a service of several datacenters has the index
// of the first one, with which a deployment there can compare its own.
func withFirstIndexes(s *reconcile.State, source datacenters) *reconcile.State {
	isClone := false
	for i, service := range s.Services {
		index, _ := source.Index(answerOf(&service), "", service.Index)
		if index == service.Index {
			continue
		}
		if !isClone {
			clone := *s
			clone.Services, isClone = slices.Clone(s.Services), true
			s = &clone
		}
		s.Services[i].Index = index
	}
	return s
}
