package plan

import (
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// isRuntime reports whether HAProxy can add and delete the backend as it runs
// (docs/haproxy-facts.md, fact 41).
func (b *backendPlan) isRuntime() bool {
	return b.running && b.backends && b.Defaults != "" && b.refused == ""
}

// isMissing reports whether a reload has to bring the backend, or to have requests routed
// to it.
func (b *backendPlan) isMissing() bool {
	return !b.Gone && !b.isRuntime() && (!b.exists || b.unpublished && b.refused != "")
}

// isLeft reports whether a reload has to take the backend.
func (b *backendPlan) isLeft() bool { return b.Gone && b.exists && !b.isRuntime() }

// reloadCauses is the backends that a reload has to bring or to take.
func reloadCauses(o Observed, decisions []*Decision) (causes []ReloadCause) {
	for _, x := range decisions {
		if x.b.isMissing() || x.b.isLeft() {
			causes = append(causes, ReloadCause{x.b.Backend, x.b.whyReload(o.Caps)})
		}
	}
	return causes
}

// whyReload is why the backend is not added or deleted at runtime.
func (b *backendPlan) whyReload(caps Capabilities) string {
	switch {
	case b.Defaults == "" && b.ByReload == "":
		return "it is a service of the settings"
	case !caps.Backends:
		return "HAProxy " + caps.Version + " adds no backends at runtime, 3.4 and newer do"
	case b.refused != "":
		return b.refused
	}
	return b.ByReload
}

// leaveWhole makes the plan of a backend that is to go: there is no instance, and
// nothing to guard.
func (b *backendPlan) leaveWhole() {
	b.want = catalog.Service{Name: b.want.Name, Known: true}
	b.guard, b.MinServers, b.MaxLossRatio = Guard{}, 0, 1
	b.slots, b.adds = false, true
}

// whole takes the steps of the backend itself that come before those of its servers, and
// reports whether these have to wait.
func (b *backendPlan) whole() (waits bool) {
	switch {
	case !b.exists && b.Gone:
		return true
	case !b.exists:
		if b.isRuntime() { // else the file brings it
			b.additions = append(b.additions, Step{Kind: AddBackend, Reason: Registered, Backend: b.Backend, Defaults: b.Defaults, Mode: b.Mode})
		}
		return true
	case !b.Gone:
		return false
	case !b.isRuntime(): // the file takes it
		return true
	case !b.unpublished:
		b.removals = append(b.removals, Step{Kind: UnpublishBackend, Reason: Deregistered, Backend: b.Backend})
		return true
	case len(b.servers) == 0:
		b.removals = append(b.removals, Step{Kind: DeleteBackend, Reason: Deregistered, Backend: b.Backend})
		return true
	}
	return false
}

// publish lets requests be routed to a backend once one of its servers is up, or one has
// had its time: then it is to be seen that the service fails. Until then they go where they
// go without it.
func (b *backendPlan) publish() {
	if b.unpublished && !b.Gone && b.refused == "" && (slices.ContainsFunc(b.servers, func(s Server) bool { return isAvailable(&s) }) || b.hasHadItsTime()) {
		b.additions = append(b.additions, Step{Kind: PublishBackend, Reason: Registered, Backend: b.Backend})
	}
}

// hasHadItsTime reports whether an instance that should take traffic could have been up by
// now.
func (b *backendPlan) hasHadItsTime() bool {
	since := map[*catalog.Instance]time.Duration{}
	for i := range b.servers {
		if s := &b.servers[i]; b.bound[i] != nil && s.Admin == Ready {
			since[b.bound[i]] = s.SinceChange
		}
	}
	for n := range b.want.Instances {
		inst := &b.want.Instances[n]
		down, isReady := since[inst]
		if b.role(inst) == in && inst.Weight > 0 && (isReady && down >= b.ReplacementTimeout || !isReady && b.isOverdue(inst)) {
			return true
		}
	}
	return false
}
