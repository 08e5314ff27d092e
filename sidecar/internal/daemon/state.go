package daemon

import (
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
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

// IsPreview reports whether a backend is the preview backend of its service. Its servers
// serve those who ask for them, and no part of the service's other traffic.
func IsPreview(s *reconcile.ServiceState) bool {
	return s.Rollout != nil && s.Rollout.State == rollout.Preview
}

// answerOf is the backend of which Consul's answer tells a backend's instances.
func answerOf(s *reconcile.ServiceState) string {
	if IsPreview(s) {
		return strings.TrimSuffix(s.Backend, config.PreviewSuffix)
	}
	return s.Backend
}

// verdictOf judges a state. That a preview has no server is nothing to look at: nearly
// always no version is in preview, and requests go on to the service's own servers.
func verdictOf(s *reconcile.State) reconcile.Verdict {
	v := s.Verdict()
	previews := map[string]bool{}
	for i := range s.Services {
		if svc := &s.Services[i]; IsPreview(svc) {
			previews[svc.Backend] = true
		}
	}
	if len(previews) == 0 {
		return v
	}
	v.Reasons = slices.DeleteFunc(v.Reasons, func(f reconcile.Finding) bool {
		return previews[f.Backend] && (strings.HasPrefix(f.Text, "no instance: ") || f.Text == "no server takes traffic")
	})
	v.Status = reconcile.InStep
	if len(v.Reasons) > 0 { // the worst comes first
		v.Status = v.Reasons[0].Status
	}
	return v
}
