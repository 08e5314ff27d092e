package registrator

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/hashicorp/consul/api"
)

// seen is what the agent last said of the checks. It may be used by any number of
// goroutines.
type seen struct {
	mu       sync.Mutex
	critical map[string]bool // by the check's ID
	node     string          // the agent's; "" where no check was seen
}

// look asks the agent. Where it cannot tell, what was seen before stands.
func (s *seen) look(ctx context.Context, agent *api.Agent, service string) {
	_, info, err := agent.AgentHealthServiceByIDOpts(service, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil || info == nil {
		return // info is nil where it has forgotten the service just now
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.critical = make(map[string]bool)
	for _, c := range info.Checks {
		s.node = c.Node
		if c.Status == api.HealthCritical {
			s.critical[c.CheckID] = true
		}
	}
}

// isCritical reports whether a check was.
func (s *seen) isCritical(check string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.critical[check]
}

// agentsNode is the name of the agent's node, or "" where it is not known.
func (s *seen) agentsNode() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node
}

// names are the checks that were critical, sorted.
func (s *seen) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.critical))
}
