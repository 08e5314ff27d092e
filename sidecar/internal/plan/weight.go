package plan

import (
	"cmp"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// fixesWeight reports whether a runtime command can set the weight of a server
// to nothing but 0 % or 100 % of the configured one: under a static balance
// algorithm HAProxy refuses all others, and an agent check answers in
// percentages of it.
func (b *backendPlan) fixesWeight(s *Server) bool { return b.Static || s.Agent != NoAgent }

// weigh brings the weight of a server to that of its instance. A configured
// weight that cannot be changed at runtime takes a reload.
func (b *backendPlan) weigh(s *Server, inst *catalog.Instance) {
	fixed := b.fixesWeight(s)
	if fixed && inst.Weight > 0 && s.ConfigWeight != inst.Weight && b.replaced[s.Name] == nil {
		b.reweighed = true // one that is replaced goes, and its weight with it
	}
	switch {
	case inst.Weight == 0 && isAvailable(s):
		// No weight is no traffic: taken out like any other.
		b.candidates = append(b.candidates, candidate{server: s, instance: inst, reason: Reweighted, to: SetWeight, isMeant: inst.ByShare})
		return
	case inst.Weight == 0 && s.Weight == 0 && s.Agent == AgentOn:
		b.removals = append(b.removals, b.step(DisableAgent, Reweighted, s, inst))
		return
	case fixed && inst.Weight > 0 && (s.Weight > 0 || s.Agent == AgentOn || s.ConfigWeight == 0):
		return // as configured, or as its agent says
	case s.Weight == inst.Weight:
		return
	}
	st := b.step(SetWeight, Reweighted, s, inst)
	if b.drifted(s, func(l FileServer) bool { return l.Weight == inst.Weight }) {
		st.Reason = Drift
	}
	st.Weight = inst.Weight
	if st.Percent && inst.Weight > 0 {
		st.Weight = 100
	}
	b.additions = append(b.additions, st)
}

// orderWeights puts the weights of a rollout in an order in which the version with the
// smaller share never gets more than before or after: what rises, the highest first;
// what falls, the lowest first. HAProxy serves between two commands.
func (b *backendPlan) orderWeights() {
	was := make(map[string]int, len(b.servers))
	for i, inst := range b.bound {
		if inst != nil && inst.ByShare && b.servers[i].Admin == Ready { // of others it is set before they are
			was[b.servers[i].Name] = b.servers[i].Weight
		}
	}
	if len(was) == 0 {
		return
	}
	var at []int
	var steps []Step
	for i, st := range b.additions {
		if _, has := was[st.Server]; has && st.Kind == SetWeight {
			at, steps = append(at, i), append(steps, st)
		}
	}
	slices.SortStableFunc(steps, func(x, y Step) int {
		from, other := was[x.Server], was[y.Server]
		rises, otherRises := x.Weight > from, y.Weight > other
		switch {
		case rises && otherRises:
			return cmp.Compare(y.Weight, x.Weight)
		case rises:
			return 1
		case otherRises:
			return -1
		}
		return cmp.Compare(from, other)
	})
	for n, i := range at {
		b.additions[i] = steps[n]
	}
}

// limit is the connection limit of an instance's server; 0 is none.
func (s Service) limit(inst *catalog.Instance) int {
	if inst.MaxConn > 0 {
		return inst.MaxConn
	}
	return s.MaxConn
}

func words(s string) []string { return strings.Fields(s) }
