package plan

import (
	"slices"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// damp keeps out the instances that flap: those that are not in traffic now,
// while enough others are. Damping takes no instance out of traffic.
func (b *backendPlan) damp(unassigned []*catalog.Instance) {
	if len(b.flapping) == 0 || b.available < max(1, b.MinServers) {
		return
	}
	b.damped = map[*catalog.Instance]bool{}
	for i := range b.servers {
		s, inst := &b.servers[i], b.bound[i]
		if inst != nil && s.Admin == Maint && b.flapping[inst.Server] && b.role(inst) == in {
			b.damped[inst] = true
			b.wait(s, inst, ForDamping)
		}
	}
	for _, inst := range unassigned {
		if b.flapping[inst.Server] && b.role(inst) == in && !b.takesTraffic(inst) {
			b.damped[inst] = true
			b.wait(nil, inst, ForDamping)
		}
	}
}

// takesTraffic reports whether a server that is not to stay the instance's sends
// it requests now: one that can't become a backup, or back.
func (b *backendPlan) takesTraffic(inst *catalog.Instance) bool {
	return slices.ContainsFunc(b.servers, func(s Server) bool { return s.Addr == inst.Addr && isAvailable(&s) })
}
