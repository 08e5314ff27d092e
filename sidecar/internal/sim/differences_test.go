package sim

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// differs says what HAProxy runs otherwise than Consul has it, or "".
func (w *world) differs() string {
	if !w.proxy.running {
		return "HAProxy does not run"
	}
	if m := w.disk.renderer.marker; w.proxy.worker.marker != m {
		return fmt.Sprintf("HAProxy runs %s and not %s", w.proxy.worker.marker, m)
	}
	c, _ := w.disk.on()
	if c.marker != w.proxy.worker.marker {
		return "the file is of other settings"
	}
	for _, svc := range w.set.services {
		if d := w.serviceDiffers(svc, c); d != "" {
			return d
		}
	}
	return w.mapsDiffer(c)
}

// rests reports whether a sidecar that starts now has nothing to do: all is as
// Consul has it, no instance is on the way out, and nothing has changed for as long
// that nothing is left to come.
func (w *world) rests() bool {
	if w.now()-w.changed < 3*time.Second+2*w.set.reconcile || !w.consul.up || w.disk.foreign || w.differs() != "" {
		return false
	}
	for _, svc := range w.set.services {
		if _, isValid := w.consul.document(svc.Name); !isValid || w.consul.documents.away {
			return false
		}
		if slices.ContainsFunc(w.told(svc).Instances, announced) || w.holdsMore(svc) {
			return false
		}
		if hasIt := w.proxy.worker.backends[svc.Backend] != nil; isDiscovered(svc) && hasIt != w.hasFound(w.savedFound()) {
			return false // by the file it comes, or goes
		}
	}
	return true
}

// holdsMore reports whether HAProxy runs more than Consul has. The guard may
// hold that, and how much of it the next sidecar holds is not for rests to tell.
func (w *world) holdsMore(svc plan.Service) bool {
	ready := 0
	if w.proxy.worker.backends[svc.Backend] == nil {
		return false
	}
	for _, s := range w.proxy.worker.backends[svc.Backend].servers {
		if s.Admin == plan.Ready {
			ready++
		}
	}
	return ready > len(wants(svc, w.told(svc)))
}

// String returns it as text.
func (r target) String() string {
	return fmt.Sprintf("%s weight %d maxconn %d backup %v", r.addr, r.weight, r.max, r.backup)
}

// target is a server as far as requests are concerned.
type target struct {
	addr   netip.AddrPort
	weight int
	max    int
	backup bool
}

// isListed reports whether a service is one of the settings of the sidecar, or was found as the
// file says. HAProxy keeps the backend of one that came just before a sidecar ended and does not
// come again.
func (w *world) isListed(svc plan.Service) bool {
	is := func(s plan.Service) bool { return s.Name == svc.Name }
	if w.sidecar != nil {
		return slices.ContainsFunc(w.sidecar.settings.Services, is)
	}
	c, _ := w.disk.on()
	return slices.ContainsFunc(w.set.with(c.found, route.Unheard{}.After(nil, true)), is)
}

// listedRun is what HAProxy runs, without the backends that no settings list any more.
func (w *world) listedRun() string {
	is := *w.proxy.worker
	is.names = slices.DeleteFunc(slices.Clone(is.names), func(backend string) bool {
		return slices.ContainsFunc(w.set.services, func(svc plan.Service) bool { return svc.Backend == backend && !w.isWanted(svc) && !w.isListed(svc) })
	})
	return is.String()
}

func (w *world) serviceDiffers(svc plan.Service, c content) string {
	b := w.proxy.worker.backends[svc.Backend]
	switch wanted := w.isWanted(svc); {
	case !wanted && (b == nil || !w.isListed(svc)):
		return ""
	case !wanted:
		return "HAProxy still has " + svc.Backend
	case b != nil && b.unpublished:
		return svc.Backend + " is not published"
	}
	if b == nil {
		return "HAProxy has no " + svc.Backend
	}
	told := w.told(svc)
	var want, got, filed []target // filed: got as the file should have it
	strange, in, noAgent, serve := false, wants(svc, told), "", 0
	for _, i := range in {
		want = append(want, target{i.Addr, i.Weight, i.MaxConn, i.Backup})
	}
	for _, s := range b.servers {
		if o, has := owner(s.Server, told); has && takesTraffic(svc, o) || s.Admin != plan.Ready {
			switch d := agentDiffers(svc, s, o, has); {
			case s.Admin != plan.Ready && d != "":
				return d
			case d != "":
				noAgent = d // unless it is held
			}
		}
		switch {
		case s.pending.IsValid():
			return "an address of " + s.Name + " is on its way"
		case s.turning > 0:
			return "a check of " + s.Name + " is on its way"
		case s.Admin != plan.Ready && len(s.sessions)+w.proxy.oldSessions(svc.Backend, s.Addr) > 0:
			return "sessions are left on " + s.Name
		case s.Admin == plan.Ready:
			if svc.Checked && !s.Checked {
				return s.Name + " is not checked"
			}
			got = append(got, target{s.Addr, s.Weight, s.MaxConn, s.Backup})
			weight := s.Weight
			if weight > 0 {
				serve++
			}
			if w.keepsLow(s) {
				weight = s.ConfigWeight // as Consul has it
				got[len(got)-1].weight = weight
			}
			if s.Agent != plan.NoAgent && weight > 0 {
				weight = s.ConfigWeight // what its agent, or an operator, has made of it is for now
			}
			filed = append(filed, target{s.Addr, weight, s.MaxConn, s.Backup})
			strange = strange || w.isStrange(svc, told, s.Addr) || !isOwned(s.Server, told) && hasNoShare(told, s.Addr)
		case s.Admin == plan.Maint && w.proxy.dynamic && !isSlot(s.Name) && !isOwned(s.Server, told):
			return s.Name + " is left over"
		case s.Admin == plan.Drain && !isAnnouncedAt(told, s.Addr):
			return s.Name + " is in drain without a reason"
		}
	}
	if svc.Hold > 0 && serve > max(w.serving(svc, in), svc.MinServers) {
		return "the guard of " + svc.Name + " still holds servers"
	}
	switch d := targetsDiffer(want, got); {
	case d == "" && noAgent != "":
		return noAgent
	case d != "" && (w.serving(svc, in) >= svc.MinServers && !strange || !w.holdsAll(svc, got, want) || !w.saysHeld(svc)):
		return "Consul and HAProxy differ on " + svc.Name + ": " + d
	}
	if d := targetsDiffer(filed, fileTargets(c, b)); d != "" {
		return "HAProxy and the file differ on " + svc.Name + ": " + d
	}
	return ""
}

