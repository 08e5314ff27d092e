package plan

import (
	"cmp"
	"slices"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// drainForOperator notes the instances that an operator keeps in drain. As many of
// them as the service needs to have its MinServers, and at least one, take traffic all
// the same, and wait: the last that were to drain.
func (b *backendPlan) drainForOperator(held map[string]int) {
	if len(held) == 0 {
		return
	}
	b.drained = make(map[*catalog.Instance]bool, len(held))
	var kept []*catalog.Instance
	others := 0
	for n := range b.want.Instances {
		inst := &b.want.Instances[n]
		switch {
		case b.role(inst) != in || inst.Weight == 0:
		case held[inst.Server] > 0:
			kept = append(kept, inst)
		default:
			others++
		}
		b.drained[inst] = held[inst.Server] > 0
	}
	slices.SortFunc(kept, func(x, y *catalog.Instance) int { return cmp.Compare(held[y.Server], held[x.Server]) })
	needed := max(1, b.MinServers) - others
	for _, inst := range kept[:min(len(kept), max(0, needed))] {
		b.drained[inst] = false
		b.needed = append(b.needed, inst)
	}
}

// waitForOthers says which instances would drain if the service did not need them.
func (b *backendPlan) waitForOthers() {
	for _, inst := range b.needed {
		var s *Server
		for i, bound := range b.bound {
			if bound == inst {
				s = &b.servers[i]
			}
		}
		b.wait(s, inst, ForReplacement)
		b.waiting[len(b.waiting)-1].Stays = s != nil
	}
}
