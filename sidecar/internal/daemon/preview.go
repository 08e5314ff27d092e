package daemon

import (
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

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
