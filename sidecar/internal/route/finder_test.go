package route_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// Property: whatever services say, one after the other, a Finder gives what Discover gives.
func TestFinder_AnyHistory_GivesWhatDiscoverGives(t *testing.T) {
	type whole route.Found // without Equal
	rules := discoverRules()
	second := rules.Frontends[0]
	second.Name, second.TagPrefix, second.Settings = "intern", "intern=", nil
	rules.Frontends = append(rules.Frontends, second)
	var texts []string
	for _, prefix := range []string{"route=", "intern=", "urlprefix-"} {
		for k := range 6 {
			texts = append(texts, fmt.Sprintf("%sh%d.test/", prefix, k))
		}
	}
	texts = append(texts, "route=h0.test/ strip", "route=h1.test/x strip", "route=a.test/", "route=set.test/", "profile:slow", "profile:other", "route=\n")
	text := rapid.SampledFrom(texts)
	services := []string{"own", "raw", "taken"}
	for k := range 16 {
		services = append(services, fmt.Sprintf("svc-%c", 'a'+k))
	}
	rapid.Check(t, func(t *rapid.T) {
		var finder route.Finder
		said := map[string]route.Candidate{}
		draw := func(s string) {
			c := says(s, rapid.Uint64Range(1, 9).Draw(t, "since"), rapid.SliceOfN(text, 0, 3).Draw(t, "texts")...)
			c.Known = rapid.IntRange(0, 9).Draw(t, "known") > 0
			if said[s] = c; rapid.IntRange(0, 9).Draw(t, "gone") == 0 {
				delete(said, s)
			}
		}
		for _, s := range services {
			draw(s)
		}
		found, at := route.Found{}, noon
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			for range rapid.IntRange(0, 2).Draw(t, "changes") {
				draw(rapid.SampledFrom(services).Draw(t, "service"))
			}
			at = at.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second)
			settled := rapid.IntRange(0, 9).Draw(t, "settled") > 0
			candidates := slices.Collect(maps.Values(said))
			want, problems := route.Discover(rules, at, settled, found, candidates)
			got, told := finder.Find(rules, at, settled, found, candidates)
			if diff := cmp.Diff(whole(want), whole(got), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("found (-by Discover +by the Finder):\n%s", diff)
			}
			byText := cmpopts.SortSlices(func(a, b route.Problem) bool { return fmt.Sprint(a) < fmt.Sprint(b) })
			if diff := cmp.Diff(problems, told, cmpopts.EquateEmpty(), byText); diff != "" {
				t.Fatalf("problems (-by Discover +by the Finder):\n%s", diff)
			}
			if rapid.IntRange(0, 9).Draw(t, "other") == 0 && len(got.Routes) > 0 { // something else changes it
				got.Routes = slices.Clone(got.Routes[1:])
			}
			found = got.After(found, at)
		}
	})
}

// A change of one service costs a look at that service, and at those that claim its routes.
func TestFinder_OneServiceSaysMore_LooksAtThoseConcerned(t *testing.T) {
	rules := discoverRules()
	looked := map[string]bool{}
	refuse := rules.Refuse
	rules.Refuse = func(s string) error { looked[s] = true; return refuse(s) }
	var said []route.Candidate
	for k := range 40 {
		said = append(said, says(fmt.Sprintf("svc-%d", k), 1, fmt.Sprintf("route=h%d.test", k)))
	}
	said[7].Claims = append(said[7].Claims, route.Claim{Text: "route=h8.test", Since: 1})
	var finder route.Finder
	found, _ := finder.Find(rules, noon, true, route.Found{}, said)
	for change, want := range map[int][]string{3: {"svc-3"}, 8: {"svc-7", "svc-8"}} {
		clear(looked)
		said[change] = says(fmt.Sprintf("svc-%d", change), 1, fmt.Sprintf("route=h%d.test", change), fmt.Sprintf("route=more%d.test", change))
		found, _ = finder.Find(rules, noon, true, found, said)
		if got := slices.Sorted(maps.Keys(looked)); !slices.Equal(got, want) {
			t.Errorf("svc-%d says more: looked at %v, want %v", change, got, want)
		}
	}
	clear(looked)
	found, _ = finder.Find(rules, noon, true, found, said)
	if len(looked) > 0 || len(found.Routes) != 42 {
		t.Errorf("nothing has changed: looked at %v, %d routes", looked, len(found.Routes))
	}
}

// What a look costs where one service of 1,000 says something else, beside a look at all.
func BenchmarkFinder_OneOf1000Services(b *testing.B) {
	rules := discoverRules()
	rules.MaxServices, rules.MaxRoutes = 1000, 100
	said := make([]route.Candidate, 1000)
	claims := func(k int, path string) route.Candidate {
		var texts []string
		for n := range 10 {
			texts = append(texts, fmt.Sprintf("route=h%d-%d.test%s", k, n, path))
		}
		return says(fmt.Sprintf("svc-%d", k), 1, texts...)
	}
	for k := range said {
		said[k] = claims(k, "")
	}
	b.Run("one", func(b *testing.B) {
		var finder route.Finder
		found, _ := finder.Find(rules, noon, true, route.Found{}, said)
		for n := 0; b.Loop(); n++ {
			said[7] = claims(7, []string{"/x", ""}[n%2])
			found, _ = finder.Find(rules, noon, true, found, said)
		}
	})
	b.Run("all", func(b *testing.B) {
		found, _ := route.Discover(rules, noon, true, route.Found{}, said)
		for n := 0; b.Loop(); n++ {
			said[7] = claims(7, []string{"/x", ""}[n%2])
			found, _ = route.Discover(rules, noon, true, found, said)
		}
	})
}
