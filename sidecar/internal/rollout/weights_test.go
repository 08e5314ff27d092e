package rollout

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

func fleet(sizes map[string]int) (out []catalog.Instance) {
	for version, n := range sizes {
		for i := range n {
			out = append(out, catalog.Instance{Server: fmt.Sprintf("%s-%d", version, i), Version: version, Weight: 1})
		}
	}
	slices.SortFunc(out, func(x, y catalog.Instance) int {
		if x.Server < y.Server {
			return -1
		}
		return 1
	})
	return out
}

// part returns the percentage of the weight that a version gets, of those that take traffic.
func part(instances []catalog.Instance, weights []int, version string) float64 {
	sum, all := 0, 0
	for i, inst := range instances {
		w := weights[i]
		if w == KeepWeight {
			w = inst.Weight
		}
		if inst.Health != catalog.Passing || !inst.Leaving.IsZero() || inst.Backup {
			continue
		}
		all += w
		if inst.Version == version {
			sum += w
		}
	}
	return 100 * float64(sum) / float64(max(1, all))
}

func TestWeights_ByCase(t *testing.T) {
	change := func(instances []catalog.Instance, version string, f func(*catalog.Instance)) []catalog.Instance {
		for i := range instances {
			if instances[i].Version == version {
				f(&instances[i])
			}
		}
		return instances
	}
	critical := func(i *catalog.Instance) { i.Health = catalog.Critical }
	leaving := func(i *catalog.Instance) { i.Leaving = time.Unix(1, 0) }
	one := func(version string, f func(*catalog.Instance)) func(*catalog.Instance) {
		return func(i *catalog.Instance) {
			if i.Server == version+"-0" {
				f(i)
			}
		}
	}
	canary := map[string]int{"1.0": 95, "1.1": 5}
	for _, c := range []struct {
		name      string
		shares    map[string]int
		instances []catalog.Instance
		want      map[string]int // the weight of the first server of each version
		applied   bool
	}{
		{"nine and one", canary, fleet(map[string]int{"1.0": 9, "1.1": 1}), map[string]int{"1.0": 255, "1.1": 121}, true},
		{"five and five", canary, fleet(map[string]int{"1.0": 5, "1.1": 5}), map[string]int{"1.0": 255, "1.1": 14}, true},
		{"all to one", map[string]int{"1.0": 0, "1.1": 100}, fleet(map[string]int{"1.0": 9, "1.1": 1}), map[string]int{"1.0": 0, "1.1": 255}, true},
		{"a version without instances", canary, fleet(map[string]int{"1.0": 9}), map[string]int{"1.0": 255}, true},
		{"no version with a share has instances", map[string]int{"1.0": 0, "1.1": 100}, fleet(map[string]int{"1.0": 9}), map[string]int{"1.0": KeepWeight}, false},
		{"an unlisted version alone, no traffic for one with 0", map[string]int{"1.0": 100, "1.1": 0}, fleet(map[string]int{"1.1": 1, "1.2": 2}), map[string]int{"1.1": 0, "1.2": KeepWeight}, true},
		{"an unlisted version that leaves", map[string]int{"1.0": 100, "1.1": 0}, change(fleet(map[string]int{"1.1": 1, "1.2": 2}), "1.2", leaving), map[string]int{"1.1": KeepWeight, "1.2": KeepWeight}, false},
		{"no instance", canary, nil, nil, false},
		{"an unlisted version has its usual part", map[string]int{"1.0": 50, "1.1": 50}, fleet(map[string]int{"1.0": 4, "1.1": 4, "2.0": 2}), map[string]int{"1.0": 255, "1.1": 255, "2.0": 255}, true},
		{"a critical one does not count", canary, change(fleet(map[string]int{"1.0": 3, "1.1": 1}), "1.0", one("1.0", critical)), map[string]int{"1.0": KeepWeight, "1.1": 27}, true},
		{"of a version with critical ones only all count", canary, change(fleet(map[string]int{"1.0": 9, "1.1": 1}), "1.0", critical), map[string]int{"1.0": 255, "1.1": 121}, true},
		{"one that leaves does not count", canary, change(fleet(map[string]int{"1.0": 3, "1.1": 1}), "1.0", one("1.0", leaving)), map[string]int{"1.0": KeepWeight, "1.1": 27}, true},
		{"a backup keeps its weight", canary, change(fleet(map[string]int{"1.0": 3, "1.1": 1}), "1.0", one("1.0", func(i *catalog.Instance) { i.Backup = true })), map[string]int{"1.0": KeepWeight, "1.1": 27}, true},
		{"a weight of 0 stays", canary, change(fleet(map[string]int{"1.0": 3, "1.1": 1}), "1.0", one("1.0", func(i *catalog.Instance) { i.Weight = 0 })), map[string]int{"1.0": KeepWeight, "1.1": 27}, true},
		{"own weights are relative in the version", map[string]int{"1.0": 50, "1.1": 50}, change(fleet(map[string]int{"1.0": 2, "1.1": 2}), "1.0", one("1.0", func(i *catalog.Instance) { i.Weight = 3 })), map[string]int{"1.0": 255, "1.1": 170}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			weights, isApplied := Weights(c.shares, c.instances, false)
			if isApplied != c.applied {
				t.Errorf("applied: %v, want %v", isApplied, c.applied)
			}
			for i, inst := range c.instances {
				if want, has := c.want[inst.Version]; has && inst.Server == inst.Version+"-0" && weights[i] != want {
					t.Errorf("%s has weight %d, want %d of %v", inst.Server, weights[i], want, weights)
				}
			}
		})
	}
}

