package sim

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// invariant is one of those in section 3 of the design, by its number there.
type invariant string

const (
	unknownIsNotEmpty invariant = "1 unknown is not empty"
	makeBeforeBreak   invariant = "2 make before break"
	leaveOrder        invariant = "3 order of leaving"
	readBack          invariant = "4 applied means read back"
	fileAgrees        invariant = "5 file and runtime agree"
	adopts            invariant = "6 adopt"
	outlives          invariant = "7 the data plane outlives us"
	reloadReason      invariant = "9 every reload has a reason"
	noHesitation      invariant = "10 no shared hesitation"
	noSpinning        invariant = "11 it waits between its looks"
	followsShares     invariant = "12 weights follow the rollout"
	zeroFailures      invariant = "0 no request fails by us"
	convergence       invariant = "0 convergence"
)

// The checks judge the sidecar by what it knew: what Consul had told it, and
// what HAProxy had shown it and taken from it. Where another program changed
// HAProxy after that, it could not have known.

// wants returns the instances of a service that should take traffic, as the
// sidecar was told.
func wants(svc plan.Service, told catalog.Service) (in []*catalog.Instance) {
	for n := range told.Instances {
		if i := &told.Instances[n]; takesTraffic(svc, *i) {
			in = append(in, i)
		}
	}
	return in
}

func takesTraffic(svc plan.Service, i catalog.Instance) bool {
	return i.Leaving.IsZero() && (i.Health == catalog.Passing || i.Health == catalog.Warning && svc.Warning)
}

// announced reports whether the instance was meant to go.
func announced(i catalog.Instance) bool {
	return !i.Leaving.IsZero() || i.Health == catalog.Maintenance
}

// isAnnounced reports whether the instance of a server was meant to go. Of
// two that are registered at a slot's address, either may be the one.
func isAnnounced(s plan.Server, o catalog.Instance, told catalog.Service) bool {
	return announced(o) || isSlot(s.Name) && isAnnouncedAt(told, s.Addr)
}

// freeAddr is the address of a slot that no instance has.
var freeAddr = netip.MustParseAddrPort("127.0.0.1:9")

func isSlot(name string) bool { return strings.HasPrefix(name, catalog.SlotPrefix) }

func available(s plan.Server) bool {
	return s.Up && s.Admin == plan.Ready && s.Weight > 0 && s.Addr != freeAddr
}

func countAvailable(servers []plan.Server) (n int) {
	for _, s := range servers {
		if available(s) {
			n++
		}
	}
	return n
}

// owner returns the instance that a server is for, among those that the sidecar
// was told of: by its name, a slot by its address.
func owner(s plan.Server, told catalog.Service) (catalog.Instance, bool) {
	for n := range told.Instances {
		if i := &told.Instances[n]; i.Server == s.Name || i.Addr == s.Addr && i.Backup == s.Backup && isSlot(s.Name) {
			return *i, true
		}
	}
	return catalog.Instance{}, false
}

// isReplaced reports whether another server takes traffic at the server's
// address: its instance has become a backup, or is none any more, or another is
// registered there by now. No capacity is lost with the server. The one of an
// instance that leaves would only keep it from being called drained.
func isReplaced(s plan.Server, svc plan.Service, told catalog.Service, servers []plan.Server) bool {
	leaves := slices.ContainsFunc(told.Instances, func(i catalog.Instance) bool { return announced(i) && (i.Addr == s.Addr || i.Server == s.Name) })
	return leaves || slices.ContainsFunc(servers, func(x plan.Server) bool {
		o, has := owner(x, told)
		return has && takesTraffic(svc, o) && x.Addr == s.Addr && x.Name != s.Name && available(x)
	})
}

// isShared reports whether several are registered at an address. It is not for
// these checks to tell which of them a server is for.
func isShared(told catalog.Service, at netip.AddrPort) bool {
	n := 0
	for i := range told.Instances {
		if told.Instances[i].Addr == at {
			n++
		}
	}
	return n > 1
}

// takesOut reports whether a step ends a server's traffic.
func takesOut(st plan.Step) bool {
	return st.Kind == plan.SetDrain || st.Kind == plan.SetMaint || st.Kind == plan.Delete || st.Kind == plan.SetWeight && st.Weight == 0
}

// adds reports whether a step begins one's.
func adds(st plan.Step) bool {
	return st.Kind == plan.Add || st.Kind == plan.SetAddr || st.Kind == plan.SetReady
}

