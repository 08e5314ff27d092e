package rollout

import (
	"cmp"
	"maps"
	"math/bits"
	"slices"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// maxWeight is HAProxy's largest (configuration manual, "weight").
const maxWeight = 256

// topWeight is what the server gets that gets most: what is rounded up beside it stays
// below maxWeight.
const topWeight = 255

// KeepWeight stands for the weight that an instance has by itself.
const KeepWeight = -1

// Weights returns a weight from 0 to 256, or KeepWeight, for each instance of a service,
// so that the versions get their shares of the traffic. It depends on its arguments
// only, so all load balancers with the same settings come to the same. It computes in
// whole numbers: floating point may differ between processors.
//
//   - Inside a version an instance's own weight is its relative weight. One with weight
//     0 keeps that. Backups keep theirs.
//   - Instances of a version that shares does not list get what they would get without
//     a rollout; the listed versions share the rest.
//   - The share of a version without instances goes to the others, by their shares.
//   - Where only versions with share 0 have instances, all keep their weights: an empty
//     backend would serve no request.
//   - Instances that Consul has as critical do not count while others of their version
//     are healthy. Where none is, all of them count: the guard may keep them in traffic.
//   - With more servers than weights can express, some of a version with a small share
//     get 0.
//
// isApplied is false where all keep their weights. warning says that an instance whose
// check warns takes traffic.
func Weights(shares map[string]int, instances []catalog.Instance, warning bool) (weights []int, isApplied bool) {
	weights = make([]int, len(instances))
	groups := groupsOf(shares, instances, warning)
	hasShare, hasUnlisted := false, false
	for _, g := range groups {
		hasShare = hasShare || g.share > 0 && len(g.members) > 0
		hasUnlisted = hasUnlisted || !g.isListed && len(g.members) > 0
	}
	for i := range weights {
		weights[i] = KeepWeight
	}
	if len(shares) == 0 || !hasShare && !hasUnlisted {
		return weights, false
	}
	for i := range instances {
		if share, isListed := shares[instances[i].Version]; isListed && share == 0 && !instances[i].Backup {
			weights[i] = 0
		}
	}
	if !hasShare {
		return weights, true // those of no listed version have all traffic
	}
	for _, g := range spread(groups) {
		for i, m := range g.members {
			weights[m.index] = g.weights[i]
		}
	}
	return weights, true
}

// group is the instances of one version that count; those of no listed version are one
// group, too.
type group struct {
	version  string
	isListed bool
	share    int // in percent, of a listed one
	members  []member
	own      int // the sum of their own weights
	top      int // the highest of them

	mass    uint64 // what part of the traffic it gets, in the same unit for all groups
	weights []int  // of members
}

type member struct {
	index int // in the instances
	own   int
	name  string
}

func groupsOf(shares map[string]int, instances []catalog.Instance, warning bool) []*group {
	by := map[string]*group{"": {}}
	for version, share := range shares {
		by[version] = &group{version: version, isListed: true, share: share}
	}
	healthy := map[*group]bool{}
	of := func(i *catalog.Instance) *group {
		if g := by[i.Version]; g != nil {
			return g
		}
		return by[""]
	}
	isHealthy := func(i *catalog.Instance) bool {
		return i.Health == catalog.Passing || warning && i.Health == catalog.Warning
	}
	counts := func(i *catalog.Instance) bool {
		return i.Leaving.IsZero() && i.Health != catalog.Maintenance && !i.Backup && i.Weight > 0
	}
	for n := range instances {
		if i := &instances[n]; counts(i) && isHealthy(i) {
			healthy[of(i)] = true
		}
	}
	for n := range instances {
		i := &instances[n]
		g := of(i)
		if !counts(i) || healthy[g] && !isHealthy(i) {
			continue
		}
		g.members = append(g.members, member{n, i.Weight, i.Server})
		g.own += i.Weight
		g.top = max(g.top, i.Weight)
	}
	groups := slices.Collect(maps.Values(by))
	slices.SortFunc(groups, func(x, y *group) int { return cmp.Compare(x.version, y.version) })
	return groups
}

// spread returns the groups that get traffic their weights.
func spread(groups []*group) []*group {
	all, unlisted, sum := 0, 0, 0
	for _, g := range groups {
		all += g.own
		if !g.isListed {
			unlisted += g.own
		} else if g.own > 0 {
			sum += g.share
		}
	}
	var active []*group
	for _, g := range groups {
		if g.isListed {
			g.mass = uint64(g.share) * uint64(all-unlisted)
		} else {
			g.mass = uint64(unlisted) * uint64(sum)
		}
		if g.mass > 0 && g.own > 0 {
			active = append(active, g)
		}
	}
	// The weights begin with the group of the server that gets most. So a change in
	// another group changes no weight of this one.
	first := slices.MaxFunc(active, func(x, y *group) int {
		return compareProducts(x.mass*uint64(x.top), uint64(y.own), y.mass*uint64(y.top), uint64(x.own))
	})
	base := (2*topWeight*first.own + first.top) / (2 * first.top)
	first.weights = first.divide(base)
	var others []*group
	var parts []uint64
	total := uint64(0)
	for _, g := range active {
		if g != first {
			others = append(others, g)
			parts = append(parts, g.mass)
			total += g.mass
		}
	}
	rest := int((2*uint64(base)*total + first.mass) / (2 * first.mass))
	for i, n := range apportion(rest, parts, func(a, b int) int { return cmp.Compare(others[a].version, others[b].version) }) {
		others[i].weights = others[i].divide(max(1, n))
	}
	return active
}

// divide shares a sum of weights among the members, by their own weights. Each gets at
// least 1 where that suffices.
func (g *group) divide(sum int) []int {
	parts, least := make([]uint64, len(g.members)), 0
	for i, m := range g.members {
		parts[i] = uint64(m.own)
	}
	if sum >= len(parts) {
		least = 1
	}
	out := apportion(sum-least*len(parts), parts, func(a, b int) int { return cmp.Compare(g.members[a].name, g.members[b].name) })
	for i := range out {
		out[i] = min(out[i]+least, maxWeight)
	}
	return out
}

// apportion shares n among parts by their size, by the method of the largest remainder
// (Hamilton's); order decides between equal remainders.
func apportion(n int, parts []uint64, order func(a, b int) int) []int {
	total := uint64(0)
	for _, p := range parts {
		total += p
	}
	out, left := make([]int, len(parts)), n
	rests, indices := make([]uint64, len(parts)), make([]int, len(parts))
	for i, p := range parts {
		high, low := bits.Mul64(uint64(n), p)
		whole, rest := bits.Div64(high, low, total)
		out[i], rests[i], indices[i] = int(whole), rest, i
		left -= int(whole)
	}
	slices.SortFunc(indices, func(a, b int) int { return cmp.Or(cmp.Compare(rests[b], rests[a]), order(a, b)) })
	for _, i := range indices[:left] {
		out[i]++
	}
	return out
}

// compareProducts compares a×b with c×d.
func compareProducts(a, b, c, d uint64) int {
	ah, al := bits.Mul64(a, b)
	ch, cl := bits.Mul64(c, d)
	return cmp.Or(cmp.Compare(ah, ch), cmp.Compare(al, cl))
}
