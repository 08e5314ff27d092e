package daemon

import (
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// JudgedState is the body of /api/v1/state: what the agent knows, and how the
// load balancer does.
type JudgedState struct {
	*reconcile.State
	Verdict reconcile.Verdict `json:"verdict"`

	Certificates        []CertificateState   `json:"certificates,omitempty"`
	CertificateProblems []CertificateProblem `json:"certificate_problems,omitempty"`

	Actions       []ActionState   `json:"actions,omitempty"`        // of the API
	RouteProblems []route.Problem `json:"route_problems,omitempty"` // claims of services that are not followed

	// FixedShares is why a service can have no other shares of a rollout than 0 and 100.
	FixedShares map[string]string `json:"fixed_shares,omitempty"`

	Pausable []string `json:"pausable,omitempty"` // services that can be paused, sorted

	Rollouts []OneRollout `json:"-"` // from /api/v1/rollouts, for the tree
}

// Judged is a state with its verdict.
func Judged(s *reconcile.State) JudgedState { return JudgedState{State: s, Verdict: verdictOf(s)} }

// HeadOf is the judged state without its services, and these.
func HeadOf(s *reconcile.State) (JudgedState, []reconcile.ServiceState) {
	head := *s
	head.Services = []reconcile.ServiceState{}
	return JudgedState{State: &head, Verdict: verdictOf(s)}, s.Services
}

// completed adds what the loop does not know.
func (d *Daemon) completed(s JudgedState) JudgedState {
	s.Certificates, s.CertificateProblems = d.certificates.state()
	s.Actions = (*d.actions.Load())(s.State)
	s.RouteProblems, s.FixedShares = *d.finder.problems.Load(), d.catalog.Fixed()
	s.Pausable = d.pausableServices()
	return s
}
