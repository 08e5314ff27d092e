package reconcile

import (
	"slices"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Drain is what is left of an instance's traffic on this load balancer.
type Drain struct {
	Drained  bool // no session on it in any worker, and no new one possible
	Phase    Phase
	Sessions int
}

// Drain tells of an instance by its Consul ID. routed is false for a service
// that this load balancer does not route.
//
// It claims nothing before HAProxy was seen to run all that Consul says: an
// instance that is not there yet may still come. Nor does it while HAProxy
// can't be read: it may serve all the same. One that has stopped serves no client,
// and gets whom the file names when it comes back. That holds for one that is
// reloaded too, so the file that has it must have been there before HAProxy was
// last read.
//
// A service may have several backends. The instance is drained when it is so in all
// of them; the phase is that of one where it is not, if there is one.
func (s *State) Drain(service, instance string) (d Drain, routed bool) {
	for _, svc := range s.Services {
		switch {
		case svc.Name != service:
			continue
		case !s.Converged:
			return Drain{}, true
		}
		in := s.drainIn(svc, instance)
		if !routed {
			d, routed = in, true
			continue
		}
		if d.Phase == "" || d.Drained && in.Phase != "" {
			d.Phase = in.Phase
		}
		d.Drained, d.Sessions = d.Drained && in.Drained, d.Sessions+in.Sessions
	}
	if !routed && s.gone[service] { // it is drained with the backend
		return Drain{Phase: PhaseDraining}, true
	}
	return d, routed || !s.Converged
}

// drainIn tells of an instance in one backend.
func (s *State) drainIn(svc ServiceState, instance string) Drain {
	d := s.look(svc, instance)
	if d.Phase == "" || d.Phase == PhaseUnknown || svc.isElsewhere(instance) {
		// No server is at its address, and sessions in the workers of before a
		// reload are counted by the addresses of servers.
		noOld := s.HAProxy.OldWorkers == 0 && !s.HAProxy.OldWorkersUnknown
		d.Drained = d.Drained && (noOld || s.empty[[2]string{svc.Backend, instance}])
	}
	return d
}

// look tells what is to be seen of an instance.
func (s *State) look(svc ServiceState, instance string) (d Drain) {
	d.Drained = svc.Known && !svc.filePending && (s.HAProxy.Running || s.HAProxy.Stopped && s.File.Current)
	svc.drain(instance, &d)
	return d
}

// isElsewhere reports whether HAProxy has the instance's server at another
// address than Consul has the instance.
func (s ServiceState) isElsewhere(instance string) bool {
	return slices.ContainsFunc(s.Instances, func(i InstanceState) bool { return i.ID == instance && i.MovesTo != "" })
}

// drain looks at every server by which a request may come to the instance: its
// own, and others at its address. Where Consul lists no such instance, what it
// does not list may be the instance's.
func (s ServiceState) drain(instance string, d *Drain) {
	at := map[string]bool{}
	for _, i := range s.Instances {
		if i.ID != instance {
			continue
		}
		at[i.Addr] = true
		if i.MovesTo != "" {
			at[i.MovesTo] = true
		}
	}
	for _, i := range s.Instances {
		switch {
		case i.ID == instance, i.ID == "" && !i.Own && len(at) == 0 && catalog.MayBeNamed(i.Server, instance):
			d.Phase = i.Phase
			d.Sessions += i.Sessions
			d.Drained = d.Drained && i.isDrained()
		case at[i.Addr]:
			d.Sessions += i.Sessions
			d.Drained = d.Drained && i.isDrained()
		}
	}
	d.Drained = d.Drained && d.Sessions == 0
}

// isDrained reports whether no new session is possible by this entry.
func (i InstanceState) isDrained() bool {
	if i.Agent == plan.AgentOn.String() || i.Agent == plan.AgentBusy.String() {
		return false // an answer of its agent could make it ready
	}
	switch i.Phase {
	case PhaseOut:
		return true
	case PhaseDrained:
		// A client that sticks to it may still come, until it is in maint. That
		// follows, unless it is a maintenance that an operator will end.
		return !i.Leaving && i.ID != ""
	case PhaseUnknown:
		// HAProxy has no server for it; unless it leaves, it will have.
		return i.Leaving
	case PhaseStarting, PhaseUp, PhaseDown, PhaseDraining:
	}
	return false
}
