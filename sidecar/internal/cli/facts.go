package cli

import (
	"github.com/pointsman/pointsman/sidecar/internal/agent"
	"github.com/pointsman/pointsman/sidecar/internal/status"
)

// facts answers the long polls out of the agent's state.
type facts struct{ *agent.State }

func watch(a *agent.Agent) status.Watch {
	return func() (status.Facts, <-chan struct{}) {
		s, newer := a.Watch()
		return facts{s}, newer
	}
}

func (f facts) service(name string) (agent.ServiceState, bool) {
	for _, s := range f.Services {
		if s.Name == name {
			return s, true
		}
	}
	return agent.ServiceState{}, false
}

// Index is Consul's, of the answer that the state was made from.
func (f facts) Index(service string) uint64 {
	s, _ := f.service(service)
	return s.Index
}

// Drain tells of one instance by its Consul ID.
func (f facts) Drain(service, instance string) (status.Drain, bool) {
	d, routed := f.State.Drain(service, instance)
	return status.Drain{Drained: d.Drained, Phase: string(d.Phase), Sessions: d.Sessions}, routed
}

// Live counts what takes traffic now.
func (f facts) Live(service, version string) (count int, routed bool) {
	s, routed := f.service(service)
	for _, i := range s.Instances {
		if i.ID != "" && i.Phase == agent.PhaseUp && i.Weight > 0 && !i.Leaving && (version == "" || i.Version == version) {
			count++
		}
	}
	return count, routed || !f.Converged
}
