package reconcile

import (
	"context"
	"errors"
	"slices"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// ErrNotRouted says that this load balancer has no such service.
var ErrNotRouted = errors.New("service not routed by this load balancer")

// release is an operator's order to release what the guard holds of a service, or
// of a backend.
type release struct {
	name   string
	answer chan<- released // room for one
}

type released struct {
	servers []string
	err     error
}

// Release releases what the guard holds now of a service, in all its backends, or
// of one backend. It gives the servers as BACKEND/SERVER, sorted; none may be held.
// Later losses are evaluated again. It waits for the loop, or until ctx ends.
func (a *Agent) Release(ctx context.Context, name string) ([]string, error) {
	answer := make(chan released, 1)
	select {
	case a.releases <- release{name, answer}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	r := <-answer // the loop has taken it, and does nothing else before
	return r.servers, r.err
}

func (a *Agent) doRelease(r release) {
	isIts := func(s plan.Service) bool { return s.Name == r.name }
	if !slices.ContainsFunc(a.set.Services, isIts) {
		isIts = func(s plan.Service) bool { return s.Backend == r.name }
	}
	answer := released{err: ErrNotRouted}
	for _, s := range a.set.Services {
		if !isIts(s) {
			continue
		}
		servers := a.guard.release(s.Backend)
		if len(servers) > 0 {
			a.log.Warn("guard released", "service", s.Name, "backend", s.Backend, "servers", len(servers))
		}
		if answer.err != nil {
			answer = released{servers: []string{}}
		}
		for _, server := range servers {
			answer.servers = append(answer.servers, s.Backend+"/"+server)
		}
	}
	slices.Sort(answer.servers)
	r.answer <- answer
}

// noteHolds logs where the guard begins to hold servers, where it holds more,
// and where it holds none any more.
func (a *Agent) noteHolds() {
	now := map[string]int{}
	for _, s := range a.set.Services {
		servers, _ := a.guard.held(s.Backend)
		n, was := len(servers), a.guard.told[s.Backend]
		switch {
		case n > was:
			a.log.Warn("mass removal blocked", "service", s.Name, "backend", s.Backend, "held", n)
		case n == 0 && was > 0:
			a.log.Info("guard holds no servers", "service", s.Name, "backend", s.Backend)
		}
		if n > 0 {
			now[s.Backend] = n
		}
	}
	a.guard.told = now
}