// checkBatch judges the steps that go out together.
func (w *world) checkBatch(s *sidecar, steps []plan.Step) {
	if s.clean && len(steps) > 0 {
		w.breach(adopts, "HAProxy matches, and the sidecar sends %d steps, first %s %s/%s (%s)", len(steps), steps[0].Kind, steps[0].Backend, steps[0].Server, steps[0].Reason)
	}
	removal := slices.IndexFunc(steps, func(st plan.Step) bool {
		return takesOut(st) && slices.ContainsFunc(s.saw.Backends[st.Backend].Servers, func(x plan.Server) bool { return x.Name == st.Server && available(x) })
	})
	for i, st := range steps {
		if removal >= 0 && i > removal && adds(st) {
			w.breach(makeBeforeBreak, "%s %s/%s comes after %s %s/%s", st.Kind, st.Backend, st.Server, steps[removal].Kind, steps[removal].Backend, steps[removal].Server)
		}
	}
	for _, svc := range w.set.services {
		if !s.isHidden(svc) {
			w.checkMassLoss(s, svc, steps)
		}
	}
}

// checkMassLoss: a large part is not lost unannounced at once.
func (w *world) checkMassLoss(s *sidecar, svc plan.Service, steps []plan.Step) {
	servers, told := s.saw.Backends[svc.Backend].Servers, s.given.Service(svc.Name)
	lost, had := 0, countAvailable(servers)
	for _, st := range steps {
		if st.Backend != svc.Backend || !takesOut(st) {
			continue
		}
		i := slices.IndexFunc(servers, func(x plan.Server) bool { return x.Name == st.Server })
		if i < 0 || !available(servers[i]) {
			continue
		}
		if st.Reason == plan.Moved && staysAt(servers[i], servers, steps) {
			continue // several instances have registered that address
		}
		if isGone(st) && isListed(s.given, svc.Name, servers[i].Addr) {
			continue // it is another service's by now
		}
		if o, has := owner(servers[i], told); (!has || !isAnnounced(servers[i], o, told) && !takesTraffic(svc, o)) && !isReplaced(servers[i], svc, told, servers) {
			lost++
		}
	}
	if svc.Hold > 0 {
		return // they may have been held all this time
	}
	if lost > 1 && float64(lost) > svc.MaxLossRatio*float64(had) {
		w.breach(makeBeforeBreak, "%d of %d servers of %s, lost unannounced, are taken out at once", lost, had, svc.Backend)
	}
}

// isGone reports whether a step is for a server that Consul does not list, perhaps
// where a foreign program has moved it to.
func isGone(st plan.Step) bool {
	return st.Reason == plan.Deregistered || st.Reason == plan.Drift && st.Instance == ""
}

// isListed reports whether another service has an instance at the address.
func isListed(snap catalog.Snapshot, but string, at netip.AddrPort) bool {
	return slices.ContainsFunc(snap.Services(), func(o catalog.Service) bool {
		return o.Name != but && slices.ContainsFunc(o.Instances, func(i catalog.Instance) bool { return i.Addr == at })
	})
}

// staysAt reports whether another server at the same address goes on to serve.
func staysAt(srv plan.Server, servers []plan.Server, steps []plan.Step) bool {
	return slices.ContainsFunc(servers, func(x plan.Server) bool {
		goes := slices.ContainsFunc(steps, func(st plan.Step) bool { return st.Server == x.Name && takesOut(st) })
		return x.Name != srv.Name && x.Addr == srv.Addr && available(x) && !goes
	})
}

// checkStep judges one step, just before HAProxy takes it.
func (w *world) checkStep(s *sidecar, st plan.Step) {
	if s.told {
		w.breach(outlives, "%s %s/%s is sent by a sidecar that was told to end", st.Kind, st.Backend, st.Server)
	}
	svc, told := w.service(w.serviceOf(st.Backend)), s.given.Service(w.serviceOf(st.Backend))
	if isWhole(st.Kind) {
		w.checkWhole(s, svc, st)
		return
	}
	servers := s.saw.Backends[st.Backend].Servers
	i := slices.IndexFunc(servers, func(x plan.Server) bool { return x.Name == st.Server })
	if !told.Known && !s.isHidden(svc) && st.Kind != plan.EnableHealth && st.Kind != plan.DisableAgent {
		w.breach(unknownIsNotEmpty, "%s %s/%s though nothing is known of the service", st.Kind, st.Backend, st.Server)
		return
	}
	if w.set.rollouts {
		w.checkWeight(s, told, st)
	}
	if st.Kind == plan.Add {
		w.checkAddress(svc, told, st, st.Addr)
		return
	}
	if i < 0 {
		return
	}
	seen := servers[i]
	switch {
	case takesOut(st):
		if !s.isHidden(svc) {
			w.checkTakenOut(s, svc, told, st, seen)
		}
		w.checkOrder(s, svc, told, st, seen)
	case st.Kind == plan.Shutdown && !s.isHidden(svc):
		w.checkShutdown(s, svc, told, st, seen)
	case st.Kind == plan.SetAddr:
		w.checkAddress(svc, told, st, st.Addr)
		w.checkMove(s, st, seen)
	case st.Kind == plan.SetReady:
		w.checkAddress(svc, told, st, seen.Addr)
		w.checkTrueAddress(s, svc, told, st)
	}
}