// On every fleet: weights in HAProxy's bounds, the same whatever the order, each share
// within 1 point where at least 10 servers take traffic.
func TestWeights_AnyFleet_SharesWithinOnePoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		versions := rapid.IntRange(1, 6).Draw(t, "versions")
		shares, left := map[string]int{}, 100
		for v := range versions {
			n := left
			if v < versions-1 {
				n = rapid.IntRange(0, left).Draw(t, "share")
			}
			shares[fmt.Sprint("v", v)], left = n, left-n
		}
		var instances []catalog.Instance
		add := func(version string, n int) {
			evenly := rapid.Bool().Draw(t, "evenly")
			for i := range n {
				inst := catalog.Instance{Server: fmt.Sprintf("%s-%d", version, i), Version: version, Weight: 1}
				if !evenly {
					inst.Weight = rapid.IntRange(0, 256).Draw(t, "weight")
					inst.Health = catalog.Health(rapid.SampledFrom([]catalog.Health{catalog.Passing, catalog.Passing, catalog.Passing, catalog.Critical}).Draw(t, "health"))
				}
				instances = append(instances, inst)
			}
		}
		for v := range versions {
			add(fmt.Sprint("v", v), rapid.SampledFrom([]int{0, 1, 2, 5, 9, 40, 300}).Draw(t, "instances"))
		}
		add("unlisted", rapid.SampledFrom([]int{0, 0, 1, 7}).Draw(t, "instances"))
		weights, isApplied := Weights(shares, instances, false)

		counted := map[string]int{} // own weight by version
		taking, all := 0, 0
		healthy := map[string]bool{}
		for _, i := range instances {
			healthy[i.Version] = healthy[i.Version] || i.Health == catalog.Passing && i.Weight > 0
		}
		for n, i := range instances {
			if w := weights[n]; w != KeepWeight && (w < 0 || w > maxWeight) {
				t.Fatalf("%s has weight %d", i.Server, w)
			}
			if share, listed := shares[i.Version]; listed && share == 0 && isApplied && weights[n] != 0 {
				t.Fatalf("%s of a version without a share has weight %d", i.Server, weights[n])
			}
			if i.Health == catalog.Passing && i.Weight > 0 {
				counted[i.Version] += i.Weight
				all += i.Weight
				if weights[n] > 0 {
					taking++
				}
			}
			if i.Health != catalog.Passing && !healthy[i.Version] && i.Weight > 0 {
				return // such a version's critical ones count; its case is in the table
			}
		}
		shuffled := slices.Clone(instances)
		order := rand.New(rand.NewPCG(1, 2)).Perm(len(instances))
		for to, from := range order {
			shuffled[to] = instances[from]
		}
		again, _ := Weights(shares, shuffled, false)
		for to, from := range order {
			if again[to] != weights[from] {
				t.Fatalf("%s has weight %d, in another order %d", instances[from].Server, weights[from], again[to])
			}
		}
		sum := 0
		for version, share := range shares {
			if counted[version] > 0 {
				sum += share
			}
		}
		if !isApplied {
			if counted["unlisted"] > 0 {
				t.Fatal("not applied beside an unlisted version")
			}
			if sum > 0 {
				t.Fatalf("not applied, though versions with %d %% have instances", sum)
			}
			return
		}
		if taking < 10 {
			return
		}
		if sum == 0 {
			return // all have 0
		}
		rest := 100 - 100*float64(counted["unlisted"])/float64(all)
		for version, share := range shares {
			want := 0.0
			if counted[version] > 0 {
				want = rest * float64(share) / float64(sum)
			}
			if got := part(instances, weights, version); math.Abs(got-want) > 1 {
				t.Fatalf("%s gets %.2f %%, want %.2f, of %v", version, got, want, shares)
			}
		}
	})
}

func BenchmarkWeights(b *testing.B) {
	instances := fleet(map[string]int{"1.0": 9000, "1.1": 1000})
	for b.Loop() {
		Weights(map[string]int{"1.0": 95, "1.1": 5}, instances, false)
	}
}
