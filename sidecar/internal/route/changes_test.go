package route_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// haproxyMap is a map of HAProxy: commands change it, lookups see it in between.
type haproxyMap struct{ entries []route.Entry }

func (m *haproxyMap) find(key string) (values []string) {
	for _, e := range m.entries {
		if e.Key == key {
			values = append(values, e.Value)
		}
	}
	return values
}

// apply does what an Update says; between sees the map after each command that
// lookups can see.
func (m *haproxyMap) apply(u route.Update, want route.Table, between func()) {
	switch {
	case u.Replace:
		m.entries = slices.Clone(want)
		between()
	case len(u.Changes) == 1:
		c := u.Changes[0]
		switch c.Kind {
		case route.Add:
			m.entries = append(m.entries, route.Entry{Key: c.Key, Value: c.Value})
		case route.Set:
			for i := range m.entries {
				if m.entries[i].Key == c.Key {
					m.entries[i].Value = c.Value
				}
			}
		case route.Del:
			i := slices.IndexFunc(m.entries, func(e route.Entry) bool { return e.Key == c.Key }) // 3.4 deletes the first only
			m.entries = slices.Delete(m.entries, i, i+1)
		}
		between()
	}
}

func TestUpdateOf_AnyMap_ConvergesAtOnceAndNeverTakesAwayWhatIsWanted(t *testing.T) {
	key := rapid.Map(rapid.IntRange(0, 5), func(i int) string { return fmt.Sprintf("h%d/", i) })
	value := rapid.SampledFrom([]string{"a", "b", "c/1"})
	rapid.Check(t, func(t *rapid.T) {
		want := route.Map(rapid.MapOf(key, value).Draw(t, "want"))
		m := haproxyMap{rapid.SliceOfN(rapid.Custom(func(t *rapid.T) route.Entry {
			return route.Entry{Key: key.Draw(t, "key"), Value: value.Draw(t, "value")}
		}), 0, 8).Draw(t, "have")}
		before := slices.Clone(m.entries)
		table := want.Table()
		u := route.UpdateOf(m.entries, table)
		m.apply(u, table, func() {
			for k := range want {
				had := slices.ContainsFunc(before, func(e route.Entry) bool { return e.Key == k })
				if had && len(m.find(k)) == 0 {
					t.Errorf("%s has no value for a moment", k)
				}
			}
		})
		got := map[string]string{}
		for _, e := range m.entries {
			if _, twice := got[e.Key]; twice {
				t.Errorf("%s is there twice", e.Key)
			}
			got[e.Key] = e.Value
		}
		if !maps.Equal(got, map[string]string(want)) {
			t.Errorf("from %v to %v: got %v by %+v", before, want, got, u)
		}
		if again := route.UpdateOf(m.entries, table); len(again.Changes) > 0 || again.Replace {
			t.Errorf("again: %+v", again)
		}
	})
}
