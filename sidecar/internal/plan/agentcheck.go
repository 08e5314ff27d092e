package plan

import (
	"cmp"
	"slices"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// An agent check sets the weight and the administrative state of its server at
// any time, also of one in maint (seen on 2.6 to 3.4). So a server that is to stay out of traffic has it disabled, and in one that is to
// take traffic the agent's drain and maint are no drift.

// hasAgent reports whether new servers of the service have an agent check.
func (s Service) hasAgent() bool { return slices.Contains(words(s.Options), "agent-check") }

// NoAgentPort is where the agent of a server asks whose instance names no port:
// nothing listens on the discard port, and HAProxy takes no answer for no news.
const NoAgentPort = 9

// agentPort is where the agent of an instance's server asks; 0 where that is the
// same for all.
func (s Service) agentPort(inst *catalog.Instance) int {
	if !s.AgentFromMeta || !s.hasAgent() {
		return 0
	}
	return cmp.Or(inst.AgentPort, NoAgentPort)
}

// asksElsewhere reports whether the server's agent asks at another port than the
// instance names.
func (b *backendPlan) asksElsewhere(s *Server, inst *catalog.Instance) bool {
	want := b.agentPort(inst)
	return want != 0 && s.AgentPort != want
}

// filedAgentPort is the port on a server's line of the file.
func (s Service) filedAgentPort(port int) int {
	if !s.AgentFromMeta || port == NoAgentPort {
		return 0
	}
	return port
}

// agentDecides reports whether it is its agent that keeps a server out of
// traffic, and neither an earlier step nor the file.
func (b *backendPlan) agentDecides(s *Server) bool {
	if s.Agent != AgentOn || s.Admin == Ready {
		return false
	}
	if left, seen := b.leftAs(s.Name); seen {
		return !left.Disabled && left.Weight > 0
	}
	return !s.FileDisabled || s.Admin == Drain // the file has no word for drain
}

// silence disables the agent of a server that is to stay out of traffic. One that
// is still in traffic keeps its agent until the step that takes it out.
func (b *backendPlan) silence(c candidate) {
	if c.server.Agent == AgentOn && c.server.Admin != Ready {
		b.removals = append(b.removals, b.step(DisableAgent, OutOfTraffic, c.server, c.instance))
	}
}

// silenceDisabled disables the agents of the servers that the file has disabled,
// where it is not known what they are for: a new worker asks their agents, and a
// sidecar before this one had them out of traffic.
func (b *backendPlan) silenceDisabled() {
	for i := range b.servers {
		if s := &b.servers[i]; s.FileDisabled && s.Admin == Maint {
			b.silence(candidate{server: s})
		}
	}
}
