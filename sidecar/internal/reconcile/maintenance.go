package reconcile

import "github.com/pointsman/pointsman/sidecar/internal/plan"

// recallMaintenance takes from the file how HAProxy is to come back, should it
// not run while the sidecar starts.
func (a *Agent) recallMaintenance() {
	content, err := a.file.Read()
	a.known.observed.Maintenance = err == nil && a.set.Rotation && plan.MaintenanceIn(string(content))
}

// noteMaintenance logs when HAProxy was taken out of rotation, and when it is
// back. Who did is not known: HAProxy does not tell.
func (a *Agent) noteMaintenance() {
	now := a.known.observed.Maintenance
	if now == a.maintenance {
		return
	}
	a.maintenance = now
	if now {
		a.log.Warn("maintenance on, health answer is 503")
		return
	}
	a.log.Info("maintenance off, health answer is 200")
}
