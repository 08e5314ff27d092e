package cli

import (
	"github.com/pointsman/pointsman/sidecar/internal/agent"
	"github.com/pointsman/pointsman/sidecar/internal/metrics"
)

// recorder tells the metrics what the agent does.
type recorder struct{ *metrics.Recorder }

var _ agent.Recorder = recorder{}

// State counts the servers by phase.
func (r recorder) State(s *agent.State) {
	out := metrics.State{Ready: s.Ready, Running: s.HAProxy.Running, Maintenance: s.HAProxy.Maintenance, LeftOut: len(s.File.LeftOut), Services: make([]metrics.Service, 0, len(s.Services))}
	if s.Consul.Snapshot != nil {
		out.SnapshotWritten = s.Consul.Snapshot.Written
	}
	for _, svc := range s.Services {
		m := metrics.Service{Name: svc.Name, Servers: map[string]int{}, Rejected: len(svc.Rejected), Held: len(svc.Guard.Held), Saved: !svc.Saved.IsZero()}
		for _, i := range svc.Instances {
			m.Servers[string(i.Phase)]++
			if !i.DampedUntil.IsZero() {
				m.Damped++
			}
		}
		out.Services = append(out.Services, m)
	}
	r.Update(out)
	r.OldWorkers(s.HAProxy.OldWorkers, s.HAProxy.OldWorkersMemory)
}
