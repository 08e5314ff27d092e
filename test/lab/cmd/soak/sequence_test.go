package main

import (
	"slices"
	"strings"
	"testing"
)

// told is the beginning of a sequence, as it is logged.
func told(seed uint64, count int) (all []string) {
	s := newSequence(seed, kinds(true))
	for range count {
		f := s.next()
		all = append(all, f.pause.String()+" "+f.describe())
	}
	return all
}

func TestTheSameSeedHasTheSameFaultsInTheSameOrder(t *testing.T) {
	if one, again := told(7, 500), told(7, 500); !slices.Equal(one, again) {
		t.Error("two sequences of one seed differ")
	}
	if one, other := told(7, 500), told(8, 500); slices.Equal(one, other) {
		t.Error("the sequences of two seeds are the same")
	}
}

func TestEveryKindComesOnceInARound(t *testing.T) {
	all := kinds(true)
	s := newSequence(3, all)
	for round := range 3 {
		seen := map[string]int{}
		for range all {
			f := s.next()
			seen[f.kind.name]++
			if f.length < f.kind.least || f.length > f.kind.most {
				t.Errorf("%s: %s is not within %s and %s", f.kind.name, f.length, f.kind.least, f.kind.most)
			}
		}
		for _, k := range all {
			if seen[k.name] != 1 {
				t.Errorf("round %d: %s came %d times, want once", round, k.name, seen[k.name])
			}
		}
	}
}

// What a fault takes has to be there, or it would wait for ever.
func TestEveryFaultTakesWhatThereIs(t *testing.T) {
	s := newSequence(5, kinds(true))
	for range 2000 {
		f := s.next()
		there := supply()
		for _, n := range f.kind.needs(f) {
			if there[n]--; there[n] < 0 {
				t.Fatalf("%s takes %s, of which there are %d", f.describe(), n, supply()[n])
			}
		}
	}
}

func TestNodesOfAServiceAreOutInAMinorityOnly(t *testing.T) {
	for _, f := range fleets {
		if got := supply()[out(f.service)]; got < 1 || 2*got >= f.nodes {
			t.Errorf("%s: %d of %d nodes may be out, want a minority", f.service, got, f.nodes)
		}
	}
	s := newSequence(5, kinds(true))
	for range 200 {
		f := s.next()
		needs := f.kind.needs(f)
		if strings.HasPrefix(f.kind.name, "node ") && !slices.Contains(needs, out(fleets[f.service].service)) {
			t.Errorf("%s takes %v: a node is out, and is not counted", f.kind.name, needs)
		}
	}
}
