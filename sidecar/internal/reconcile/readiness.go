package reconcile

import (
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// awayGrace is how long HAProxy may not answer before the sidecar is no longer
// ready: it may be restarted, or busy for a moment.
const awayGrace = 5 * time.Second

// readiness reports whether the sidecar has converged and can reach what it
// steers, and if not, why. That Consul is away does not count: HAProxy is kept
// as it is.
func (a *Agent) readiness(p plan.Plan, behind BehindState) (ready bool, why string) {
	isAway := !a.away.IsZero() && time.Since(a.away) >= awayGrace
	switch {
	case a.converged && !isAway && behind.isLate(time.Now()):
		return false, behind.String()
	case a.converged && !isAway:
		return true, ""
	case a.trouble.haproxy != "":
		return false, a.trouble.haproxy
	case slices.ContainsFunc(p.Waiting, func(w plan.Waiting) bool { return w.For == plan.ForConsul }):
		return false, "waiting for Consul's first answer for every service"
	case p.Reload != plan.NoReload:
		return false, "reload pending: " + string(p.Reload)
	}
	return false, "changes pending"
}

// noteAway keeps since when HAProxy can't be read.
func (a *Agent) noteAway(err error) {
	switch {
	case err == nil:
		a.away = time.Time{}
	case a.away.IsZero():
		a.away = time.Now()
	}
}
