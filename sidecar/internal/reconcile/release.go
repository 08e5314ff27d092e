package reconcile

import (
	"context"
	"errors"
	"slices"
)

// ErrNotRouted says that this load balancer has no such service.
var ErrNotRouted = errors.New("service not routed by this load balancer")

// release is an operator's order to let go what the guard holds of a service.
type release struct {
	service string
	answer  chan<- released // room for one
}

type released struct {
	servers []string
	err     error
}

// Release lets go what the guard holds of a service now, and gives HAProxy's
// names of the servers, sorted; none may be held. What is lost later is judged
// anew. It waits for the loop to come round, or until ctx ends.
func (a *Agent) Release(ctx context.Context, service string) ([]string, error) {
	answer := make(chan released, 1)
	select {
	case a.releases <- release{service, answer}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	r := <-answer // the loop has taken it, and does nothing else before
	return r.servers, r.err
}

func (a *Agent) letGo(r release) {
	answer := released{err: ErrNotRouted}
	for _, s := range a.set.Services { // each backend of the service
		if s.Name != r.service {
			continue
		}
		servers := a.guard.release(s.Backend)
		a.log.Warn("guard released", "service", s.Name, "backend", s.Backend, "servers", len(servers))
		answer = released{servers: slices.Sorted(slices.Values(append(servers, answer.servers...)))}
	}
	if answer.servers == nil && answer.err == nil {
		answer.servers = []string{}
	}
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
