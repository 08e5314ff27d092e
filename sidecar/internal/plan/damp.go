package plan

import (
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// damp keeps out the instances that flap: those that are not in traffic now,
// while enough others are there to stay. Damping takes no instance out of traffic.
func (b *backendPlan) damp(unassigned []*catalog.Instance) {
	if len(b.flapping) == 0 || b.countServing() < max(1, b.MinServers) {
		return
	}
	b.damped = map[*catalog.Instance]bool{}
	for i := range b.servers {
		s, inst := &b.servers[i], b.bound[i]
		if inst != nil && s.Admin == Maint && b.flapping[inst.Server] && b.role(inst) == in && !b.takesTraffic(inst) {
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
// requests now, to it or to where it was: one that can't become a backup, or back, or
// be moved. It would be drained as one that nothing needs.
func (b *backendPlan) takesTraffic(inst *catalog.Instance) bool {
	for i := range b.servers {
		s := &b.servers[i]
		if b.bound[i] == nil && isAvailable(s) && (s.Addr == inst.Addr || s.Name == inst.Server || s.Name == formerly(inst)) {
			return true
		}
	}
	return false
}
