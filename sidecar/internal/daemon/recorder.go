package daemon

import (
	"github.com/pointsman/pointsman/sidecar/internal/metrics"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// recorder tells the metrics what the agent does. Its State is called by one
// goroutine.
type recorder struct {
	*metrics.Recorder
	invariants *reconcile.InvariantWatch
	counted    map[string]counted // by backend
}

var _ reconcile.Recorder = (*recorder)(nil)

// counted is what the series of a service were last made from.
type counted struct {
	instances              *reconcile.InstanceState // the first of them: a slice that has changed is another
	n                      int
	rejected, beyond, held int
	isPaused               bool
}

// State counts the servers by phase.
func (r *recorder) State(s *reconcile.State) {
	out := metrics.State{Ready: s.Ready, Running: s.HAProxy.Running, Maintenance: s.HAProxy.Maintenance, LeftOut: len(s.File.LeftOut), Behind: s.Behind.Changes, BehindSince: s.Behind.Since, Services: make([]metrics.Service, 0, len(s.Services))}
	all := make(map[string]counted, len(s.Services))
	for _, same := range sameName(s.Services) {
		out.Services = append(out.Services, r.count(same, all))
	}
	r.counted = all
	r.Update(out)
	if r.invariants != nil {
		r.invariants.Look(s)
	}
	r.OldWorkers(s.HAProxy.OldWorkers, s.HAProxy.OldWorkersMemory)
}

// sameName groups services by Name, by which they are sorted: the backends of each.
func sameName(services []reconcile.ServiceState) (groups [][]reconcile.ServiceState) {
	for len(services) > 0 {
		n := 1
		for n < len(services) && services[n].Name == services[0].Name {
			n++
		}
		groups, services = append(groups, services[:n]), services[n:]
	}
	return groups
}

// count adds up the numbers of a service's backends, and notes what they were made
// from.
func (r *recorder) count(backends []reconcile.ServiceState, all map[string]counted) metrics.Service {
	out := metrics.Service{Name: backends[0].Name, Servers: map[string]int{}}
	isUnchanged := true
	for _, svc := range backends {
		c := counted{n: len(svc.Instances), rejected: len(svc.Rejected) - svc.BeyondLimit, beyond: svc.BeyondLimit, held: len(svc.Guard.Held), isPaused: svc.Pause != nil && !svc.Pause.Applied.IsZero()}
		if c.n > 0 {
			c.instances = &svc.Instances[0]
		}
		all[svc.Backend] = c
		was, known := r.counted[svc.Backend]
		isUnchanged = isUnchanged && known && was == c
	}
	if isUnchanged {
		return metrics.Service{Name: out.Name, IsUnchanged: true}
	}
	for _, svc := range backends {
		c := all[svc.Backend]
		out.Beyond += c.beyond
		out.IsPaused = out.IsPaused || c.isPaused
		out.Rejected, out.Held = out.Rejected+c.rejected, out.Held+c.held
		for _, i := range svc.Instances {
			out.Servers[string(i.Phase)]++
			if !i.DampedUntil.IsZero() {
				out.Damped++
			}
		}
	}
	return out
}
