package reconcile

import (
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// noteEmpty logs a service that has no instance, once: its name may be wrong. Those
// that are left out are logged by themselves. A preview backend is empty nearly always.
func (a *Agent) noteEmpty(svc plan.Service, want catalog.Service) {
	if !want.Known || want.Rollout != nil && want.Rollout.State == catalog.InPreview {
		return
	}
	isEmpty := len(want.Instances)+len(want.Rejected) == 0
	if isEmpty && !a.empty[svc.Backend] {
		a.log.Warn("service has no instance", "service", svc.Name, "backend", svc.Backend)
	}
	a.empty[svc.Backend] = isEmpty
}
