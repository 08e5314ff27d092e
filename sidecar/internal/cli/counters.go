package cli

import (
	"context"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/haproxy"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// countersOf reads HAProxy's counters of a service's instances. HAProxy knows servers;
// whose they are, the state tells.
func countersOf(state func() *reconcile.State, read func(ctx context.Context, backend string) (map[string]haproxy.Counters, error)) api.Counters {
	return func(ctx context.Context, service string) ([]api.InstanceCounters, bool, error) {
		all, isKnown := []api.InstanceCounters{}, false
		for _, s := range state().Services {
			if s.Name != service {
				continue
			}
			isKnown = true
			servers, err := read(ctx, s.Backend)
			if err != nil {
				return nil, true, err
			}
			for _, i := range s.Instances {
				c, isThere := servers[i.Server]
				if i.ID == "" || !isThere {
					continue
				}
				all = append(all, api.InstanceCounters{
					Instance: i.ID, Node: i.Node, Backend: s.Backend, Version: i.Version, Up: i.Phase == reconcile.PhaseUp,
					Requests: c.Requests, Errors: c.Errors, Retries: c.Retries,
					ResponseTimeMS: float64(c.ResponseTime) / float64(time.Millisecond),
				})
			}
		}
		return all, isKnown, nil
	}
}
