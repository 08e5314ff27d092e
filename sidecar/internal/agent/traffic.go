package agent

import (
	"slices"

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
func (k *knowledge) traffic() map[string][]plan.FileServer {
	out := map[string][]plan.FileServer{}
	for name, b := range k.observed.Backends {
		for _, s := range b.Servers {
			if s.Admin == plan.Ready && s.Up && s.Weight > 0 && s.Addr.IsValid() {
				out[name] = append(out[name], plan.FileServer{Name: s.Name, Addr: s.Addr, Weight: s.Weight, MaxConn: s.MaxConn, Backup: s.Backup})
			}
		}
	}
	return out
}

// forgetAnnounced takes out of who last took traffic those that have said
// since that they leave: once they are gone, nobody has lost them.
func (a *Agent) forgetAnnounced(snap catalog.Snapshot) {
	for _, s := range a.set.Services {
		last := a.last[s.Backend]
		if len(last) == 0 {
			continue
		}
		for _, inst := range snap.Service(s.Name).Instances {
			if inst.Leaving.IsZero() && inst.Health != catalog.Maintenance {
				continue
			}
			last = slices.DeleteFunc(last, func(f plan.FileServer) bool { return f.Addr == inst.Addr })
		}
		a.last[s.Backend] = last
	}
}
