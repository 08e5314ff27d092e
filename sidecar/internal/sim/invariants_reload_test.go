package sim

import (
	"slices"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// checkReload: each has a reason that can be seen, and none comes too soon or
// while too many old workers live.
func (w *world) checkReload(s *sidecar) {
	if s.told {
		w.breach(outlives, "a reload by a sidecar that was told to end")
	}
	if s.clean {
		w.breach(adopts, "HAProxy matches, and is reloaded")
	}
	if s.reloaded > 0 && w.now()-s.reloaded < s.settings.ReloadInterval {
		w.breach(reloadReason, "a reload %s after the one before it, less than %s", w.now()-s.reloaded, s.settings.ReloadInterval)
	}
	if limit := s.settings.MaxOldWorkers; limit > 0 && s.oldHeld >= limit {
		w.breach(reloadReason, "a reload with %d old workers, the limit is %d", s.oldHeld, limit)
	}
	if !s.needed && !w.needsReload(s) {
		w.breach(reloadReason, "a reload for which there is no reason")
	}
}

// needsReload reports whether a sidecar has seen a reason. It is asked at each of
// its looks, most of which show what the one before did.
func (w *world) needsReload(s *sidecar) bool {
	if !s.need.isKnown || s.need.worker != w.proxy.worker {
		s.need = need{isKnown: true, worker: w.proxy.worker, isReload: w.findsReload(s)}
	}
	return s.need.isReload
}

// need is what was found for what a sidecar has seen and was told, and for the
// worker that ran. It is not known where any of that has changed since.
type need struct {
	isKnown  bool
	worker   *worker
	isReload bool
}

func (w *world) findsReload(s *sidecar) bool {
	if s.saw.Marker != s.settings.Renderer.Marker() || s.isAsked() {
		return true
	}
	for _, svc := range s.settings.Services {
		b, exists := s.saw.Backends[svc.Backend]
		if svc.Gone || !exists && isDiscovered(svc) && s.saw.Caps.Backends {
			if exists && !s.saw.Caps.Backends {
				return true
			}
			continue
		}
		if runs := w.proxy.worker; !exists && (runs == nil || runs.pid != s.saw.PID || runs.backends[svc.Backend] == nil) {
			return true // else it could have looked
		}
		slots := svc.ForceSlots || !s.saw.Caps.Dynamic || w.set.refuses[svc.Backend]
		told := s.given.Service(svc.Name)
		if slices.ContainsFunc(b.Servers, func(x plan.Server) bool { return needsWeight(svc, x, told) }) {
			return true
		}
		for _, i := range wants(svc, told) {
			// One that has no server waits for a slot.
			if isShared(told, i.Addr) || !slices.ContainsFunc(b.Servers, func(x plan.Server) bool { return canServe(x, i, slots) }) {
				return true
			}
		}
	}
	return false
}

// canServe reports whether a server is the instance's, or can become it. Where
// there are slots, one of its name that was elsewhere must be out and empty.
func canServe(x plan.Server, i *catalog.Instance, slots bool) bool {
	switch {
	case x.Backup != i.Backup:
		return false
	case x.Addr == i.Addr && x.Admin == plan.Ready && (isSlot(x.Name) || x.Name == i.Server):
		return true
	}
	return x.Name == i.Server && (!slots || x.Addr == i.Addr || x.Admin == plan.Maint && x.Sessions == 0)
}
