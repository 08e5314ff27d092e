package cli

import "github.com/pointsman/pointsman/sidecar/internal/agent"

// judgedState is the body of /api/v1/state: what the agent knows, and how the
// load balancer does.
type judgedState struct {
	*agent.State
	Verdict agent.Verdict `json:"verdict"`
}

func judged(s *agent.State) judgedState { return judgedState{s, s.Verdict()} }
