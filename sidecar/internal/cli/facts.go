package cli

import (
	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// facts answers the long polls out of the agent's state.
type facts struct{ *reconcile.State }

func watch(a *reconcile.Agent) api.Watch {
	return func() (api.Facts, <-chan struct{}) {
		s, newer := a.Watch()
		return facts{s}, newer
	}
}

// Index is Consul's, of the answer that the state was made from: of the oldest, where
// the service has several backends.
func (f facts) Index(service string) (index uint64) {
	known := false
	for _, s := range f.Services {
		if s.Name == service && (!known || s.Index < index) {
			index, known = s.Index, true
		}
	}
	return index
}

// Drain tells of one instance by its Consul ID.
func (f facts) Drain(service, instance string) (api.Drain, bool) {
	d, routed := f.State.Drain(service, instance)
	return api.Drain{Drained: d.Drained, Phase: string(d.Phase), Sessions: d.Sessions}, routed
}

// Live counts what takes traffic now, in each backend that has it.
func (f facts) Live(service, version string) (count int, routed bool) {
	live := map[[2]string]bool{}
	for _, s := range f.Services {
		if s.Name != service {
			continue
		}
		routed = true
		for _, i := range s.Instances {
			if i.ID == "" || version != "" && i.Version != version {
				continue
			}
			key := [2]string{i.ID, i.Node}
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
