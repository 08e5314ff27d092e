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

// Drain claims nothing before HAProxy was seen to run all that Consul says:
// an instance that is not there yet may still come. Nor does it while HAProxy
// can't be read: it may serve all the same. One that has stopped serves nobody,
// and gets whom the file names when it comes back.
func (f facts) Drain(service, instance string) (status.Drain, bool) {
	s, routed := f.service(service)
	if !routed || !f.Ready {
		return status.Drain{}, routed || !f.Ready
	}
	d := status.Drain{Drained: s.Known && (f.HAProxy.Running || f.HAProxy.Stopped && f.File.Current)}
	for _, i := range s.Instances {
		// One that Consul no longer lists has no ID; its server may have its
		// name.
		if i.ID != instance && (i.ID != "" || i.Server != instance) {
			continue
		}
		d.Phase = string(i.Phase)
		d.Sessions += i.Sessions
		switch i.Phase {
		case agent.PhaseOut:
		case agent.PhaseDrained:
			// A client that sticks to it may still come, until it is in maint. That
			// follows, unless it is a maintenance that an operator will end.
			d.Drained = d.Drained && !i.Leaving && i.ID != ""
		case agent.PhaseUnknown:
			// HAProxy has no server for it; unless it leaves, it will have.
			d.Drained = d.Drained && i.Leaving
		case agent.PhaseStarting, agent.PhaseUp, agent.PhaseDown, agent.PhaseDraining:
			d.Drained = false
		}
	}
	d.Drained = d.Drained && d.Sessions == 0
	return d, true
}

// Live counts what takes traffic now.
func (f facts) Live(service, version string) (count int, routed bool) {
	s, routed := f.service(service)
	for _, i := range s.Instances {
		if i.ID != "" && i.Phase == agent.PhaseUp && i.Weight > 0 && !i.Leaving && (version == "" || i.Version == version) {
			count++
		}
	}
	return count, routed || !f.Ready
}
