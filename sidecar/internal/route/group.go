package route

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// Group is the routes of one host and path, where one of them has conditions.
// HAProxy finds the group in the map and chooses among the routes by rules of
// haproxy.cfg.
type Group struct {
	Key    string
	Routes []Route // in their order; the one without conditions, if there is one, is the last
}

// Value is what the map has for the group's key. Another group has another one:
// a worker must not take one for the other while its rules are older than the map.
func (g Group) Value() string {
	h := sha256.New()
	for _, r := range g.Routes {
		fmt.Fprintf(h, "%q %q %q %q\n", r.Key(), r.Value(), r.Methods, r.Headers)
	}
	return GroupPrefix + hex.EncodeToString(h.Sum(nil))[:12]
}

// GroupPrefix begins the value of a group. No backend's name begins so.
const GroupPrefix = "?"

// Groups returns the groups of some routes, as Compile does.
func Groups(routes []Route) []Group {
	if !slices.ContainsFunc(routes, Route.IsConditional) { // nearly always, and there may be many
		return nil
	}
	_, groups := Compile(routes)
	return groups
}

// Compile returns the map of some routes, and the groups that it names. Of two
// routes for the same requests the first counts.
func Compile(routes []Route) (Map, []Group) {
	m := make(Map, len(routes))
	byKey := map[string][]Route{}
	var order []string
	for _, r := range routes {
		if r.IsConditional() {
			if len(byKey[r.Key()]) == 0 {
				order = append(order, r.Key())
			}
			byKey[r.Key()] = append(byKey[r.Key()], r)
		}
	}
	last := map[string]Route{} // of the groups
	for _, r := range routes {
		if r.IsConditional() {
			continue
		}
		key := r.Key()
		if _, again := m[key]; again {
			continue
		}
		if m[key] = r.Value(); byKey[key] != nil {
			last[key] = r
		}
	}
	slices.Sort(order) // so that another order of the routes gives the same rules
	groups := make([]Group, 0, len(order))
	for _, key := range order {
		g := Group{Key: key, Routes: byKey[key]}
		if r, found := last[key]; found {
			g.Routes = append(g.Routes, r)
		}
		groups = append(groups, g)
		m[key] = g.Value()
	}
	return m, groups
}
