package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// The bounds of one look at all load balancers.
const (
	askTimeout  = 2 * time.Second // for Consul, and for each sidecar
	lookTimeout = 10 * time.Second
	atOnce      = 64
	maxMembers  = 256
	// maxAll bounds the summaries of all others, in bytes of memory: a registration
	// costs nothing.
	maxAll = 20 << 20
	// fresh is how long a look is used for all who ask.
	fresh = time.Second
)

// Member is a sidecar in Consul.
type Member struct {
	Name    string // the load balancer's
	URL     string // of its API
	Problem string // why it cannot be asked; "" if it can
	Stopped time.Time
}

// Gatherer asks all sidecars on request. It keeps no goroutine of its own.
type Gatherer struct {
	Name    string                                          // of this load balancer, which is not asked
	Own     func() Summary                                  // its summary
	Members func(context.Context) ([]Member, error)         // the sidecars that Consul lists
	Ask     func(context.Context, Member) (*Summary, error) // one of them

	mu    sync.Mutex
	last  Fleet
	known []Member             // when Consul last answered
	since map[string]time.Time // since when a load balancer differs
}

// Gather asks every sidecar, or gives what was found less than a second ago. While
// Consul does not answer, those that it listed last are asked: unknown is not gone.
func (g *Gatherer) Gather(ctx context.Context) Fleet {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.last.At) < fresh {
		return g.last
	}
	// Others get the same answer, also if this client goes.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	failed := g.list(ctx)
	f := Fleet{By: g.Name, LoadBalancers: g.ask(ctx)}
	f.At = time.Now()
	if g.since == nil {
		g.since = map[string]time.Time{}
	}
	f.judge(g.since)
	if failed != nil {
		f.add(reconcile.Degraded, fmt.Sprintf("Consul query failed, showing the %d load balancers known before: %v", len(f.LoadBalancers), failed))
	}
	g.last = f
	return f
}

// list asks Consul for the sidecars.
func (g *Gatherer) list(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	members, err := g.Members(ctx)
	if err == nil {
		g.known = members
	}
	return err
}

func (g *Gatherer) ask(ctx context.Context) []LoadBalancer {
	own := g.Own()
	all := []LoadBalancer{{Name: g.Name, Reached: true, Summary: &own}}
	for _, m := range g.known {
		if m.Name != g.Name {
			all = append(all, LoadBalancer{Name: m.Name, URL: m.URL, Error: m.Problem, Stopped: m.Stopped})
		}
	}
	if n := len(all) - maxMembers; n > 0 {
		all = append(all[:maxMembers], LoadBalancer{Name: "others", Error: fmt.Sprintf("%d more are registered than the %d that are asked", n, maxMembers)})
	}
	var taken atomic.Int64 // of maxAll
	group := errgroup.Group{}
	group.SetLimit(atOnce)
	for i := range all {
		lb := &all[i]
		if lb.Reached || lb.Error != "" || !lb.Stopped.IsZero() {
			continue
		}
		group.Go(func() error {
			begun := time.Now()
			ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("no answer within %v", askTimeout))
			defer cancel()
			s, err := g.Ask(ctx, Member{Name: lb.Name, URL: lb.URL})
			if err == nil && s.LoadBalancer != lb.Name {
				err = errors.New("another load balancer answers there")
			}
			if err == nil && taken.Add(int64(s.size())) > maxAll {
				err = fmt.Errorf("the summaries of all load balancers take more than %d MB", maxAll>>20)
			}
			if err != nil {
				lb.Error = err.Error()
				return nil
			}
			lb.Reached, lb.Summary = true, s
			lb.TookMS = float64(time.Since(begun).Microseconds()) / 1000 // of no use else, but to a scan of ports
			return nil
		})
	}
	_ = group.Wait() // none fails: each error is in its load balancer
	slices.SortStableFunc(all, func(a, b LoadBalancer) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
