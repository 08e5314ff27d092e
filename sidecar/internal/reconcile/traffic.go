package reconcile

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// recallTraffic takes from the file who took traffic, should HAProxy not run
// while the sidecar starts.
func (a *Agent) recallTraffic() {
	if content, err := a.file.Read(); err == nil {
		a.last = plan.ServersIn(string(content))
	}
}

// traffic is who takes traffic, by backend.
func (k *observedCache) traffic() map[string][]plan.FileServer {
	out := map[string][]plan.FileServer{}
	for name, b := range k.observed.Backends {
		for _, s := range b.Servers {
			if s.Admin == plan.Ready && s.Up && s.Weight > 0 && s.Addr.IsValid() {
				out[name] = append(out[name], plan.FileServer{Name: s.Name, Addr: s.Addr, Weight: s.Weight, MaxConn: s.MaxConn, Backup: s.Backup, AgentPort: s.AgentPort})
			}
		}
	}
	return out
}

// noteAnnounced remembers which addresses were left by an instance that had said so,
// also when Consul has forgotten it.
func (a *Agent) noteAnnounced(svc plan.Service, want catalog.Service) {
	if !want.Known {
		return
	}
	// Nearly always nothing is announced: then it costs no look at the map.
	was, is := a.announced[svc.Backend], map[netip.AddrPort]bool{}
	if len(was) > 0 {
		for _, s := range a.known.observed.Backends[svc.Backend].Servers {
			is[s.Addr] = was[s.Addr]
		}
		for _, f := range a.last[svc.Backend] {
			is[f.Addr] = was[f.Addr]
		}
	}
	for i := range want.Instances {
		inst := &want.Instances[i]
		if announced := !inst.Leaving.IsZero() || inst.Health == catalog.Maintenance; announced || len(is) > 0 {
			is[inst.Addr] = announced
		}
	}
	maps.DeleteFunc(is, func(_ netip.AddrPort, announced bool) bool { return !announced })
	if len(is) == 0 {
		delete(a.announced, svc.Backend)
		return
	}
	a.announced[svc.Backend] = is
}

// forgetAnnounced takes out of who last took traffic those that have said that
// they leave: once they are gone, that is no loss.
func (a *Agent) forgetAnnounced() {
	for _, s := range a.set.Services {
		if announced := a.announced[s.Backend]; len(announced) > 0 && len(a.last[s.Backend]) > 0 {
			a.last[s.Backend] = slices.DeleteFunc(a.last[s.Backend], func(f plan.FileServer) bool { return announced[f.Addr] })
		}
	}
}

// keepFiled adds who has come into the file of a HAProxy that does not run: it
// will take traffic, and is not lost with the next answer.
func (a *Agent) keepFiled(p plan.Plan) {
	if a.last == nil {
		a.last = map[string][]plan.FileServer{}
	}
	for _, b := range p.File {
		if b.Service == "" || !b.Known {
			continue
		}
		last := a.last[b.Backend]
		known := make(map[netip.AddrPort]bool, len(last))
		for _, f := range last {
			known[f.Addr] = true
		}
		added, moved := []plan.FileServer(nil), map[string]bool{}
		for _, f := range b.Servers {
			if f.Disabled || f.Weight == 0 || known[f.Addr] {
				continue
			}
			added = append(added, f)
			moved[f.Name] = !strings.HasPrefix(f.Name, catalog.SlotPrefix)
		}
		if len(added) > 0 {
			kept := slices.DeleteFunc(last, func(was plan.FileServer) bool { return moved[was.Name] })
			a.last[b.Backend] = append(kept, added...)
		}
	}
}
