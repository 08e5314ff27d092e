package daemon

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
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
	read  func(ctx context.Context, backend string) (haproxy.BackendCounters, error)
	turn  chan struct{}
	known map[string]countersThen // by backend; whose turn it is may use it
}

type countersThen struct {
	at time.Time
	haproxy.BackendCounters
}

// of returns those of a backend; they are not to be changed.
func (c *countersReader) of(ctx context.Context, backend string) (haproxy.BackendCounters, error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return haproxy.BackendCounters{}, context.Cause(ctx)
	}
	defer func() { <-c.turn }()
	maps.DeleteFunc(c.known, func(_ string, k countersThen) bool { return time.Since(k.at) >= countersAge })
	if k, isYoung := c.known[backend]; isYoung {
		return k.BackendCounters, nil
	}
	counters, err := c.read(ctx, backend)
	if err == nil {
		c.known[backend] = countersThen{time.Now(), counters}
	}
	return counters, err
}

// countersOf reads HAProxy's counters of a service's instances. HAProxy knows servers;
// whose they are, the state tells.
func countersOf(state func() *reconcile.State, read func(ctx context.Context, backend string) (haproxy.BackendCounters, error)) api.Counters {
	c := &countersReader{read: read, turn: make(chan struct{}, 1), known: map[string]countersThen{}}
	return func(ctx context.Context, service string) (sidecarapi.Counters, bool, error) {
		all, isKnown := sidecarapi.Counters{Instances: []sidecarapi.InstanceCounters{}, Answers: []sidecarapi.Answers{}}, false
		for _, s := range state().Services {
			if s.Name != service || IsPreview(&s) {
				continue
			}
			isKnown = true
			counted, err := c.of(ctx, s.Backend)
			if err != nil {
				return sidecarapi.Counters{}, true, err
			}
			a := counted.Answers
			all.Answers = append(all.Answers, sidecarapi.Answers{
				Backend: s.Backend, Requests: a.Requests, Status4xx: a.Status4xx, Status5xx: a.Status5xx,
				Service4xx: a.Service4xx, Service5xx: a.Service5xx, NoServer: a.NoServer, Broken: a.Broken, Denied: a.Denied,
			})
			for _, i := range s.Instances {
				c, isThere := counted.Servers[i.Server]
				if i.ID == "" || !isThere {
					continue
				}
				all.Instances = append(all.Instances, sidecarapi.InstanceCounters{
					Instance: i.ID, Node: i.Node, Backend: s.Backend, Server: i.Server, Version: i.Version, Up: i.Phase == reconcile.PhaseUp,
					Requests: c.Requests, Errors: c.Errors, Retries: c.Retries, Weight: c.Weight, SlowStart: c.SlowStart,
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
	maxReadings    = 200_000 // instances of all of them together
	membersTimeout = time.Second
)

// countersGatherer reads the counters of a service's instances on all load balancers:
// this one's own, and those of the sidecars in Consul that answer.
type countersGatherer struct {
	name    string // of this one
	own     api.Counters
	members func(ctx context.Context) ([]fleet.Member, error)
	ask     func(ctx context.Context, m fleet.Member, service string) (sidecarapi.Counters, error)

	mu    sync.Mutex
	known []fleet.Member // as Consul listed them last
}

// allCounters gathers those of some versions of a service.
func allCounters(name string, own api.Counters, all *sidecars) func(ctx context.Context, service string, versions ...string) []sidecarapi.Counters {
	g := &countersGatherer{name: name, own: own, members: all.members, ask: func(ctx context.Context, m fleet.Member, service string) (answer sidecarapi.Counters, err error) {
		err = all.ask(m, func(c *sidecarapi.Client, to sidecarapi.Target) (err error) {
			answer, err = c.Counters(ctx, to, service)
			return err
		})
		return answer, err
	}}
	return g.gather
}

func (g *countersGatherer) gather(ctx context.Context, service string, versions ...string) []sidecarapi.Counters {
	members := g.listed(ctx)
	room := maxReadings
	var mu sync.Mutex
	var out []sidecarapi.Counters
	take := func(c sidecarapi.Counters) {
		var compared []sidecarapi.InstanceCounters // a copy, so that the rest is freed
		for _, i := range c.Instances {
			if slices.Contains(versions, i.Version) {
				compared = append(compared, i)
			}
		}
		c.Instances = compared
		mu.Lock()
		defer mu.Unlock()
		if len(c.Instances) <= room {
			room -= len(c.Instances)
			out = append(out, c)
		}
	}
	if own, isKnown, err := g.own(ctx, service); err == nil && isKnown {
		own.LoadBalancer, own.Service = g.name, service
		take(own)
	}
	var group errgroup.Group
	group.SetLimit(countersAtOnce)
	for _, m := range members {
		if m.Name == g.name || m.Problem != "" || !m.Stopped.IsZero() {
			continue
		}
		group.Go(func() error {
			if answer, err := g.ask(ctx, m, service); err == nil {
				take(answer)
			}
			return nil
		})
	}
	_ = group.Wait() // none fails: one that does not answer is left out
	return out
}

// listed returns the sidecars in Consul. While it does not answer, those that it listed
// last are asked: their answers need most of the time.
func (g *countersGatherer) listed(ctx context.Context) []fleet.Member {
	ctx, cancel := context.WithTimeout(ctx, membersTimeout)
	defer cancel()
	members, err := g.members(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil {
		g.known = members[:min(len(members), maxBalancers)]
	}
	return g.known
}