// fileTargets is what a file would send requests to, except to the servers that drain.
func fileTargets(c content, b *backend) (out []target) {
	for _, f := range c.backends {
		if f.Backend != b.name {
			continue
		}
		for _, s := range f.Servers {
			runs := b.server(s.Name)
			if drains := s.Weight == 0 && runs != nil && runs.Admin == plan.Drain; !s.Disabled && !drains {
				out = append(out, target{s.Addr, s.Weight, s.MaxConn, s.Backup})
			}
		}
	}
	return out
}

// filesAlike reports whether two files send requests to the same servers.
func (w *world) filesAlike(a, b content) bool {
	routes := func(c content, backend string) (out []target) {
		for _, f := range c.backends {
			for _, s := range f.Servers {
				if f.Backend == backend && !s.Disabled {
					out = append(out, target{s.Addr, s.Weight, s.MaxConn, s.Backup})
				}
			}
		}
		return out
	}
	for _, svc := range w.set.services {
		if targetsDiffer(routes(a, svc.Backend), routes(b, svc.Backend)) != "" {
			return false
		}
	}
	return a.marker == b.marker && maps.EqualFunc(a.maps, b.maps, slices.Equal[route.Table])
}

// isStrange reports whether another service's node answers at an address where
// this one has no instance any more: the guard may hold those that were there.
func (w *world) isStrange(svc plan.Service, told catalog.Service, at netip.AddrPort) bool {
	n := w.where[at]
	return n != nil && n.listening && n.service != svc.Name && !slices.ContainsFunc(told.Instances, func(i catalog.Instance) bool { return i.Addr == at })
}

// saysHeld reports whether the sidecar, if one runs, says that servers of a service
// wait for the guard. What else they may wait for comes to an end.
func (w *world) saysHeld(svc plan.Service) bool {
	return w.sidecar == nil || slices.ContainsFunc(w.sidecar.agent.State().Services, func(s reconcile.ServiceState) bool {
		return s.Name == svc.Name && slices.ContainsFunc(s.Instances, func(i reconcile.InstanceState) bool { return i.Waiting == string(plan.ForGuard) })
	})
}

// holdsAll reports whether the guard may hold the servers beyond the wanted ones:
// each is where something answers that no other server reaches. Where the agent, or a
// share of 0, keeps the other one out of traffic, the guard can't spare it.
func (w *world) holdsAll(svc plan.Service, got, want []target) bool {
	at := func(r target) func(target) bool {
		return func(x target) bool { return x.addr == r.addr && x.weight > 0 }
	}
	for _, r := range got {
		if n := w.where[r.addr]; n == nil || !n.listening {
			return false
		}
		if !hasAgents(svc) && count(got, at(r)) > max(1, count(want, at(r))) {
			return false
		}
	}
	return !slices.ContainsFunc(want, func(r target) bool { return !slices.Contains(got, r) })
}

func count(routes []target, is func(target) bool) (n int) {
	for _, r := range routes {
		if is(r) {
			n++
		}
	}
	return n
}

func isOwned(s plan.Server, told catalog.Service) bool {
	_, has := owner(s, told)
	return has
}

func rank(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

func targetsDiffer(a, b []target) string {
	sorted := func(r []target) []target {
		return slices.SortedFunc(slices.Values(r), func(x, y target) int {
			return cmp.Or(x.addr.Compare(y.addr), x.weight-y.weight, x.max-y.max, rank(x.backup)-rank(y.backup))
		})
	}
	if a, b := sorted(a), sorted(b); !slices.Equal(a, b) {
		return fmt.Sprintf("%v and %v", a, b)
	}
	return ""
}