// checkAddress: traffic is let in only where Consul says that an instance is.
func (w *world) checkAddress(svc plan.Service, told catalog.Service, st plan.Step, at netip.AddrPort) {
	for _, i := range wants(svc, told) {
		if i.Addr == at && (isSlot(st.Server) || i.Server == st.Server) {
			return
		}
	}
	w.breach(leaveOrder, "%s %s/%s at %s, where Consul has no such instance that takes traffic", st.Kind, st.Backend, st.Server, at)
}

// checkShutdown: sessions are ended on a server that leaves, and has been in
// maint for as long as they may last.
func (w *world) checkShutdown(s *sidecar, svc plan.Service, told catalog.Service, st plan.Step, seen plan.Server) {
	o, has := owner(seen, told)
	if has && o.Leaving.IsZero() && o.Backup == seen.Backup && o.Addr == seen.Addr && !isShared(told, seen.Addr) {
		w.breach(leaveOrder, "shutdown %s/%s, whose instance does not leave", st.Backend, st.Server)
	}
	runs := w.proxy.find(st.Backend, st.Server)
	if runs == nil || w.unseen(s, runs) {
		return
	}
	if since := w.now() - runs.changed; runs.Admin != plan.Maint || since < svc.SessionKillAfter {
		w.breach(leaveOrder, "shutdown %s/%s, %s for %s", st.Backend, st.Server, runs.Admin, since)
	}
}

// checkTrueAddress: what the sidecar takes for a server's address is HAProxy's.
func (w *world) checkTrueAddress(s *sidecar, svc plan.Service, told catalog.Service, st plan.Step) {
	runs := w.proxy.find(st.Backend, st.Server)
	if runs == nil || w.unseen(s, runs) {
		return
	}
	at := runs.Addr
	if runs.pending.IsValid() {
		at = runs.pending
	}
	w.checkAddress(svc, told, st, at)
}

// unseen reports whether an operator has changed HAProxy, or this server of it,
// since the sidecar has looked.
func (w *world) unseen(s *sidecar, runs *server) bool {
	return w.proxy.pid != s.saw.PID || max(runs.foreign, runs.answered) > 0 && max(runs.foreign, runs.answered) >= s.sawAt[runs]
}

// checkTakenOut: no instance is taken out that Consul wants where it is, and never
// the last one.
func (w *world) checkTakenOut(s *sidecar, svc plan.Service, told catalog.Service, st plan.Step, seen plan.Server) {
	servers := s.saw.Backends[st.Backend].Servers
	in := wants(svc, told)
	for _, i := range in {
		if isShared(told, seen.Addr) || i.Addr != seen.Addr || i.Backup != seen.Backup || i.Server != seen.Name && !isSlot(seen.Name) || st.Kind == plan.SetWeight && i.Weight == 0 {
			continue
		}
		elsewhere := slices.ContainsFunc(servers, func(x plan.Server) bool {
			return x.Name != seen.Name && x.Addr == seen.Addr && x.Backup == seen.Backup && (isSlot(x.Name) || x.Name == i.Server)
		})
		if !elsewhere {
			w.breach(unknownIsNotEmpty, "%s %s/%s@%s (%s), which Consul wants there", st.Kind, st.Backend, st.Server, seen.Addr, st.Reason)
		}
	}
	if !available(seen) || isShared(told, seen.Addr) {
		return
	}
	o, has := owner(seen, told)
	left := countAvailable(servers) - 1
	switch {
	case has && st.Reason == plan.Drift && (announced(o) || takesTraffic(svc, o)):
		// An operator has pointed it elsewhere, so it does no good where it is.
	case has && (announced(o) || isAnnouncedAt(told, seen.Addr)): // also by the name of one that has moved away
		if left == 0 && s.coming(svc, in, servers) {
			w.breach(makeBeforeBreak, "%s %s/%s (%s): no server is left, and replacements are coming", st.Kind, st.Backend, st.Server, st.Reason)
		}
	case isGone(st) && isListed(s.given, svc.Name, seen.Addr):
		// Requests would go to another service.
	case has && takesTraffic(svc, o) && o.Weight > 0 && st.Kind != plan.SetWeight: // it moves
		if left == 0 {
			w.breach(makeBeforeBreak, "%s %s/%s (%s): no server is left while it moves", st.Kind, st.Backend, st.Server, st.Reason)
		}
	case left < svc.MinServers && !isReplaced(seen, svc, told, servers):
		w.breach(makeBeforeBreak, "%s %s/%s (%s): %d are left, the minimum is %d", st.Kind, st.Backend, st.Server, st.Reason, left, svc.MinServers)
	}
}

