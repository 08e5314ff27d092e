package cli

import (
	"context"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/fleet"
	"github.com/pointsman/pointsman/sidecar/internal/haproxy"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// countersAge is for how long HAProxy's counters are given without asking it again.
const countersAge = time.Second

// countersReader asks HAProxy for one backend at a time, and not again while its answer is
// young: its runtime socket takes few connections, and the loop needs one.
type countersReader struct {
	read  func(ctx context.Context, backend string) (map[string]haproxy.Counters, error)
	turn  chan struct{}
	known map[string]countersThen // by backend; whose turn it is may use it
}

type countersThen struct {
	at      time.Time
	servers map[string]haproxy.Counters
}

// of gives those of a backend's servers; they are not to be changed.
func (c *countersReader) of(ctx context.Context, backend string) (map[string]haproxy.Counters, error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-c.turn }()
	maps.DeleteFunc(c.known, func(_ string, k countersThen) bool { return time.Since(k.at) >= countersAge })
	if k, isYoung := c.known[backend]; isYoung {
		return k.servers, nil
	}
	servers, err := c.read(ctx, backend)
	if err == nil {
		c.known[backend] = countersThen{time.Now(), servers}
	}
	return servers, err
}

// countersOf reads HAProxy's counters of a service's instances. HAProxy knows servers;
// whose they are, the state tells.
func countersOf(state func() *reconcile.State, read func(ctx context.Context, backend string) (map[string]haproxy.Counters, error)) api.Counters {
	c := &countersReader{read: read, turn: make(chan struct{}, 1), known: map[string]countersThen{}}
	return func(ctx context.Context, service string) ([]api.InstanceCounters, bool, error) {
		all, isKnown := []api.InstanceCounters{}, false
		for _, s := range state().Services {
			if s.Name != service {
				continue
			}
			isKnown = true
			servers, err := c.of(ctx, s.Backend)
			if err != nil {
				return nil, true, err
			}
			for _, i := range s.Instances {
				c, isThere := servers[i.Server]
				if i.ID == "" || !isThere {
					continue
				}
				all = append(all, api.InstanceCounters{
					Instance: i.ID, Node: i.Node, Backend: s.Backend, Server: i.Server, Version: i.Version, Up: i.Phase == reconcile.PhaseUp,
					Requests: c.Requests, Errors: c.Errors, Retries: c.Retries,
					ResponseTimeMS: float64(c.ResponseTime) / float64(time.Millisecond),
				})
			}
		}
		return all, isKnown, nil
	}
}

// The bounds of one look at the counters of all load balancers.
const (
	countersAtOnce = 8
	maxBalancers   = 256
)

// allCounters reads the counters of a service's instances on all load balancers: this
// one's own, and those of the sidecars in Consul that answer. While Consul does not,
// those that it listed last are asked.
func allCounters(name string, own api.Counters, all *sidecars) func(context.Context, string) []api.ServiceCounters {
	var mu sync.Mutex
	var known []fleet.Member
	return func(ctx context.Context, service string) (out []api.ServiceCounters) {
		members, err := all.members(ctx)
		mu.Lock()
		if err == nil {
			known = members[:min(len(members), maxBalancers)]
		}
		members = known
		mu.Unlock()
		if instances, isKnown, err := own(ctx, service); err == nil && isKnown {
			out = append(out, api.ServiceCounters{LoadBalancer: name, Service: service, Instances: instances})
		}
		var group errgroup.Group
		group.SetLimit(countersAtOnce)
		for _, m := range members {
			if m.Name == name || m.Problem != "" || !m.Stopped.IsZero() {
				continue
			}
			group.Go(func() error {
				var answer api.ServiceCounters
				err := all.ask(m, func(c *api.Client, to api.Target) (err error) {
					answer, err = c.Counters(ctx, to, service)
					return err
				})
				if err == nil {
					mu.Lock()
					defer mu.Unlock()
					out = append(out, answer)
				}
				return nil
			})
		}
		_ = group.Wait() // none fails: one that does not answer is left out
		return out
	}
}
