package registrator

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"
)

// restoredAgain is how long the same change by another is not logged again: two
// processes may replace each other's registration without end.
const restoredAgain = time.Minute

// missing is what differs where the catalog has nothing.
const missing = "all of it"

// exclusive finds what is under an ID that no other process may hold. Only the
// watchdog's goroutine uses it.
type exclusive struct {
	r *Registration

	shown bool   // the catalog has had it as it is registered
	other string // what the catalog had otherwise before that, in the last look

	last   string // the change that was logged last
	logged time.Time
}

// changed returns what is not as the process has registered it, and where; "" for
// nothing. Consul lets all who may write the service change it at the agent and,
// with another answer for those who ask, in the catalog alone.
func (e *exclusive) changed(ctx context.Context, atAgent *api.AgentService) (what string, now *api.AgentService) {
	if field := e.r.differs(atAgent); field != "" {
		return field + " at the agent", atAgent
	}
	node := e.r.seen.agentsNode()
	if node == "" {
		return "", atAgent // any node's entry could be another agent's
	}
	entries, _, err := e.r.health.Service(e.r.config.Service, "", false,
		(&api.QueryOptions{Filter: isID("Service.ID", e.r.config.ID)}).WithContext(ctx))
	if err != nil {
		return "", atAgent // unknown is not changed
	}
	now, what = atAgent, missing
	for _, s := range entries {
		if s != nil && s.Node != nil && s.Service != nil && s.Service.ID == e.r.config.ID && s.Node.Node == node {
			now, what = s.Service, e.r.differs(s.Service)
		}
	}
	if !e.isChange(what) {
		return "", atAgent
	}
	return what + " in the catalog", now
}

// isChange reports whether another has changed what the catalog has. The agent
// brings a registration there after a moment: until it has, none may be there, or
// an earlier run's, which counts once two looks have found it.
func (e *exclusive) isChange(what string) bool {
	before := e.other
	e.other = what
	if what == "" {
		e.shown = true
		return false
	}
	return e.shown || what == before && what != missing
}

// isNews reports whether a change is to be logged.
func (e *exclusive) isNews(what string) bool {
	if what == e.last && time.Since(e.logged) < restoredAgain {
		return false
	}
	e.last, e.logged = what, time.Now()
	return true
}

// differs names what a registration says otherwise than this process's, or "".
func (r *Registration) differs(s *api.AgentService) string {
	c := r.config
	weights := c.Weights
	if weights == (api.AgentWeights{}) {
		weights = api.AgentWeights{Passing: 1, Warning: 1}
	}
	switch {
	case s.Service != c.Service || s.Kind != api.ServiceKindTypical:
		return "the service"
	case !r.isHere(s):
		return "the address"
	case !maps.Equal(s.Meta, r.meta(time.Time{})):
		return "the meta"
	case !slices.Equal(s.Tags, c.Tags):
		return "the tags"
	case s.Weights != weights:
		return "the weights"
	}
	return ""
}