// isAnnouncedAt reports whether an instance at an address was meant to go.
func isAnnouncedAt(told catalog.Service, at netip.AddrPort) bool {
	return slices.ContainsFunc(told.Instances, func(i catalog.Instance) bool { return i.Addr == at && announced(i) })
}

// coming reports whether an instance that should take traffic does not yet,
// and may soon.
func (s *sidecar) coming(svc plan.Service, in []*catalog.Instance, servers []plan.Server) bool {
	for _, i := range in {
		soon := i.Weight > 0 && !s.ill[i.ID] && !s.isOverdue(svc, i)
		for _, x := range servers {
			if x.Name == i.Server && x.Admin != plan.Ready && x.Agent == plan.AgentOn {
				soon = false // its agent keeps it out, also where someone has moved it
			}
			if x.Addr != i.Addr || x.Name != i.Server && !isSlot(x.Name) {
				continue
			}
			if available(x) || x.Admin != plan.Ready && x.Agent == plan.AgentOn || x.Admin == plan.Ready && x.SinceChange >= max(svc.ReplacementTimeout, time.Second)-time.Second {
				soon = false
			}
		}
		if soon {
			return true
		}
	}
	return false
}

// checkOrder: drain, no session left or the time over, maint, delete.
func (w *world) checkOrder(s *sidecar, svc plan.Service, told catalog.Service, st plan.Step, seen plan.Server) {
	o, has := owner(seen, told)
	orderly := !has || announced(o)
	if st.Kind == plan.SetMaint && seen.Admin == plan.Ready && orderly {
		w.breach(leaveOrder, "maint %s/%s (%s) before drain", st.Backend, st.Server, st.Reason)
	}
	runs := w.proxy.find(st.Backend, st.Server)
	if runs == nil || w.unseen(s, runs) {
		return
	}
	open := len(runs.sessions) + w.proxy.oldSessions(st.Backend, runs.Addr)
	if open == 0 {
		return
	}
	switch {
	case st.Kind == plan.Delete:
		w.breach(leaveOrder, "delete %s/%s with %d sessions", st.Backend, st.Server, open)
	case st.Kind == plan.SetMaint && orderly && w.now()-runs.routed < svc.DrainTimeout-time.Second:
		w.breach(leaveOrder, "maint %s/%s with %d sessions, %s after its last request", st.Backend, st.Server, open, w.now()-runs.routed)
	}
}

// checkMove: never another address before maint, and none of a slot with
// sessions.
func (w *world) checkMove(s *sidecar, st plan.Step, seen plan.Server) {
	if seen.Admin != plan.Maint {
		alone := available(seen) && countAvailable(s.saw.Backends[st.Backend].Servers) == 1
		if !alone || isSlot(st.Server) || !w.proxy.dynamic && !w.unseenProxy(s) {
			w.breach(leaveOrder, "addr %s/%s while it is %s", st.Backend, st.Server, seen.Admin)
		}
	}
	runs := w.proxy.find(st.Backend, st.Server)
	if runs == nil || w.unseen(s, runs) {
		return
	}
	if open := len(runs.sessions); open > 0 && (isSlot(st.Server) || !w.proxy.dynamic) {
		w.breach(leaveOrder, "addr %s/%s with %d sessions", st.Backend, st.Server, open)
	}
}

func (w *world) unseenProxy(s *sidecar) bool { return w.proxy.pid != s.saw.PID }

// checkRoutes: no request may go where a node was that has left in order.
func (w *world) checkRoutes() {
	if len(w.left) == 0 || !w.proxy.running {
		return
	}
	for _, svc := range w.set.services {
		for _, s := range w.proxy.routable(svc.Backend) {
			if _, left := w.left[place{svc.Name, s.Addr}]; left && s.foreign == 0 {
				w.breach(zeroFailures, "a request may go to %s/%s@%s, where the node has left in order", svc.Backend, s.Name, s.Addr)
				return
			}
		}
	}
}
