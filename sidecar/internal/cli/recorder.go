package cli

import (
	"github.com/pointsman/pointsman/sidecar/internal/agent"
	"github.com/pointsman/pointsman/sidecar/internal/metrics"
)

// recorder tells the metrics what the agent does. Its State is called by one
// goroutine.
type recorder struct {
	*metrics.Recorder
	counted map[string]counted // by service
}

var _ agent.Recorder = (*recorder)(nil)

// counted is what the series of a service were last made from.
type counted struct {
	instances      *agent.InstanceState // the first of them: a slice that has changed is another
	n              int
	rejected, held int
	saved          bool
}

// State counts the servers by phase.
func (r *recorder) State(s *agent.State) {
	out := metrics.State{Ready: s.Ready, Running: s.HAProxy.Running, Maintenance: s.HAProxy.Maintenance, LeftOut: len(s.File.LeftOut), Services: make([]metrics.Service, 0, len(s.Services))}
	if s.Consul.Snapshot != nil {
		out.SnapshotWritten = s.Consul.Snapshot.Written
	}
	all := make(map[string]counted, len(s.Services))
	for _, svc := range s.Services {
		c := counted{n: len(svc.Instances), rejected: len(svc.Rejected), held: len(svc.Guard.Held), saved: !svc.Saved.IsZero()}
		if c.n > 0 {
			c.instances = &svc.Instances[0]
		}
		all[svc.Name] = c
		if was, known := r.counted[svc.Name]; known && was == c {
			out.Services = append(out.Services, metrics.Service{Name: svc.Name, IsUnchanged: true})
			continue
		}
		m := metrics.Service{Name: svc.Name, Servers: map[string]int{}, Rejected: c.rejected, Held: c.held, Saved: c.saved}
		for _, i := range svc.Instances {
			m.Servers[string(i.Phase)]++
			if !i.DampedUntil.IsZero() {
				m.Damped++
			}
		}
		out.Services = append(out.Services, m)
	}
	r.counted = all
	r.Update(out)
	r.OldWorkers(s.HAProxy.OldWorkers, s.HAProxy.OldWorkersMemory)
}
